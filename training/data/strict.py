"""Which files the server would accept as pictures: whole JPEGs and PNGs of the kinds it decodes."""

import io

import simplejpeg
from PIL import Image

# http.max_pixels of the server, unless it is set otherwise.
MOST_PIXELS = 24_000_000
# MPO: a JPEG followed by another, as telephones write it; the first one counts.
JPEG = ("JPEG", "MPO")
# Where a PNG says how many bits a sample has.
PNG_DEPTH_AT = 24


class Unfit(Exception):
    """What is wrong with a file, and what would be right."""


def require_fit(content: bytes) -> None:
    """Raises Unfit for what the server would not judge."""
    if not content:
        raise Unfit("it is empty; copy it anew")
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        raise Unfit(f"it has far more than {MOST_PIXELS:,} pixels; make it smaller") from None
    except Exception:
        # Damaged headers raise whatever the code of the format stumbles over.
        raise Unfit("it is not a picture that can be read; only JPEG and PNG files belong here") from None
    if image.format not in (*JPEG, "PNG"):
        raise Unfit(f"it is {image.format}; the server takes JPEG and PNG, so save it as one of these")
    if image.width * image.height > MOST_PIXELS:
        raise Unfit(f"it has {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are taken")
    if image.format in JPEG:
        require_fit_jpeg(content, image)
    else:
        require_fit_png(content, image)


def require_fit_jpeg(content: bytes, image: Image.Image) -> None:
    if image.mode not in ("L", "RGB"):
        raise Unfit(f"its colours are {image.mode}; save it in RGB or in grey")
    try:
        # Pillow fills in what is missing and says nothing. At an eighth of the size all data are
        # read, too, and nearly nothing is computed.
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as damage:
        raise Unfit(f"it is damaged or cut off ({damage}); copy it anew from where it was taken") from None


def require_fit_png(content: bytes, image: Image.Image) -> None:
    if getattr(image, "is_animated", False):
        raise Unfit("it is animated; save one frame")
    if content[PNG_DEPTH_AT] == 16:
        raise Unfit("it has 16 bits a sample; save it with 8")
    if image.has_transparency_data:
        raise Unfit("it has transparency; save it without an alpha channel")
    try:
        image.load()
    except Exception as damage:
        raise Unfit(f"it is damaged or cut off ({damage}); copy it anew from where it was taken") from None
