"""The reference pixels of a package: those of training.preprocess, with JPEG decoded as it declares."""

import io
import tomllib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from training import preprocess
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH

# The values of the EXIF orientation with which columns become rows.
SIDEWAYS = (5, 6, 7, 8)


def declared(package: Path) -> str:
    """`decode` of package.toml."""
    return tomllib.loads((package / "package.toml").read_text())["preprocess"]["decode"]


def to_input(image_bytes: bytes, decode: str) -> Image.Image:
    """The picture as the network sees it: upright, RGB, INPUT_WIDTH x INPUT_HEIGHT, eight bits."""
    if decode == "full":
        return preprocess.to_input(image_bytes)
    image = Image.open(io.BytesIO(image_bytes))
    size = (INPUT_WIDTH, INPUT_HEIGHT)
    # Before anything reads its pixels; drafted as it is stored.
    image.draft(None, size[::-1] if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else size)
    return ImageOps.exif_transpose(image).convert("RGB").resize(size, Image.Resampling.BILINEAR)


def input_array(image_bytes: bytes, decode: str) -> np.ndarray:
    """u8 [INPUT_HEIGHT, INPUT_WIDTH, 3]."""
    return np.asarray(to_input(image_bytes, decode), dtype=np.uint8)
