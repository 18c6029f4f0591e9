"""From a seed to a picture: scene, vial, confusers, defects, then the camera.

Each stage has its own random stream, so that the same seed without its
defects gives the same vial.
"""

import io
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image

from training import JPEG_QUALITY
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH
from training.rows import Defect
from training.vial.confusers import add_confusers
from training.vial.defects import Wanted, add_defects
from training.vial.glass import draw_vial, step
from training.vial.scene import AXIS, IMAGE_HEIGHT, IMAGE_WIDTH, Lot, Scene, sample_scene

NOISE_TILE = 1400
NOISE_SEED = 20240


@dataclass(frozen=True)
class Picture:
    """A rendered vial and what is known about it."""

    # u8 [IMAGE_HEIGHT, IMAGE_WIDTH, 3].
    pixels: np.ndarray
    scene: Scene
    confusers: list[str]
    defects: list[Defect]
    # Where the defects are, bool [INPUT_HEIGHT, INPUT_WIDTH].
    mask: np.ndarray

    def jpeg(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


def render(seed: tuple[int, ...], lot: Lot, label: str, wanted: Wanted | None = None) -> Picture:
    """The picture that the arguments stand for; equal arguments give equal pixels."""
    scene_rng, confuser_rng, defect_rng, camera_rng = (np.random.default_rng((*seed, stage)) for stage in range(4))
    scene = sample_scene(lot, scene_rng)
    canvas = draw_vial(scene.vial)
    confusers = add_confusers(canvas, scene, confuser_rng)
    defects, cover = add_defects(canvas, scene, label, defect_rng, wanted)

    matrix = scene.pose.matrix()
    size = (IMAGE_WIDTH, IMAGE_HEIGHT)
    through = cv2.warpAffine(canvas.through, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(1, 1, 1))
    glow = cv2.warpAffine(canvas.glow, matrix, size, flags=cv2.INTER_LINEAR)
    through *= back_light(scene)
    through += glow
    return Picture(expose(through, scene, camera_rng), scene, confusers, defects, input_mask(cover, matrix))


def back_light(scene: Scene) -> np.ndarray:
    """The light panel with its vignette and the shelf that the vial stands on."""
    camera = scene.camera
    across = np.linspace(-0.5, 0.5, IMAGE_WIDTH, dtype=np.float32)
    down = np.linspace(-1, 1, IMAGE_HEIGHT, dtype=np.float32)
    fall_off = np.float32(camera.vignette) * (
        (across[None, :] - np.float32(camera.vignette_x)) ** 2 + (down[:, None] - np.float32(camera.vignette_y)) ** 2
    )
    shelf = scene.pose.matrix() @ (AXIS, scene.vial.base, 1)
    rows = np.arange(IMAGE_HEIGHT, dtype=np.float32)
    shelf_shade = 1 - (1 - camera.floor_shade) * step(rows, shelf[1] - 2, shelf[1] + 8)
    level = np.float32(camera.panel_level) * (1 - fall_off) * shelf_shade[:, None].astype(np.float32)
    colour = np.array([1 + camera.panel_warmth, 1, 1 - camera.panel_warmth], np.float32)
    return level[..., None] * colour


def expose(light: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Focus and sensor: blur, noise, eight bits."""
    focused = cv2.GaussianBlur(light, (0, 0), scene.camera.blur_sigma)
    focused *= 255
    noise = noise_tile()
    for channel in range(3):
        y, x = rng.integers(0, NOISE_TILE - IMAGE_HEIGHT), rng.integers(0, NOISE_TILE - IMAGE_WIDTH)
        window = noise[y : y + IMAGE_HEIGHT, x : x + IMAGE_WIDTH]
        focused[..., channel] += window * np.float32(scene.camera.noise_sigma)
    return np.clip(focused + 0.5, 0, 255).astype(np.uint8)


@cache
def noise_tile() -> np.ndarray:
    """Unit normal noise, drawn once; pictures take random windows of it."""
    return np.random.default_rng(NOISE_SEED).standard_normal((NOISE_TILE, NOISE_TILE), np.float32)


def input_mask(cover: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where defects show at input size: true where they cover a fifth of a pixel or more."""
    warped = cv2.warpAffine(cover, matrix, (IMAGE_WIDTH, IMAGE_HEIGHT), flags=cv2.INTER_LINEAR)
    return cv2.resize(warped, (INPUT_WIDTH, INPUT_HEIGHT), interpolation=cv2.INTER_AREA) > 50
