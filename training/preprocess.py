"""The reference preprocessing: what a server must reproduce, declared in package.toml."""

import io

import numpy as np
from PIL import Image, ImageOps

INPUT_WIDTH, INPUT_HEIGHT = 192, 384
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def to_input(image_bytes: bytes) -> Image.Image:
    """The picture as the network sees it: upright, RGB, INPUT_WIDTH x INPUT_HEIGHT, eight bits."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes)))
    return upright.convert("RGB").resize((INPUT_WIDTH, INPUT_HEIGHT), Image.Resampling.BILINEAR)


def input_array(image_bytes: bytes) -> np.ndarray:
    """u8 [INPUT_HEIGHT, INPUT_WIDTH, 3]."""
    return np.asarray(to_input(image_bytes), dtype=np.uint8)


def normalised(images: np.ndarray) -> np.ndarray:
    """u8 [N, H, W, 3] to the model's f32 [N, 3, H, W]."""
    scaled = images.astype(np.float32) * np.float32(1 / 255)
    scaled = (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
