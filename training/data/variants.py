"""The ways in which a picture of the robustness split differs from its original in test."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from training import DATA, JPEG_QUALITY
from training.data.parallel import mapped
from training.rows import Row, write

SPLIT = "robustness"
VARIANTS = [
    # The light, as a share.
    ("brightness", 0.85),
    ("brightness", 1.15),
    # Standard deviation of a Gaussian, px of the picture.
    ("blur", 1.5),
    ("blur", 2.5),
    # Degrees, anticlockwise.
    ("rotation", -3.0),
    ("rotation", 3.0),
    ("jpeg", 50),
    ("jpeg", 75),
]


def changed(pixels: np.ndarray, kind: str, level: float, comment: str = "") -> bytes:
    """A JPEG of the picture (u8 [H, W, 3]), changed in one way."""
    quality = JPEG_QUALITY
    if kind == "brightness":
        pixels = cv2.convertScaleAbs(pixels, alpha=level)
    elif kind == "blur":
        pixels = cv2.GaussianBlur(pixels, (0, 0), level)
    elif kind == "rotation":
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), level, 1)
        pixels = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    elif kind == "jpeg":
        quality = int(level)
    else:
        raise ValueError(f"no kind of variant is called {kind!r}")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, comment=comment)
    return buffer.getvalue()


def write_robustness(test: Sequence[Row], data: Path = DATA, each: int = 300) -> None:
    """The first `each` good and as many flawed pictures, in every variant; rows last.

    A variant that is there, made of the same picture, is not made again.
    """
    good = [row for row in test if not row.flawed][:each]
    flawed = [row for row in test if row.flawed][:each]
    (data / SPLIT).mkdir(parents=True, exist_ok=True)

    def variants_of(numbered: tuple[int, Row]) -> list[Row]:
        number, row = numbered
        return write_variants(row, data, number * len(VARIANTS))

    chosen = list(enumerate([*good, *flawed]))
    write(SPLIT, [row for rows in mapped(variants_of, chosen, SPLIT) for row in rows], data)


def write_variants(row: Row, data: Path, first: int) -> list[Row]:
    """Writes all variants of one picture, numbered from `first`."""
    original = ImageOps.exif_transpose(Image.open(data / row.path)).convert("RGB")
    rows = []
    for index, (kind, level) in enumerate(VARIANTS, first):
        path = f"{SPLIT}/{index:06d}.jpg"
        comment = f"{kind} {level} of sha256:{row.sha256}"
        if comment_of(data / path) != comment:
            unfinished = data / f"{path}.part"
            unfinished.write_bytes(changed(np.asarray(original), kind, level, comment))
            unfinished.rename(data / path)
        sha256 = hashlib.sha256((data / path).read_bytes()).hexdigest()
        variant = {"of": row.index, "kind": kind, "level": level}
        rows.append(replace(row, split=SPLIT, index=index, sha256=sha256, path=path, variant=variant))
    return rows


def comment_of(file: Path) -> str | None:
    """Which variant of which picture the file says that it is; None where there is no file."""
    if not file.exists():
        return None
    with Image.open(file) as image:
        return image.info.get("comment", b"").decode()
