"""Makes the test images, Pillow's tensor for each, and `manifest.json`: make.py OUT_DIR.

Everything is made from fixed seeds; nothing is downloaded and nothing is committed.
"""

import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reference import tensor

OUT = Path(sys.argv[1])
CASES = []


def photo(width, height, seed):
    """Smooth light, a few objects, texture and sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    light = np.stack([96 + 64 * np.sin(x / (61 + 20 * c) + c) * np.cos(y / (83 - 9 * c)) for c in range(3)], 2)
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(24):
        cx, cy, r = rng.integers(0, width), rng.integers(0, height), rng.integers(2, 3 + min(width, height) // 6)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(cx - r), int(cy - r), int(cx + r), int(cy + r)), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(0.7))
    noisy = np.asarray(image) + rng.normal(0, 5, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def jpeg(image, subsampling="4:2:0", **options):
    options.setdefault("quality", 90)
    if image.mode == "RGB":
        options["subsampling"] = subsampling
    return saved(image, "JPEG", **options)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height, depth=8, colour=2, interlace=0):
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr)


def interlaced(image):
    """Adam7, which Pillow reads but does not write."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    raw = b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in passes:
        part = pixels[y::dy, x::dx]
        if part.size:
            raw += b"".join(b"\0" + row.tobytes() for row in part)
    colour = 0 if pixels.ndim == 2 else 2
    header = png_header(width, height, 8, colour, 1)
    return header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def with_chunk(png, kind, data, before=b"IDAT"):
    at = png.index(before) - 4
    return png[:at] + chunk(kind, data) + png[at:]


def spec(colour="rgb", mode="stretch", size=(224, 224), filter="bilinear", crop="none", **rest):
    resize = {"mode": mode, "size": size if isinstance(size, int) else list(size), "filter": filter}
    if mode == "letterbox":
        resize["fill"] = 114
    channels = 1 if colour == "grey" else 3
    out = {"colour": colour, "layout": "NCHW", "resize": resize, "scale": 1 / 255}
    return out | {"mean": [0.5] * channels, "std": [0.25] * channels, "crop": crop} | rest


def agree(name, data, spec, exact=False):
    """This image under this table must come out as Pillow's."""
    (OUT / name).write_bytes(data)
    at = f"{len(CASES):03}.raw"
    (OUT / at).write_bytes(tensor(data, spec).tobytes())
    CASES.append({"image": name, "spec": spec, "tensor": at, "exact": exact})


def refuse(name, data, code, spec=spec()):
    """This image must be refused with this code."""
    (OUT / name).write_bytes(data)
    CASES.append({"image": name, "spec": spec, "code": code})


def agreeing():
    big = photo(1024, 1024, 1)
    odd = photo(1023, 517, 2)
    grey = big.convert("L")
    palette = big.quantize(200)
    images = {
        "420.jpg": jpeg(big), "444.jpg": jpeg(big, "4:4:4"), "422.jpg": jpeg(big, "4:2:2"),
        "progressive.jpg": jpeg(big, progressive=True), "grey.jpg": jpeg(grey),
        "grey-progressive.jpg": jpeg(grey, progressive=True), "low.jpg": jpeg(big, quality=20),
        "restart.jpg": jpeg(big, restart_marker_blocks=7), "odd-420.jpg": jpeg(odd),
        "odd-422.jpg": jpeg(odd, "4:2:2"), "rgb-kept.jpg": jpeg(odd, "4:4:4", keep_rgb=True),
        "trailing.jpg": jpeg(odd) + b"left over", "small.jpg": jpeg(photo(37, 91, 3)),
        "dot.jpg": jpeg(photo(1, 1, 4)), "same-size.jpg": jpeg(photo(224, 224, 5)),
        "rgb.png": saved(big, "PNG"), "grey.png": saved(grey, "PNG"), "palette.png": saved(palette, "PNG"),
        "palette4.png": saved(odd.quantize(11), "PNG", bits=4), "bilevel.png": saved(odd.convert("1"), "PNG"),
        "palette2.png": saved(odd.quantize(4), "PNG", bits=2),
        "interlaced.png": interlaced(odd), "interlaced-grey.png": interlaced(grey),
        "trailing.png": saved(odd, "PNG") + b"left over",
    }
    for name, data in images.items():
        size = Image.open(io.BytesIO(data)).size[::-1]
        agree(name, data, spec())
        for colour in ("rgb", "bgr", "grey"):
            agree(name, data, spec(colour, size=size), exact=True)
    for filter in ("nearest", "bilinear", "bicubic", "lanczos"):
        agree("420.jpg", images["420.jpg"], spec(filter=filter), exact=filter == "nearest")
        agree("small.jpg", images["small.jpg"], spec(filter=filter), exact=filter == "nearest")
        agree("grey.png", images["grey.png"], spec("grey", filter=filter), exact=filter == "nearest")
    for name in ("420.jpg", "odd-420.jpg", "small.jpg", "interlaced.png"):
        agree(name, images[name], spec(mode="shortest", size=256, crop={"centre": [224, 224]}))
        agree(name, images[name], spec(mode="shortest", size=235, crop={"centre": [224, 192]}))
        agree(name, images[name], spec("bgr", mode="letterbox", size=(320, 416)))
        agree(name, images[name], spec(size=(231, 229), crop={"centre": [224, 224]}))
    # One side fits already: Pillow then skips that direction.
    agree("odd-420.jpg", images["odd-420.jpg"], spec(size=(517, 224)))
    agree("odd-420.jpg", images["odd-420.jpg"], spec(size=(224, 1023)))
    for value in range(1, 9):
        data = jpeg(odd, exif=exif(value))
        size = odd.size if value >= 5 else odd.size[::-1]
        agree(f"exif{value}.jpg", data, spec())
        agree(f"exif{value}.jpg", data, spec(size=size), exact=True)
        agree(f"exif{value}.jpg", data, spec(size=odd.size[::-1], orientation="ignore"), exact=True)
        png = saved(odd.convert("L"), "PNG", exif=exif(value))
        agree(f"exif{value}.png", png, spec("grey", size=size), exact=True)
    late = saved(odd, "PNG")
    agree("exif-late.png", with_chunk(late, b"eXIf", exif(6)[6:], b"IEND"), spec(size=odd.size), exact=True)
    broken = exif(6)
    agree("exif-broken.jpg", jpeg(odd, exif=broken[:20]), spec(size=odd.size[::-1]), exact=True)
    rgba = odd.copy()
    rgba.putalpha(odd.convert("L"))
    la = odd.convert("LA")
    clear = saved(odd.quantize(30), "PNG", transparency=3)
    for name, data in {"rgba.png": saved(rgba, "PNG"), "la.png": saved(la, "PNG"), "clear.png": clear}.items():
        refuse(name, data, "image_unsupported")
        for colour in ("rgb", "bgr", "grey"):
            agree(name, data, spec(colour, size=odd.size[::-1], alpha="drop"), exact=True)


def scaled():
    """Decoded at a half, a quarter or an eighth, as Pillow drafts."""
    images = {name: (OUT / name).read_bytes() for name in (
        "420.jpg", "444.jpg", "422.jpg", "progressive.jpg", "grey.jpg", "grey-progressive.jpg", "low.jpg",
        "restart.jpg", "odd-420.jpg", "odd-422.jpg", "rgb-kept.jpg", "small.jpg", "dot.jpg", "rgb.png",
    )}
    images["2048.jpg"] = jpeg(photo(2048, 2048, 13))
    for name, data in images.items():
        agree(name, data, spec(decode="scaled"))
        width, height = Image.open(io.BytesIO(data)).size
        for times in (2, 4, 8):
            # The decoded pixels themselves, where the sides can be divided: resizing leaves them.
            size = (max(1, height // times), max(1, width // times))
            divides = not (width % times or height % times) and not name.endswith("png")
            for colour in ("rgb", "bgr", "grey"):
                filter = "bilinear" if divides else "nearest"
                agree(name, data, spec(colour, size=size, filter=filter, decode="scaled"), exact=True)
            # A row more than that, and this reduction would leave too few. (One level in a dozen
            # values is more in the mean than the tests allow.)
            if name not in ("small.jpg", "dot.jpg"):
                agree(name, data, spec(size=(size[0] + 1, size[1]), decode="scaled"))
    for name in ("420.jpg", "odd-420.jpg", "grey.jpg", "2048.jpg"):
        for filter in ("nearest", "bilinear", "bicubic", "lanczos"):
            agree(name, images[name], spec(size=(100, 120), filter=filter, decode="scaled"), exact=filter == "nearest")
        agree(name, images[name], spec(mode="shortest", size=120, crop={"centre": [112, 112]}, decode="scaled"))
        agree(name, images[name], spec(mode="shortest", size=235, crop={"centre": [224, 192]}, decode="scaled"))
        agree(name, images[name], spec("bgr", mode="letterbox", size=(160, 208), decode="scaled"))
        agree(name, images[name], spec(size=(131, 129), crop={"centre": [124, 124]}, decode="scaled"))
    for value in range(1, 9):
        # Upright, only one of these may be decoded at a quarter; as stored, only the other.
        data = (OUT / f"exif{value}.jpg").read_bytes()
        for size in ((250, 120), (120, 250)):
            agree(f"exif{value}.jpg", data, spec(size=size, decode="scaled"))
            nearest = spec(size=size, filter="nearest", decode="scaled")
            agree(f"exif{value}.jpg", data, nearest, exact=True)
            agree(f"exif{value}.jpg", data, nearest | {"orientation": "ignore"}, exact=True)


def refused():
    small = photo(96, 64, 6)
    refuse("cmyk.jpg", jpeg(small.convert("CMYK")), "image_unsupported")
    refuse("16bit.png", saved(Image.new("I;16", (40, 30), 999), "PNG"), "image_unsupported")
    animated = saved(small, "PNG", save_all=True, append_images=[photo(96, 64, 7)])
    refuse("animated.png", animated, "image_unsupported")
    refuse("image.gif", saved(small, "GIF"), "image_format")
    whole, whole_png = jpeg(small), saved(small, "PNG")
    progressive = jpeg(small, progressive=True)
    scans = [i for i in range(len(progressive)) if progressive[i : i + 2] == b"\xff\xda"]
    refuse("no-end.jpg", whole[:-2], "image_unreadable")
    refuse("closed.jpg", whole[: len(whole) // 2] + b"\xff\xd9", "image_unreadable")
    # Whole scans are missing: libjpeg answers a picture without a warning.
    for n, at in enumerate(scans[1:]):
        # The tables between two scans belong to the later one.
        end = progressive.rindex(b"\xff\xc4", 0, at)
        refuse(f"scans{n}.jpg", progressive[:end] + b"\xff\xd9", "image_unreadable")
    # libjpeg would use the tables of the image before, if its decoder were kept.
    tables = whole
    while (at := tables.find(b"\xff\xdb\x00\x43")) >= 0:
        tables = tables[:at] + tables[at + 69 :]
    refuse("no-tables.jpg", tables, "image_unreadable")
    refuse("no-end.png", whole_png[:-12], "image_unreadable")
    refuse("half.png", whole_png[: len(whole_png) // 2], "image_unreadable")
    refuse("idat-crc.png", whole_png.replace(b"IDAT", b"IDAU", 1), "image_unreadable")
    text = with_chunk(whole_png, b"tEXt", b"a\0b", b"IEND")
    refuse("late-crc.png", text.replace(b"a\0b", b"a\0c"), "image_unreadable")
    beyond = png_header(2, 1, 8, 3) + chunk(b"PLTE", b"abc") + chunk(b"IDAT", zlib.compress(b"\0\0\1"))
    refuse("beyond-palette.png", beyond + chunk(b"IEND", b""), "image_unreadable")
    adler = zlib.compress(b"\0" + bytes(range(9)))
    adler = png_header(3, 1) + chunk(b"IDAT", adler[:-1] + bytes([adler[-1] ^ 1])) + chunk(b"IEND", b"")
    refuse("adler.png", adler, "image_unreadable")


def bombs():
    frame = struct.pack(">BHHB", 8, 65535, 65535, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    lying = b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame
    refuse("bomb-65535.jpg", lying + b"\xff\xda" + bytes(100), "image_too_large")
    rows = zlib.compress(bytes(50_000_001), 9)
    refuse("bomb-50k.png", png_header(50_000, 50_000, 8, 0) + chunk(b"IDAT", rows) + chunk(b"IEND", b""), "image_too_large")
    thin = chunk(b"IDAT", zlib.compress(bytes(2 * 20_000_000), 9)) + chunk(b"IEND", b"")
    refuse("bomb-thin.png", png_header(1, 20_000_000, 8, 0) + thin, "image_too_large")
    short = chunk(b"IDAT", zlib.compress(bytes(100), 9)) + chunk(b"IEND", b"")
    refuse("bomb-short.png", png_header(4800, 4800, 8, 2) + short, "image_unreadable")
    progressive = jpeg(photo(250, 250, 8).resize((4000, 4000)), progressive=True, quality=30)
    last = progressive.rindex(b"\xff\xda")
    refuse("bomb-scans.jpg", progressive[:-2] + progressive[last:-2] * 1000 + b"\xff\xd9", "image_unreadable")
    # Text and profiles are not inflated, so these are harmless and the picture is answered.
    plain = saved(photo(64, 64, 9), "PNG")
    huge = zlib.compress(bytes(200_000_000), 9)
    for name, data in {
        "bomb-text.png": with_chunk(plain, b"zTXt", b"Comment\0\0" + huge),
        "bomb-profile.png": with_chunk(plain, b"iCCP", b"ICC\0\0" + huge),
    }.items():
        (OUT / name).write_bytes(data)
        (OUT / f"{name}.raw").write_bytes(tensor(plain, spec(size=(64, 64))).tobytes())
        CASES.append({"image": name, "spec": spec(size=(64, 64)), "tensor": f"{name}.raw", "exact": True})


def seeds():
    """Twenty small images to be mutated."""
    a, b, c = photo(256, 256, 10), photo(201, 150, 11), photo(128, 192, 12)
    rgba = c.copy()
    rgba.putalpha(c.convert("L"))
    all = [
        jpeg(a), jpeg(a, "4:4:4"), jpeg(b, "4:2:2"), jpeg(b, "4:2:0", quality=95), jpeg(a, "4:2:0", quality=40),
        jpeg(a.convert("L")), jpeg(a, progressive=True), jpeg(b, "4:4:4", progressive=True),
        jpeg(b.convert("L"), progressive=True), jpeg(c, exif=exif(6)), jpeg(c, exif=exif(3), progressive=True),
        jpeg(a, restart_marker_blocks=5), jpeg(b, optimize=True, comment=b"a comment", icc_profile=bytes(600)),
        saved(a, "PNG"), saved(b.convert("L"), "PNG"), saved(a.quantize(64), "PNG"),
        saved(b.quantize(9), "PNG", bits=4), interlaced(b), saved(rgba, "PNG", exif=exif(8)),
        saved(a.convert("1"), "PNG"),
    ]
    (OUT / "seeds").mkdir(exist_ok=True)
    for n, data in enumerate(all):
        (OUT / "seeds" / f"{n:02}").write_bytes(data)


OUT.mkdir(parents=True, exist_ok=True)
agreeing()
scaled()
refused()
bombs()
seeds()
(OUT / "manifest.json").write_text(json.dumps(CASES))
