"""From a seed to a picture: scene, vial, confusers, defects, then the camera.

Each stage has its own random stream, so that the same seed without its
defects gives the same vial.
"""

import io
from dataclasses import asdict, dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image

from training.vial.confusers import add_confusers
from training.vial.defects import Defect, add_defects
from training.vial.glass import draw_vial, step
from training.vial.scene import AXIS, IMAGE_SIZE, Scene, sample_scene

JPEG_QUALITY = 90
NOISE_TILE = 1400
NOISE_SEED = 20240
# Side of the coarse map of where the defects are, for training.
MAP_SIZE = 56


@dataclass(frozen=True)
class Picture:
    """A rendered vial and what is known about it."""

    pixels: np.ndarray
    label: str
    scene: Scene
    confusers: list[str]
    defects: list[Defect]
    defect_map: np.ndarray

    def jpeg(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()

    def metadata(self) -> dict:
        """What the picture shows, as JSON-ready values."""
        return {
            "label": self.label,
            "confusers": self.confusers,
            "defects": [asdict(defect) for defect in self.defects],
        }


def render(seed: tuple[int, ...], label: str) -> Picture:
    """The picture that `seed` and `label` stand for; equal arguments give equal pixels."""
    scene_rng, confuser_rng, defect_rng, camera_rng = (np.random.default_rng((*seed, stage)) for stage in range(4))
    scene = sample_scene(scene_rng)
    canvas = draw_vial(scene.vial)
    confusers = add_confusers(canvas, scene, confuser_rng)
    defects, cover = add_defects(canvas, scene, label, defect_rng)

    matrix = scene.pose.matrix()
    size = (IMAGE_SIZE, IMAGE_SIZE)
    through = cv2.warpAffine(canvas.through, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(1, 1, 1))
    glow = cv2.warpAffine(canvas.glow, matrix, size, flags=cv2.INTER_LINEAR)
    light = through * back_light(scene) + glow
    pixels = expose(light, scene, camera_rng)
    return Picture(pixels, label, scene, confusers, defects, coarse_map(cover, matrix))


def back_light(scene: Scene) -> np.ndarray:
    """The light panel with its vignette and the shelf that the vial stands on."""
    camera = scene.camera
    axis = np.linspace(-1, 1, IMAGE_SIZE, dtype=np.float32)
    fall_off = np.float32(camera.vignette) * (
        (axis[None, :] - np.float32(camera.vignette_x)) ** 2 + (axis[:, None] - np.float32(camera.vignette_y)) ** 2
    )
    shelf = scene.pose.matrix() @ (AXIS, scene.vial.base, 1)
    rows = np.arange(IMAGE_SIZE, dtype=np.float32)
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
        y, x = rng.integers(0, NOISE_TILE - IMAGE_SIZE, 2)
        focused[..., channel] += noise[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE] * np.float32(scene.camera.noise_sigma)
    return np.clip(focused + 0.5, 0, 255).astype(np.uint8)


@cache
def noise_tile() -> np.ndarray:
    """Unit normal noise, drawn once; pictures take random windows of it."""
    return np.random.default_rng(NOISE_SEED).standard_normal((NOISE_TILE, NOISE_TILE), np.float32)


def coarse_map(cover: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """MAP_SIZE x MAP_SIZE, 1 where a defect touches the cell."""
    warped = cv2.warpAffine(cover, matrix, (IMAGE_SIZE, IMAGE_SIZE), flags=cv2.INTER_LINEAR)
    return (cv2.resize(warped, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_AREA) > 4).astype(np.uint8)
