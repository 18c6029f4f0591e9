"""What varies from one synthetic vial to the next, as plain numbers.

Lengths are pixels of the canvas: an upright, unrotated drawing of the vial,
CANVAS_WIDTH x CANVAS_HEIGHT, its axis on the column AXIS. The pose places the
canvas in the IMAGE_SIZE x IMAGE_SIZE picture.
"""

from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 1024
CANVAS_HEIGHT = 1024
CANVAS_WIDTH = 512
AXIS = CANVAS_WIDTH / 2

CAP_COLOURS = (
    (0.16, 0.33, 0.66),
    (0.66, 0.14, 0.15),
    (0.20, 0.48, 0.31),
    (0.36, 0.37, 0.40),
    (0.83, 0.83, 0.81),
    (0.80, 0.47, 0.12),
)


@dataclass(frozen=True)
class Vial:
    """Outline of the vial and what is in it."""

    radius: float
    cap_top: float
    cap_height: float
    crimp_height: float
    crimp_radius: float
    neck_radius: float
    neck_height: float
    shoulder_height: float
    base: float
    corner: float
    plug_depth: float
    fill_line: float
    meniscus_rise: float
    cap_colour: tuple[float, float, float]
    glass_tint: tuple[float, float, float]
    liquid_tint: tuple[float, float, float]

    @property
    def crimp_top(self) -> float:
        return self.cap_top + self.cap_height

    @property
    def neck_top(self) -> float:
        return self.crimp_top + self.crimp_height

    @property
    def shoulder_top(self) -> float:
        return self.neck_top + self.neck_height

    @property
    def body_top(self) -> float:
        return self.shoulder_top + self.shoulder_height


@dataclass(frozen=True)
class Pose:
    """Where the canvas lies in the picture."""

    scale: float
    degrees: float
    shift_x: float
    shift_y: float

    def matrix(self) -> np.ndarray:
        """The 2x3 affine map from canvas to picture."""
        angle = np.deg2rad(self.degrees)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([AXIS, CANVAS_HEIGHT / 2])
        target = np.array([IMAGE_SIZE / 2 + self.shift_x, IMAGE_SIZE / 2 + self.shift_y])
        return np.column_stack([linear, target - linear @ centre])


@dataclass(frozen=True)
class Camera:
    """Light behind the vial, focus and sensor."""

    panel_level: float
    panel_warmth: float
    vignette: float
    vignette_x: float
    vignette_y: float
    floor_shade: float
    blur_sigma: float
    noise_sigma: float


@dataclass(frozen=True)
class Scene:
    vial: Vial
    pose: Pose
    camera: Camera


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws one scene; the ranges are the whole variation of the clean picture."""
    radius = rng.uniform(172, 196)
    cap_top = rng.uniform(84, 108)
    base = rng.uniform(900, 930)
    body_guess = cap_top + 290
    warmth = rng.uniform(0, 1)
    vial = Vial(
        radius=radius,
        cap_top=cap_top,
        cap_height=rng.uniform(30, 42),
        crimp_height=rng.uniform(62, 80),
        crimp_radius=radius * rng.uniform(0.64, 0.70),
        neck_radius=radius * rng.uniform(0.50, 0.56),
        neck_height=rng.uniform(40, 60),
        shoulder_height=rng.uniform(70, 100),
        base=base,
        corner=rng.uniform(22, 36),
        plug_depth=rng.uniform(16, 34),
        fill_line=body_guess + rng.uniform(0.08, 0.42) * (base - body_guess),
        meniscus_rise=rng.uniform(8, 20),
        cap_colour=CAP_COLOURS[rng.integers(len(CAP_COLOURS))],
        glass_tint=(0.965, 0.985, 0.985 - 0.02 * rng.uniform()),
        liquid_tint=(1.0 - 0.01 * warmth, 0.995 - 0.02 * warmth, 0.99 - 0.10 * warmth),
    )
    pose = Pose(
        scale=rng.uniform(0.93, 1.04),
        degrees=rng.uniform(-2.5, 2.5),
        shift_x=rng.uniform(-45, 45),
        shift_y=rng.uniform(-18, 18),
    )
    camera = Camera(
        panel_level=rng.uniform(0.80, 0.92),
        panel_warmth=rng.uniform(-0.02, 0.02),
        vignette=rng.uniform(0.06, 0.22),
        vignette_x=rng.uniform(-0.2, 0.2),
        vignette_y=rng.uniform(-0.2, 0.2),
        floor_shade=rng.uniform(0.45, 0.75),
        blur_sigma=rng.uniform(0.5, 1.2),
        noise_sigma=rng.uniform(0.8, 2.2),
    )
    return Scene(vial, pose, camera)
