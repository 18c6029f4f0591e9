"""Chooses and records golden samples: pictures, reference tensors, expected answers.

All pictures come from the test split. Each slot names what its picture must
show; the first picture that shows it and is judged rightly, clear of every
threshold, fills it.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
from PIL import Image

from training.decision import Policy
from training.export import normalised
from training.train import Split
from training.vial import LABELS
from training.vial.dataset import SEED, SPLITS, label_of, sample, to_input
from training.vial.render import JPEG_QUALITY, render

SCHEMA = "linesight.golden/1"
# Distance of every recorded score from a threshold; ten times the tolerance of a score.
MARGIN = 0.01
EXIF_ORIENTATION = 0x0112
# Shown upright after a quarter turn clockwise.
TURN_CLOCKWISE = 6
DECISIONS = {"good": "approve", "particle": "reject", "chips_cracks": "reject"}


@dataclass(frozen=True)
class Slot:
    """One golden picture to find, and how it is stored."""

    name: str
    label: str
    note: str
    shows: Callable[[dict], bool]
    store: Callable[[Image.Image], bytes]


@dataclass(frozen=True)
class Judge:
    """The exported model with its thresholds."""

    runtime: onnxruntime.InferenceSession
    policy: Policy

    def scores(self, image_bytes: bytes) -> np.ndarray:
        tensor = np.asarray(to_input(image_bytes))[None]
        return self.policy.scores(self.runtime.run(["logits"], {"image": normalised(tensor)})[0][0])


def as_jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, **options)
    return buffer.getvalue()


def as_grey_jpeg(image: Image.Image) -> bytes:
    return as_jpeg(image.convert("L"))


def as_progressive_jpeg(image: Image.Image) -> bytes:
    return as_jpeg(image, progressive=True)


def as_turned_jpeg(image: Image.Image) -> bytes:
    """Stored lying on its side, with the EXIF note that turns it upright."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURN_CLOCKWISE
    return as_jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def as_small_png(image: Image.Image) -> bytes:
    """Half the size: a PNG of the noise of the full picture would be large."""
    buffer = io.BytesIO()
    image.resize((512, 512), Image.Resampling.BILINEAR).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def extent(row: dict) -> float:
    return max((defect["extent_px"] for defect in row["defects"]), default=0.0)


def plain(row: dict) -> bool:
    return row["confusers"] == ["reflections"]


def with_confusers(row: dict) -> bool:
    return {"bubbles", "dust"} <= set(row["confusers"])


def anything(row: dict) -> bool:
    return True


def kind(prefix: str, low: float, high: float) -> Callable[[dict], bool]:
    """Pictures whose only defect is of this kind and of this extent."""

    def shows(row: dict) -> bool:
        defects = row["defects"]
        return len(defects) == 1 and defects[0]["kind"].startswith(prefix) and low <= extent(row) < high

    return shows


SLOTS = (
    Slot("good-easy-1", "good", "no confusers but reflections", plain, as_jpeg),
    Slot("good-easy-2", "good", "no confusers but reflections", plain, as_jpeg),
    Slot("good-confusers-1", "good", "bubbles at the meniscus and faint dust", with_confusers, as_jpeg),
    Slot("good-confusers-2", "good", "bubbles at the meniscus and faint dust", with_confusers, as_jpeg),
    Slot("particle-speck-large", "particle", "a large speck", kind("speck", 40, 60), as_jpeg),
    Slot("particle-speck-small", "particle", "a speck of less than 17 px", kind("speck", 14, 17), as_jpeg),
    Slot("particle-fibre", "particle", "a fibre", kind("fibre", 26, 90), as_jpeg),
    Slot("particle-confusers", "particle", "a speck, bubbles and dust", with_confusers, as_jpeg),
    Slot("chips_cracks-crack-large", "chips_cracks", "a long crack", kind("crack", 180, 300), as_jpeg),
    Slot("chips_cracks-crack-small", "chips_cracks", "a short crack", kind("crack", 14, 90), as_jpeg),
    Slot("chips_cracks-chip-small", "chips_cracks", "a chip of less than 20 px", kind("chip", 14, 20), as_jpeg),
    Slot("chips_cracks-chip-heel", "chips_cracks", "a chip at the heel", kind("chip_heel", 24, 64), as_jpeg),
    Slot("format-png", "good", "PNG, 512x512", anything, as_small_png),
    Slot("format-grey", "particle", "greyscale JPEG", kind("speck", 30, 60), as_grey_jpeg),
    Slot("format-exif-6", "chips_cracks", "lying JPEG, EXIF orientation 6", kind("crack", 90, 300), as_turned_jpeg),
    Slot("format-progressive", "particle", "progressive JPEG", kind("fibre", 40, 90), as_progressive_jpeg),
)


def find(slot: Slot, judge: Judge, taken: set[int]) -> bytes:
    """The first picture of the test split for the slot, encoded; notes its index in `taken`."""
    for row in Split.load("test").metadata():
        index = row["index"]
        if index in taken or LABELS[label_of(index)] != slot.label or not slot.shows(row):
            continue
        stored = slot.store(Image.fromarray(sample("test", index).pixels))
        scores = judge.scores(stored)
        verdict = judge.policy.verdict(scores)
        right = verdict["decision"] == DECISIONS[slot.label] and verdict["class"] in (None, slot.label)
        if right and judge.policy.margin(scores) >= MARGIN:
            taken.add(index)
            return stored
    raise LookupError(f"no test picture fits golden slot {slot.name}")


def undecided(judge: Judge, taken: set[int]) -> tuple[bytes, str]:
    """A speck faded into its own clean twin until the model no longer knows; and its note."""
    for row in Split.load("test").metadata():
        index = row["index"]
        if index in taken or not kind("speck", 14, 40)(row):
            continue
        flawed = sample("test", index).pixels.astype(np.float32)
        clean = render((SEED, SPLITS["test"].stream, index), "good").pixels
        for strength in np.arange(0.1, 0.9, 0.02):
            mixed = clean + (flawed - clean) * strength
            stored = as_jpeg(Image.fromarray(np.round(mixed).astype(np.uint8)))
            scores = judge.scores(stored)
            if judge.policy.verdict(scores)["decision"] == "undecided" and judge.policy.margin(scores) >= 2 * MARGIN:
                taken.add(index)
                return stored, f"a speck faded to {strength:.0%} of its contrast"
    raise LookupError("no faded speck is undecided")


def record(folder: Path, judge: Judge, taken: set[int]) -> None:
    """Fills `folder` with pictures, tensors and golden.json."""
    folder.mkdir(parents=True)
    samples = []
    for slot in SLOTS:
        suffix = "png" if slot.store is as_small_png else "jpg"
        samples.append(write(folder, f"{slot.name}.{suffix}", find(slot, judge, taken), judge, slot.label, slot.note))
    faded, note = undecided(judge, taken)
    samples.append(write(folder, "particle-faded.jpg", faded, judge, "particle", note))
    recorded_by = f"training/package.py, Pillow {PIL.__version__}, ONNX Runtime {onnxruntime.__version__}"
    golden = {"schema": SCHEMA, "recorded_by": recorded_by, "samples": samples}
    (folder / "golden.json").write_text(json.dumps(golden, indent=2) + "\n")


def write(folder: Path, name: str, stored: bytes, judge: Judge, truth: str, note: str) -> dict:
    """Writes one sample's files; returns its entry."""
    tensor = f"{Path(name).stem}.tensor.png"
    (folder / name).write_bytes(stored)
    to_input(stored).save(folder / tensor, "PNG", optimize=True)
    scores = judge.scores(stored)
    return {
        "image": name,
        "tensor": tensor,
        "truth": truth,
        "scores": [round(float(score), 7) for score in scores],
        "verdict": judge.policy.verdict(scores),
        "note": f"synthetic; {note}",
    }
