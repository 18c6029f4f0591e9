"""Chooses and records golden samples: pictures, reference tensors, expected answers.

All pictures come from the calibration split, as the thresholds do; the test split stays untouched.
Each slot names what its picture must show and how it is stored. The first picture that shows it and
is judged rightly fills it. It must be clear of every threshold, and the binary must score it as the
reference pipeline does. Where there is none, another takes its place and its note says so;
a flawed vial that is approved is never recorded.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import PIL
from PIL import Image

from training import APPROVE, LABELS
from training.judge.decision import SCORE_TOLERANCE, SMALLEST_SCORE, Policy
from training.network.export import session
from training.package.agreement import agreeing
from training.package.golden_slots import SAMPLE_SLOTS, SLOTS, Slot, as_it_is, as_jpeg, upright
from training.package.pixels import declared, input_array, to_input
from training.preprocess import normalised
from training.rows import Row

SCHEMA = "linesight.golden/1"
# Distance of every sample from every threshold, in log-odds: at 0.5 it is 0.06 of a score. Log-odds,
# since close to 1, where `approve_at` may lie, a distance in scores would leave no room.
MARGIN = 0.25
# So many pictures are tried for a slot, and so many of each class are looked at for borderline ones.
TRIES = 24
POOL = 80
# The binary is asked about so many at once.
CHUNK = 6


@dataclass(frozen=True)
class Judge:
    """The reference pipeline with the model and the thresholds of a package, and the binary beside it."""

    package: Path
    runtime: onnxruntime.InferenceSession
    policy: Policy
    # How the package declares that JPEG is decoded.
    decode: str

    @classmethod
    def load(cls, package: Path, policy: Policy) -> "Judge":
        """As the server asks golden samples: on the CPU, one thread."""
        return cls(package, session(package / "model.onnx"), policy, declared(package))

    def judge(self, image_bytes: bytes) -> "Judged":
        scores = self.scores(input_array(image_bytes, self.decode))
        return Judged(scores, self.policy.verdict(scores), clearance(self.policy, scores))

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        return self.policy.scores(self.runtime.run(["logits"], {"image": normalised(pixels[None])})[0][0])

    def agreed(self, looked: "list[Looked]") -> "list[Looked]":
        """Those that the binary scores alike."""
        alike = agreeing(self.package, [it.stored for it in looked], [it.judged.scores for it in looked])
        return [it for it, is_alike in zip(looked, alike, strict=True) if is_alike]


@dataclass(frozen=True)
class Judged:
    scores: np.ndarray
    verdict: dict
    # Distance from the nearest threshold, in log-odds.
    clearance: float

    def right(self, truth: str) -> bool:
        expected = ("approve", None) if truth == APPROVE else ("reject", truth)
        return (self.verdict["decision"], self.verdict["class"]) == expected


@dataclass(frozen=True)
class Looked:
    """A picture as it would be stored, and how it is judged."""

    row: Row
    stored: bytes
    judged: Judged
    note: str

    def fits(self) -> bool:
        """Whether it may be recorded, whatever it is judged to be, if the binary agrees."""
        false_approval = self.row.flawed and self.judged.verdict["decision"] == "approve"
        return self.judged.clearance >= MARGIN and not false_approval


@dataclass(frozen=True)
class Sample:
    """A golden picture that was found."""

    name: str
    looked: Looked


def clearance(policy: Policy, scores: np.ndarray) -> float:
    """How far the scores are from the nearest threshold, in log-odds of the score it is held against."""

    def log_odds(index: int) -> float:
        # Not 1 - score, which has no digits left where it matters.
        others = np.delete(scores, index).sum()
        return float(np.log(max(scores[index], SMALLEST_SCORE)) - np.log(max(others, SMALLEST_SCORE)))

    def threshold(value: float) -> float:
        return float(np.log(value) - np.log1p(-value)) if value < 1 else np.inf

    good = LABELS.index(APPROVE)
    worst = max((index for index in range(len(LABELS)) if index != good), key=lambda index: scores[index])
    return min(
        abs(log_odds(good) - threshold(policy.approve_at + SCORE_TOLERANCE)),
        abs(log_odds(worst) - threshold(policy.reject_at)),
    )


class Choice:
    """Golden samples as they are found; no picture is taken twice."""

    def __init__(self, judge: Judge, rows: list[Row], data: Path) -> None:
        self.judge, self.rows, self.data = judge, rows, data
        self.samples: list[Sample] = []
        self.taken: set[int] = set()

    def fill(self, slot: Slot, kept: int | None = None) -> bool:
        """Fills the slot if anything can; with the picture `kept` if that is still fit."""
        of_class = [row for row in self.rows if row.label == slot.label and row.index not in self.taken]
        shown = sorted((row for row in of_class if slot.shows(row)), key=lambda row: row.index != kept)
        found = self.find(slot, shown, slot.note)
        if found is None:
            found = self.find(slot, of_class, f"{slot.note}: no fit picture is known to show it, so any of its class")
        if found:
            self.take(slot.name, found)
        return found is not None

    def find(self, slot: Slot, candidates: list[Row], note: str) -> Looked | None:
        """The first that is judged rightly, else the first that fits."""
        looked = (self.look(row, slot.store(self.data / row.path), note) for row in candidates[:TRIES])
        second = None
        for found in self.agreed(looked):
            if found.judged.right(slot.label):
                return found
            second = second or replace(found, note=f"{note}; not judged rightly")
        return second

    def look(self, row: Row, stored: bytes, note: str) -> Looked:
        return Looked(row, stored, self.judge.judge(stored), note)

    def agreed(self, looked: Iterable[Looked]) -> Iterator[Looked]:
        """Those that fit and that the binary agrees about; it is asked no more than is looked at."""
        fitting = (it for it in looked if it.fits())
        while chunk := list(islice(fitting, CHUNK)):
            yield from self.judge.agreed(chunk)

    def take(self, name: str, found: Looked) -> None:
        self.samples.append(Sample(name, found))
        self.taken.add(found.row.index)

    def add_borderline(self) -> None:
        """Of each class and decision the picture nearest to a threshold, among those hard to judge."""
        hard = [row for row in hard_ones(self.rows) if row.index not in self.taken]
        looked = sorted(
            (self.look(row, as_it_is(self.data / row.path), "") for row in hard), key=lambda it: it.judged.clearance
        )
        for label in LABELS:
            for decision in ("approve" if label == APPROVE else "reject", "undecided"):
                of_both = [it for it in looked if (it.row.label, it.judged.verdict["decision"]) == (label, decision)]
                if nearest := next(self.agreed(of_both), None):
                    note = f"close to a threshold, and still {decision}"
                    self.take(f"borderline-{label}-{decision}", replace(nearest, note=note))
        if not any(it.looked.judged.verdict["decision"] == "undecided" for it in self.samples):
            self.add_faded()

    def add_faded(self) -> None:
        """A defect faded into its surroundings until the model no longer knows."""
        flawed = [row for row in hard_ones(self.rows) if row.flawed and row.index not in self.taken]
        faded = (it for row in flawed[:TRIES] for it in self.faded(row))
        undecided = (it for it in faded if it.judged.verdict["decision"] == "undecided")
        if found := next(self.agreed(undecided), None):
            self.take(f"{found.row.label}-faded", found)
        else:
            print("golden samples: no picture is undecided, nor is one whose defect is faded", file=sys.stderr)

    def faded(self, row: Row) -> Iterator[Looked]:
        pixels = np.asarray(upright(self.data / row.path)).astype(np.float32)
        # What is left of a picture without its small dark and bright spots.
        smooth = cv2.medianBlur(pixels.astype(np.uint8), 31).astype(np.float32)
        for strength in np.arange(0.98, 0.0, -0.02):
            mixed = smooth + (pixels - smooth) * np.float32(strength)
            stored = as_jpeg(Image.fromarray(np.round(mixed).astype(np.uint8)))
            yield self.look(row, stored, f"its defect faded to {strength:.0%} of its contrast")


def hard_ones(rows: Iterable[Row]) -> list[Row]:
    """POOL of each class: the flawed by the smallest defect, the good by the most confusers."""
    hardest = sorted(rows, key=lambda row: (row.extent_px, -len(row.confusers)))
    return [row for label in LABELS for row in [it for it in hardest if it.label == label][:POOL]]


def choose(judge: Judge, rows: list[Row], data: Path, kept: Mapping[str, int]) -> list[Sample]:
    """A sample a slot, and borderline ones. `kept` says which picture has had a slot so far."""
    choice = Choice(judge, rows, data)
    # Pictures that stay are not for other slots.
    choice.taken.update(kept.values())
    for slot in SLOTS:
        choice.taken.discard(kept.get(slot.name))
        if not choice.fill(slot, kept.get(slot.name)):
            print(f"golden slot {slot.name}: left out, no picture is clear of thresholds", file=sys.stderr)
    choice.add_borderline()
    return choice.samples


def choose_samples(judge: Judge, rows: list[Row], data: Path) -> dict[str, bytes]:
    """By label a picture that shows plainly what it is, rightly judged."""
    choice = Choice(judge, rows, data)
    for slot in SAMPLE_SLOTS:
        choice.fill(slot)
    found = {sample.name: sample.looked for sample in choice.samples}
    return {name: it.stored for name, it in found.items() if it.judged.right(it.row.label)}


def record(folder: Path, samples: list[Sample], kind: str, decode: str) -> None:
    """Fills `folder` with pictures, tensors and golden.json; `kind` says what the pictures are."""
    folder.mkdir(parents=True)
    golden = {
        "schema": SCHEMA,
        "recorded_by": f"training/package/golden.py, Pillow {PIL.__version__}, ONNX Runtime {onnxruntime.__version__}",
        # Which row of the calibration split each picture was made of.
        "sources": {sample.name: sample.looked.row.index for sample in samples},
        "samples": [write(folder, sample, kind, decode) for sample in samples],
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=2) + "\n")


def write(folder: Path, sample: Sample, kind: str, decode: str) -> dict:
    """Writes one sample's files; returns its entry."""
    looked = sample.looked
    suffix = "png" if looked.stored.startswith(b"\x89PNG") else "jpg"
    image, tensor = f"{sample.name}.{suffix}", f"{sample.name}.tensor.png"
    (folder / image).write_bytes(looked.stored)
    to_input(looked.stored, decode).save(folder / tensor, "PNG")
    return {
        "image": image,
        "tensor": tensor,
        "truth": looked.row.label,
        "scores": [round(float(score), 7) for score in looked.judged.scores],
        "verdict": looked.judged.verdict,
        "note": f"{kind}; {looked.note}",
    }


def sources(folder: Path) -> dict[str, int]:
    """The rows that the golden samples in `folder` were made of."""
    return json.loads((folder / "golden.json").read_text())["sources"]
