"""What varies from one synthetic vial to the next, as plain numbers.

Lengths are pixels of the canvas: an upright, unrotated drawing of the vial,
CANVAS_WIDTH x CANVAS_HEIGHT, its axis on the column AXIS. The pose places the
canvas in the IMAGE_WIDTH x IMAGE_HEIGHT picture.

Vials come in lots. What a filling line sets up once (the vial's size, cap,
tints, nominal fill, print, the lamp it is looked at with) belongs to the lot;
the rest differs from vial to vial.
"""

from dataclasses import dataclass

import numpy as np

IMAGE_WIDTH, IMAGE_HEIGHT = 512, 1024
CANVAS_WIDTH, CANVAS_HEIGHT = 512, 1024
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
class Format:
    """Proportions of a vial size, after ISO 8362-1: ranges of lengths, shares of the radius."""

    radius: tuple[float, float]
    height: tuple[float, float]
    crimp: tuple[float, float]
    neck: tuple[float, float]


FORMATS = {
    "2R": Format(radius=(174, 186), height=(796, 828), crimp=(0.66, 0.70), neck=(0.52, 0.56)),
    "6R": Format(radius=(188, 198), height=(690, 724), crimp=(0.62, 0.66), neck=(0.49, 0.53)),
    "10R": Format(radius=(194, 202), height=(738, 768), crimp=(0.58, 0.62), neck=(0.46, 0.50)),
}


@dataclass(frozen=True)
class Lamp:
    """The light panel behind the vial: ranges over its life."""

    level: tuple[float, float]
    warmth: tuple[float, float]
    vignette: tuple[float, float]


LAMPS = {
    "A": Lamp(level=(0.84, 0.92), warmth=(-0.02, 0.0), vignette=(0.06, 0.14)),
    "B": Lamp(level=(0.80, 0.90), warmth=(0.0, 0.03), vignette=(0.10, 0.20)),
    "C": Lamp(level=(0.74, 0.84), warmth=(-0.01, 0.02), vignette=(0.14, 0.24)),
}


@dataclass(frozen=True)
class Lot:
    """What the vials of one lot share."""

    name: str
    vial_size: str
    lamp: str
    # The share of the body that liquid fills.
    nominal_fill: float
    cap_colour: tuple[float, float, float]
    glass_tint: tuple[float, float, float]
    liquid_tint: tuple[float, float, float]
    # What is printed on the glass; empty: nothing.
    print_lines: tuple[str, ...]
    ink: tuple[float, float, float]


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
    fill_level: float
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
        target = np.array([IMAGE_WIDTH / 2 + self.shift_x, IMAGE_HEIGHT / 2 + self.shift_y])
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
    lot: Lot
    vial: Vial
    pose: Pose
    camera: Camera


def sample_lot(name: str, rng: np.random.Generator) -> Lot:
    """Draws what a lot has in common."""
    warmth = rng.uniform(0, 1)
    code = f"LOT {rng.integers(1000, 9999)}", f"EXP {rng.integers(1, 13):02d}/{rng.integers(27, 31)}"
    return Lot(
        name=name,
        vial_size=str(rng.choice(list(FORMATS))),
        lamp=str(rng.choice(list(LAMPS))),
        nominal_fill=rng.uniform(0.60, 0.84),
        cap_colour=CAP_COLOURS[rng.integers(len(CAP_COLOURS))],
        glass_tint=(0.965, 0.985, 0.985 - 0.02 * rng.uniform()),
        liquid_tint=(1.0 - 0.01 * warmth, 0.995 - 0.02 * warmth, 0.99 - 0.10 * warmth),
        print_lines=code if rng.uniform() < 0.4 else (),
        ink=((0.20, 0.30, 0.70), (0.25, 0.25, 0.28))[rng.integers(2)],
    )


def sample_scene(lot: Lot, rng: np.random.Generator) -> Scene:
    """Draws one vial of the lot before its camera: the whole variation of the clean picture."""
    return Scene(lot, sample_vial(lot, rng), sample_pose(rng), sample_camera(LAMPS[lot.lamp], rng))


def sample_vial(lot: Lot, rng: np.random.Generator) -> Vial:
    form = FORMATS[lot.vial_size]
    radius = rng.uniform(*form.radius)
    base = rng.uniform(905, 930)
    cap_top = base - rng.uniform(*form.height)
    cap_height, crimp_height = rng.uniform(30, 42), rng.uniform(62, 80)
    neck_height, shoulder_height = rng.uniform(40, 60), rng.uniform(70, 100)
    fill_level = float(np.clip(lot.nominal_fill + rng.normal(0, 0.03), 0.55, 0.90))
    body_top = cap_top + cap_height + crimp_height + neck_height + shoulder_height
    return Vial(
        radius=radius,
        cap_top=cap_top,
        cap_height=cap_height,
        crimp_height=crimp_height,
        crimp_radius=radius * rng.uniform(*form.crimp),
        neck_radius=radius * rng.uniform(*form.neck),
        neck_height=neck_height,
        shoulder_height=shoulder_height,
        base=base,
        corner=rng.uniform(22, 36),
        plug_depth=rng.uniform(16, 34),
        fill_level=fill_level,
        fill_line=base - fill_level * (base - body_top),
        meniscus_rise=rng.uniform(8, 20),
        cap_colour=lot.cap_colour,
        glass_tint=lot.glass_tint,
        liquid_tint=lot.liquid_tint,
    )


def sample_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        scale=rng.uniform(0.95, 1.02),
        degrees=rng.uniform(-2.5, 2.5),
        shift_x=rng.uniform(-24, 24),
        shift_y=rng.uniform(-18, 18),
    )


def sample_camera(lamp: Lamp, rng: np.random.Generator) -> Camera:
    return Camera(
        panel_level=rng.uniform(*lamp.level),
        panel_warmth=rng.uniform(*lamp.warmth),
        vignette=rng.uniform(*lamp.vignette),
        vignette_x=rng.uniform(-0.2, 0.2),
        vignette_y=rng.uniform(-0.2, 0.2),
        floor_shade=rng.uniform(0.45, 0.75),
        blur_sigma=rng.uniform(0.5, 1.2),
        noise_sigma=rng.uniform(0.8, 2.2),
    )
