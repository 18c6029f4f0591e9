"""The synthetic data set: which seed makes which picture of which split.

A sample is named by its split and index. Its label is the index modulo the
number of labels, so every split is balanced.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from training.vial import LABELS
from training.vial.render import Picture, render

SEED = 7
INPUT_SIZE = 224


@dataclass(frozen=True)
class Split:
    """`stream` keeps the random numbers of the splits apart."""

    stream: int
    size: int


SPLITS = {
    "train": Split(stream=0, size=6000),
    "validation": Split(stream=1, size=900),
    "test": Split(stream=2, size=900),
}


def label_of(index: int) -> int:
    return index % len(LABELS)


def sample(split: str, index: int) -> Picture:
    """Renders one picture of the set."""
    return render((SEED, SPLITS[split].stream, index), LABELS[label_of(index)])


def to_input(image_bytes: bytes) -> Image.Image:
    """The reference preprocessing, up to the u8 tensor: what the server must reproduce."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes)))
    return upright.convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)


def input_array(image_bytes: bytes) -> np.ndarray:
    return np.asarray(to_input(image_bytes), dtype=np.uint8)
