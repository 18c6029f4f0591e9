"""One picture of the set, as the metadata tells it: a line of DATA/<split>.jsonl."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training import APPROVE, DATA

# Splits a network learns from; their pictures are kept at input size, in <split>.images.npy.
CACHED = ("train", "hidden", "validation")
# Splits that are judged through the server; their pictures are kept as files.
JUDGED = ("calibration", "test", "sizes", "robustness")
# Splits that there are of rendered pictures only: it must be known where a defect lies, or how large it is.
RENDERED = ("hidden", "sizes")


@dataclass(frozen=True)
class Defect:
    """Lengths and places in pixels of the picture; contrast in 8-bit levels, its mean over the mask."""

    kind: str
    extent_px: float
    contrast: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class Row:
    split: str
    index: int
    label: str
    # Of the file's bytes.
    sha256: str
    # Relative to DATA, or absolute for photographs; None where the picture is kept only as input.
    path: str | None
    # What may look alike: no lot is in two of train, validation, calibration and test.
    lot: str | None = None
    # Of photographs these are whatever the manifest says, or None.
    fill_level: float | None = None
    lamp: str | None = None
    vial_size: str | None = None
    confusers: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    # How the picture differs from the one it was made of, such as {"of": 12, "kind": "blur", "level": 2.0}.
    variant: dict | None = None

    @property
    def flawed(self) -> bool:
        return self.label != APPROVE

    @property
    def extent_px(self) -> float:
        """Of the largest defect; 0 where none is known."""
        return max((defect.extent_px for defect in self.defects), default=0.0)


def read(split: str, folder: Path = DATA) -> list[Row]:
    with open(folder / f"{split}.jsonl") as lines:
        return [row_of(json.loads(line)) for line in lines]


def row_of(values: dict) -> Row:
    defects = [Defect(**{**it, "centre": tuple(it["centre"])}) for it in values.pop("defects")]
    return Row(**values, defects=defects)


def write(split: str, rows: Iterable[Row], folder: Path = DATA) -> None:
    """Whole or not at all: an interrupted write leaves the file that was."""
    unfinished = folder / f"{split}.jsonl.part"
    with open(unfinished, "w") as lines:
        lines.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    unfinished.rename(folder / f"{split}.jsonl")
