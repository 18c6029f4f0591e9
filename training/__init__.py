"""Trains, exports and packages the synthetic vial classifier."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / "training" / ".work"
DATA = WORK / "data"
CHECKPOINT = WORK / "checkpoint.pt"
ONNX = WORK / "model.onnx"
EVALUATION = WORK / "evaluation.json"
