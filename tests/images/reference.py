"""The reference: what Pillow makes of an image under a [preprocess] table, as u8 before scaling."""

import io

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin  # noqa: F401 (Exif needs the plugin)

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(image: Image.Image, size: tuple, filter: Image.Resampling) -> Image.Image:
    """Image.resize, rows first. All releases up to Pillow 12 do so; 13.0 does columns first where
    that is less work (tall images), which moves 15 to 20 % of the values by one level."""
    if filter != Image.Resampling.NEAREST:
        image = image.resize((size[0], image.height), filter)
    return image.resize(size, filter)


def target(size: tuple, resize: dict) -> tuple:
    """What an upright picture of this size is resized to; width and height, as for Pillow."""
    bounds = resize["size"]
    if resize["mode"] == "stretch":
        return bounds[1], bounds[0]
    if resize["mode"] == "shortest":
        # torchvision.transforms.functional.resize with an int.
        n = bounds if isinstance(bounds, int) else bounds[0]
        short, long = sorted(size)
        other = int(n * long / short)
        return (n, other) if size[0] <= size[1] else (other, n)
    # As in YOLO pipelines.
    ratio = min(bounds[1] / size[0], bounds[0] / size[1])
    return tuple(max(1, round(side * ratio)) for side in size)


def lies_sideways(image: Image.Image) -> bool:
    """Whether `upright` swaps width and height."""
    try:
        return image.getexif().get(0x0112) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 (whatever Pillow makes of broken EXIF)
        return False


def upright(image: Image.Image) -> Image.Image:
    """exif_transpose, where broken EXIF counts as none."""
    try:
        image.getexif()
    except Exception:  # noqa: BLE001 (whatever Pillow makes of broken EXIF)
        return image
    return ImageOps.exif_transpose(image)


def tensor(data: bytes, spec: dict) -> np.ndarray:
    """Height, width, channels; raises where Pillow refuses the bytes."""
    resize = spec["resize"]
    image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
    follows_exif = spec.get("orientation", "exif") == "exif"
    if image.format == "PNG":
        image.load()  # What is said of it may come after its pixels.
    for xmp in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(xmp, None)  # An orientation given only there counts as none.
    turned = slice(None, None, -1 if follows_exif and lies_sideways(image) else 1)
    size = target(image.size[turned], resize)
    if spec.get("decode") == "scaled":
        image.draft(None, size[turned])
    image.load()
    if follows_exif:
        image = upright(image)
    image = resized(
        image.convert("L" if spec["colour"] == "grey" else "RGB"), size, FILTERS[resize["filter"]]
    )
    if resize["mode"] == "letterbox":
        height, width = resize["size"]
        fill = resize["fill"]
        canvas = Image.new(image.mode, (width, height), fill if image.mode == "L" else (fill,) * 3)
        canvas.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
        image = canvas
    crop = spec.get("crop", "none")
    if crop != "none":
        # torchvision.transforms.functional.center_crop.
        height, width = crop["centre"]
        top = int(round((image.height - height) / 2.0))
        left = int(round((image.width - width) / 2.0))
        image = image.crop((left, top, left + width, top + height))
    out = np.asarray(image)
    out = out[:, :, None] if out.ndim == 2 else out
    return np.ascontiguousarray(out[:, :, ::-1] if spec["colour"] == "bgr" else out)
