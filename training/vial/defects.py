"""Draws the defects: particles in the liquid, cracks and chips in the glass.

Every shape is built with an exact largest extent, measured in the picture: the
outline is scaled to it before it is drawn. A defect that shows too little where
it happens to lie (CONTRAST_FLOOR) is taken back and drawn elsewhere: what
nobody could see is not called a defect.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from training.rows import Defect
from training.vial.glass import Canvas
from training.vial.scene import AXIS, CANVAS_HEIGHT, CANVAS_WIDTH, Scene, Vial

# The smallest defect that must be found, and that is drawn unless a smaller one is asked for.
SMALLEST_PX = 14.0
# Mean change over the mask, in 8-bit levels, before focus and noise.
CONTRAST_FLOOR = 60.0
TRIES = 40
SHIFT = 4


@dataclass(frozen=True)
class Wanted:
    """One defect of one kind, its extent between two sizes in px of the picture."""

    kind: str
    low: float
    high: float
    # Of a crack: "meniscus" or "print", where it is hard to see; None: anywhere.
    place: str | None = None


@dataclass
class Drawing:
    """The canvas being drawn on, where defects cover it (255), and the light behind it."""

    canvas: Canvas
    scene: Scene
    cover: np.ndarray
    place: str | None = None


@dataclass(frozen=True)
class Shape:
    """A defect as it lies on the canvas: masks, each with what it does to the light under it."""

    extent_px: float
    centre: np.ndarray
    # (mask, value, keep): mixes `value` into what passes through, or multiplies it by `keep`.
    strokes: list[tuple[np.ndarray, float | None, float]]


@dataclass(frozen=True)
class Kind:
    """`extents`: what is drawn when no size is asked for."""

    label: str
    extents: tuple[float, float]
    shape: Callable[[Drawing, float, np.random.Generator], Shape]


def add_defects(
    canvas: Canvas, scene: Scene, label: str, rng: np.random.Generator, wanted: Wanted | None
) -> tuple[list[Defect], np.ndarray]:
    """Draws what makes a vial `label`; returns the defects and their cover on the canvas."""
    place = wanted.place if wanted else None
    drawing = Drawing(canvas, scene, np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8), place)
    if wanted:
        return [add(drawing, wanted.kind, (wanted.low, wanted.high), rng)], drawing.cover
    defects = []
    if label == "particle":
        for _ in range(rng.choice((1, 2, 3), p=(0.75, 0.17, 0.08))):
            defects.append(add_one_of(drawing, {"speck": 0.7, "fibre": 0.3}, rng))
    elif label == "chips_cracks":
        shares = {"crack": 0.45, "chip_rim": 0.15, "chip_shoulder": 0.2, "chip_heel": 0.2}
        for _ in range(rng.choice((1, 2), p=(0.88, 0.12))):
            defects.append(add_one_of(drawing, shares, rng))
    return defects, drawing.cover


def add_one_of(drawing: Drawing, shares: dict[str, float], rng: np.random.Generator) -> Defect:
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    return add(drawing, kind, KINDS[kind].extents, rng)


def add(drawing: Drawing, kind: str, extents: tuple[float, float], rng: np.random.Generator) -> Defect:
    """Draws one defect where it shows; raises after TRIES places where it did not."""
    for _ in range(TRIES):
        shape = KINDS[kind].shape(drawing, log_uniform(rng, *extents), rng)
        # A crack that the outline cut short is none of those wanted: not even to be drawn.
        contrast = drawn(drawing, shape) if extents[0] - 1e-6 <= shape.extent_px else None
        if contrast is not None:
            x, y = drawing.scene.pose.matrix() @ (shape.centre[0], shape.centre[1], 1.0)
            centre = (round(float(x), 1), round(float(y), 1))
            return Defect(kind, round(shape.extent_px, 2), round(contrast, 1), centre)
    raise RuntimeError(f"no place where a {kind} of {extents} px shows by {CONTRAST_FLOOR} levels")


def drawn(drawing: Drawing, shape: Shape) -> float | None:
    """Draws the shape and returns its contrast; None, and nothing drawn, where that is too little."""
    cover = np.maximum.reduce([mask for mask, _, _ in shape.strokes])
    x, y, width, height = cv2.boundingRect(cover)
    area = (slice(y, y + height), slice(x, x + width))
    through = drawing.canvas.through
    changed = through[area].copy()
    for mask, value, keep in shape.strokes:
        alpha = mask[area].astype(np.float32)[..., None] / 255
        target = changed * np.float32(keep) if value is None else np.float32(value)
        changed += (target - changed) * alpha
    inside = cover[area] > 127
    if not inside.any():
        return None
    difference = np.abs(changed - through[area]).max(-1)[inside].mean()
    contrast = float(difference) * 255 * drawing.scene.camera.panel_level
    if contrast < CONTRAST_FLOOR:
        return None
    through[area] = changed
    drawing.cover[area] = np.maximum(drawing.cover[area], cover[area])
    return contrast


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def scaled_to(points: np.ndarray, extent: float) -> np.ndarray:
    """`points` about their middle, scaled so that the two farthest are `extent` apart."""
    return (points - (points.min(0) + points.max(0)) / 2) * (extent / extent_of(points))


def extent_of(points: np.ndarray) -> float:
    """The distance of the two points farthest apart."""
    return float(np.linalg.norm(points[:, None] - points[None, :], axis=-1).max())


def filled(points: np.ndarray) -> np.ndarray:
    mask = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    cv2.fillPoly(mask, [fixed_point(points)], 255, cv2.LINE_AA, SHIFT)
    return mask


def stroked(lines: list[np.ndarray], thickness: int) -> np.ndarray:
    mask = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    cv2.polylines(mask, [fixed_point(line) for line in lines], False, 255, thickness, cv2.LINE_AA, SHIFT)
    return mask


def fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**SHIFT).astype(np.int32).reshape(-1, 1, 2)


def light_at(drawing: Drawing, centre: np.ndarray) -> float:
    """How bright the glass is around a place, 0 to 1."""
    x, y = int(centre[0]), int(centre[1])
    return float(drawing.canvas.through[y - 4 : y + 5, x - 4 : x + 5].mean())


def blob(rng: np.random.Generator, corners: int, roughness: float) -> np.ndarray:
    """An irregular closed outline about the origin."""
    spread = 2 * np.pi / corners
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * spread
    radii = 1 + roughness * rng.uniform(-1, 1, corners)
    squash = rng.uniform(0.55, 1.0)
    turn = rng.uniform(0, 2 * np.pi)
    flat = np.column_stack([np.cos(angles), np.sin(angles) * squash]) * radii[:, None]
    return flat @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def wander(rng: np.random.Generator, steps: int, heading: float, wobble: float) -> np.ndarray:
    """A path of unit steps whose heading drifts."""
    headings = heading + np.cumsum(rng.normal(0, wobble, steps))
    walk = np.column_stack([np.cos(headings), np.sin(headings)]).cumsum(0)
    return np.vstack([np.zeros((1, 2)), walk])


def place_in_liquid(drawing: Drawing, is_settled: bool, rng: np.random.Generator) -> np.ndarray:
    vial = drawing.scene.vial
    if is_settled:
        u, row = rng.uniform(-0.72, 0.72), vial.base - rng.uniform(38, 54)
    else:
        u, row = rng.uniform(-0.76, 0.76), rng.uniform(vial.fill_line + 50, vial.base - 80)
    return np.array([AXIS + u * vial.radius, row])


def tone(drawing: Drawing, centre: np.ndarray, extent: float, rng: np.random.Generator) -> tuple[float | None, float]:
    """Value and keep of a particle: dark before the light, light before the dark."""
    # Small ones are opaque, large ones let some light pass.
    darkness = rng.uniform(0.08, 0.30 if extent < 24 else 0.60)
    return (None, darkness) if light_at(drawing, centre) > 0.45 else (1.05 - darkness, 0.0)


def speck(drawing: Drawing, extent: float, rng: np.random.Generator) -> Shape:
    """An irregular grain, floating in the liquid or settled on the bottom."""
    centre = place_in_liquid(drawing, rng.uniform() < 0.3, rng)
    outline = scaled_to(blob(rng, int(rng.integers(7, 12)), 0.22), extent / drawing.scene.pose.scale)
    return Shape(extent, centre, [(filled(outline + centre), *tone(drawing, centre, extent, rng))])


def fibre(drawing: Drawing, extent: float, rng: np.random.Generator) -> Shape:
    is_settled = rng.uniform() < 0.3
    centre = place_in_liquid(drawing, is_settled, rng)
    heading = rng.uniform(-0.4, 0.4) if is_settled else rng.uniform(0, np.pi)
    line = scaled_to(wander(rng, 24, heading, 0.16), extent / drawing.scene.pose.scale) + centre
    mask = stroked([line], int(rng.integers(4, 6)))
    return Shape(extent, centre, [(mask, *tone(drawing, centre, extent, rng))])


def crack(drawing: Drawing, extent: float, rng: np.random.Generator) -> Shape:
    """A branching line, dark with a bright flank, on the glass below the crimp."""
    vial, scale = drawing.scene.vial, drawing.scene.pose.scale
    centre, heading = lie_of_crack(drawing, rng)
    stem = wander(rng, 22, heading, 0.30)
    lines = [stem]
    for _ in range(rng.integers(2, 5)):
        start = int(rng.integers(4, 18))
        side = rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
        lines.append(wander(rng, int(rng.integers(4, 11)), heading + side, 0.2) + stem[start])
    ends = np.cumsum([len(line) for line in lines])[:-1]
    points = scaled_to(np.vstack(lines), extent / scale) + centre
    # A crack ends where the glass does.
    points = within_glass(drawing, vial, points)
    lines = np.split(points, ends)
    thickness = int(rng.integers(3, 5))
    strokes = [
        (stroked([line + (2.5, 1.0) for line in lines], 2), 1.0, 0.0),
        (stroked(lines, thickness), None, rng.uniform(0.15, 0.45)),
    ]
    return Shape(extent_of(points) * scale, (points.min(0) + points.max(0)) / 2, strokes)


def lie_of_crack(drawing: Drawing, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Its centre, and which way it runs: along the meniscus, across the print, or anyhow."""
    vial = drawing.scene.vial
    if drawing.place == "meniscus":
        u = rng.uniform(-0.7, 0.7)
        row = vial.fill_line - vial.meniscus_rise * u**4 + rng.uniform(-10, 14)
        heading = rng.uniform(-0.35, 0.35)
    elif drawing.place == "print":
        u, row = rng.uniform(-0.5, 0.35), vial.body_top + rng.uniform(15, 75)
        heading = rng.uniform(0, 2 * np.pi)
    else:
        row, u = rng.uniform(vial.shoulder_top + 20, vial.base - 70), rng.uniform(-0.7, 0.7)
        heading = rng.uniform(0, 2 * np.pi)
    return np.array([AXIS + u * drawing.canvas.half_width[int(row)], row]), heading


def chip(site: str) -> Callable[[Drawing, float, np.random.Generator], Shape]:
    """A bite out of the outline at rim, shoulder or heel: light passes, with dark shell lines."""

    def shape(drawing: Drawing, extent: float, rng: np.random.Generator) -> Shape:
        vial, scale = drawing.scene.vial, drawing.scene.pose.scale
        spans = {
            "rim": (vial.neck_top + 14, vial.neck_top + 32),
            "shoulder": (vial.shoulder_top + 10, vial.body_top + 30),
            "heel": (vial.base - 60, vial.base - 14),
        }
        row = rng.uniform(*spans[site])
        side = rng.choice((-1, 1))
        edge = AXIS + side * drawing.canvas.half_width[int(row)]

        outline = scaled_to(blob(rng, int(rng.integers(7, 11)), 0.18), extent / scale)
        bite = bitten(drawing, vial, outline, edge, side, row)
        while extent_of(bite) * scale < extent:
            outline = outline * 1.05
            bite = bitten(drawing, vial, outline, edge, side, row)
        centre = (bite.min(0) + bite.max(0)) / 2
        # From the outermost point on, so that the inner side is one run of points.
        bite = np.roll(bite, -int(np.argmax(bite[:, 0] * side)), axis=0)
        inwards = (bite[:, 0] - centre[0]) * side < 0.15 * np.ptp(bite[:, 0])
        # The shell: a dark inner rim, and a ripple parallel to it.
        shell = bite[inwards]
        thickness = 2 if extent < 26 else 3
        strokes = [
            (filled(bite), rng.uniform(0.90, 1.0), 0.0),
            (stroked([shell, (shell - centre) * 0.45 + centre], thickness), None, rng.uniform(0.1, 0.3)),
        ]
        return Shape(extent_of(bite) * scale, centre, strokes)

    return shape


def bitten(drawing: Drawing, vial: Vial, outline: np.ndarray, edge: float, side: int, row: float) -> np.ndarray:
    """The outline laid over the edge of the glass, most of it inside."""
    return within_glass(drawing, vial, outline + (edge - side * 0.30 * np.ptp(outline[:, 0]), row))


def within_glass(drawing: Drawing, vial: Vial, points: np.ndarray) -> np.ndarray:
    """`points`, those beyond the outline of the glass moved onto it."""
    y = np.clip(points[:, 1], vial.neck_top + 7, vial.base - 4)
    reach = drawing.canvas.half_width[y.astype(int)]
    return np.column_stack([np.clip(points[:, 0], AXIS - reach, AXIS + reach), y])


KINDS = {
    "speck": Kind("particle", (SMALLEST_PX, 60), speck),
    "fibre": Kind("particle", (26, 90), fibre),
    "crack": Kind("chips_cracks", (40, 280), crack),
    "chip_rim": Kind("chips_cracks", (SMALLEST_PX, 40), chip("rim")),
    "chip_shoulder": Kind("chips_cracks", (SMALLEST_PX, 64), chip("shoulder")),
    "chip_heel": Kind("chips_cracks", (SMALLEST_PX, 64), chip("heel")),
}
# What can be drawn at a size that is asked for, in px: cracks and fibres are long by nature.
DRAWABLE = {
    "speck": (8.0, 70.0),
    "fibre": (20.0, 140.0),
    "crack": (32.0, 280.0),
    "chip_rim": (8.0, 45.0),
    "chip_shoulder": (8.0, 70.0),
    "chip_heel": (8.0, 70.0),
}
