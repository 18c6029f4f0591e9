"""What the golden samples must show, and the formats that they are stored in.

Only formats that the server takes: it refuses CMYK, 16 bits a sample, animation, and transparency.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from training import JPEG_QUALITY
from training.rows import Row

# What a golden picture may weigh; a larger file is stored at the size of a rendered picture.
LARGEST_BYTES = 150_000
PICTURE_SIZE = (512, 1024)
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Slot:
    """One golden picture to find, and how it is stored."""

    name: str
    label: str
    note: str
    shows: Callable[[Row], bool]
    store: Callable[[Path], bytes]


def upright(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def as_it_is(path: Path) -> bytes:
    content = path.read_bytes()
    if len(content) <= LARGEST_BYTES:
        return content
    picture = upright(path)
    picture.thumbnail(PICTURE_SIZE, Image.Resampling.BILINEAR)
    return as_jpeg(picture)


def as_jpeg(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, **options)
    return buffer.getvalue()


def as_grey_jpeg(path: Path) -> bytes:
    return as_jpeg(upright(path).convert("L"))


def as_progressive_jpeg(path: Path) -> bytes:
    return as_jpeg(upright(path), progressive=True)


def as_full_colour_jpeg(path: Path) -> bytes:
    """Colour as fine as brightness: 4:4:4."""
    return as_jpeg(upright(path), subsampling=0)


def as_turned_jpeg(orientation: int, turn: Image.Transpose) -> Callable[[Path], bytes]:
    """Stored as a turned camera does, with the EXIF note that turns it upright."""

    def store(path: Path) -> bytes:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        return as_jpeg(upright(path).transpose(turn), exif=exif)

    return store


def as_small_png(mode: str) -> Callable[[Path], bytes]:
    """Half the size: a PNG of the noise of the full picture would be large."""

    def store(path: Path) -> bytes:
        picture = upright(path)
        picture.thumbnail((PICTURE_SIZE[0] // 2, PICTURE_SIZE[1] // 2), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        (picture.quantize(256) if mode == "P" else picture.convert(mode)).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    return store


def plain(row: Row) -> bool:
    return row.confusers == ["reflections"]


def among(*names: str) -> Callable[[Row], bool]:
    return lambda row: set(names) <= set(row.confusers)


def only(prefix: str, low: float, high: float) -> Callable[[Row], bool]:
    """Pictures whose only defect is of this kind and of this extent."""
    return lambda row: len(row.defects) == 1 and row.defects[0].kind.startswith(prefix) and low <= row.extent_px < high


def several(row: Row) -> bool:
    return len(row.defects) > 1


def anything(row: Row) -> bool:
    return True


SLOTS = (
    Slot("good-easy-1", "good", "nothing but reflections", plain, as_it_is),
    Slot("good-easy-2", "good", "nothing but reflections", plain, as_it_is),
    Slot("good-bubbles", "good", "bubbles", among("bubbles"), as_it_is),
    Slot("good-dust", "good", "dust on the lens", among("dust"), as_it_is),
    Slot("good-scratches", "good", "scratches of the holder", among("scratches"), as_it_is),
    Slot("good-print", "good", "print on the glass", among("print"), as_it_is),
    Slot("good-confusing", "good", "bubbles, dust and scratches", among("bubbles", "dust", "scratches"), as_it_is),
    Slot("particle-speck-large", "particle", "a large speck", only("speck", 40, 200), as_it_is),
    Slot("particle-speck-small", "particle", "a speck of less than 20 px", only("speck", 14, 20), as_it_is),
    Slot("particle-fibre", "particle", "a fibre", only("fibre", 26, 200), as_it_is),
    Slot("particle-several", "particle", "more than one particle", several, as_it_is),
    Slot("particle-confusing", "particle", "bubbles and dust beside it", among("bubbles", "dust"), as_it_is),
    Slot("chips_cracks-crack-large", "chips_cracks", "a long crack", only("crack", 100, 1024), as_it_is),
    Slot("chips_cracks-crack-small", "chips_cracks", "a short crack", only("crack", 14, 60), as_it_is),
    Slot("chips_cracks-chip-rim", "chips_cracks", "a chip at the rim", only("chip_rim", 20, 200), as_it_is),
    Slot("chips_cracks-chip-shoulder", "chips_cracks", "a chip at the shoulder", only("chip_sh", 20, 200), as_it_is),
    Slot("chips_cracks-chip-heel", "chips_cracks", "a chip at the heel", only("chip_heel", 20, 200), as_it_is),
    Slot("chips_cracks-chip-small", "chips_cracks", "a chip of less than 20 px", only("chip", 14, 20), as_it_is),
    Slot("format-png", "good", "PNG of half the size", anything, as_small_png("RGB")),
    Slot("format-png-grey", "particle", "greyscale PNG", only("speck", 30, 200), as_small_png("L")),
    Slot("format-png-palette", "chips_cracks", "PNG with a palette", only("crack", 90, 1024), as_small_png("P")),
    Slot("format-grey", "particle", "greyscale JPEG", only("speck", 30, 200), as_grey_jpeg),
    Slot("format-progressive", "particle", "progressive JPEG", only("fibre", 40, 200), as_progressive_jpeg),
    Slot("format-444", "chips_cracks", "JPEG without chroma subsampling", only("chip", 25, 200), as_full_colour_jpeg),
    Slot(
        "format-exif-6",
        "chips_cracks",
        "lying JPEG, EXIF orientation 6",
        only("crack", 60, 1024),
        as_turned_jpeg(6, Image.Transpose.ROTATE_90),
    ),
    Slot(
        "format-exif-3",
        "good",
        "JPEG upside down, EXIF orientation 3",
        anything,
        as_turned_jpeg(3, Image.Transpose.ROTATE_180),
    ),
)
# For the documents.
SAMPLE_SLOTS = (
    Slot("good", "good", "a whole vial", anything, as_it_is),
    Slot("particle", "particle", "a speck that one sees", only("speck", 26, 60), as_it_is),
    Slot("chips_cracks", "chips_cracks", "a crack that one sees", only("crack", 60, 1024), as_it_is),
)
