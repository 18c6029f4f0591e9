"""Which pictures the built binary scores as the reference pipeline does.

Decoded and stretched by the server, about one value in a thousand is a level off from Pillow's. Where a
network is undecided that can move a score by more than the tolerance: such a picture says nothing about a
server, and is no golden sample. What is asked is the bare model: no golden samples, so no verdicts.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from training.judge.decision import SCORE_TOLERANCE
from training.judge.served import predict, scores_of

# Of the tolerance: what is left is for other machines.
AGREEMENT_SHARE = 0.3
NAME = "bare"


def agreeing(package: Path, pictures: list[bytes], expected: list[np.ndarray]) -> list[bool]:
    """Whether the binary's scores are those expected; `package` holds model.onnx and package.toml."""
    if not pictures:
        return []
    with tempfile.TemporaryDirectory() as temporary:
        version = Path(temporary) / "models" / NAME / "1"
        version.mkdir(parents=True)
        for name in ("model.onnx", "package.toml"):
            shutil.copyfile(package / name, version / name)
        files = [Path(temporary) / f"{number:03d}" for number in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            file.write_bytes(picture)
        scores = [scores_of(line) for line in predict(version.parent.parent, NAME, [str(it) for it in files])]
    limit = AGREEMENT_SHARE * SCORE_TOLERANCE
    return [
        it is not None and bool(np.abs(np.array(it) - by).max() <= limit)
        for it, by in zip(scores, expected, strict=True)
    ]
