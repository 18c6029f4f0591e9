"""The pipeline that makes a version of models/vial-defect; dvc.yaml names its stages."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TRAINING = REPOSITORY / "training"
WORK = TRAINING / ".work"
DATA = WORK / "data"
# One folder a candidate: its checkpoint, its ONNX file, its calibration and its evaluation.
CANDIDATES = WORK / "candidates"
# One model repository a candidate, as `linesight predict --models` takes it: before its thresholds
# are set, and after.
PROVISIONAL = WORK / "provisional"
STAGED = WORK / "staged"
LABELS = ("good", "particle", "chips_cracks")
APPROVE = "good"
# Of every JPEG that is written, but where the quality is what is varied.
JPEG_QUALITY = 90
