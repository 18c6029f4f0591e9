"""Draws the defects: particles in the liquid, cracks and chips in the glass.

Every shape is built with an exact largest extent, measured in the picture,
of at least SMALLEST_PX. The outline is scaled to it before it is drawn.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from training.vial.glass import Canvas
from training.vial.scene import AXIS, CANVAS_HEIGHT, CANVAS_WIDTH, Scene, Vial

SMALLEST_PX = 14.0
SHIFT = 4


@dataclass(frozen=True)
class Defect:
    """One defect, as the metadata tells it; lengths in pixels of the picture."""

    kind: str
    extent_px: float
    centre: tuple[float, float]


@dataclass
class Drawing:
    """The canvas being drawn on and where defects cover it (255)."""

    canvas: Canvas
    cover: np.ndarray


def add_defects(
    canvas: Canvas, scene: Scene, label: str, rng: np.random.Generator
) -> tuple[list[Defect], np.ndarray]:
    """Draws what makes a vial `label`; returns the defects and their cover on the canvas."""
    drawing = Drawing(canvas, np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8))
    defects = []
    if label == "particle":
        for _ in range(rng.choice((1, 2, 3), p=(0.75, 0.17, 0.08))):
            defects.append(add_particle(drawing, scene, rng))
    elif label == "chips_cracks":
        add = add_crack if rng.uniform() < 0.55 else add_chip
        defects.append(add(drawing, scene, rng))
    return defects, drawing.cover


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def scaled_to(points: np.ndarray, extent: float) -> np.ndarray:
    """`points` about their middle, scaled so that the two farthest are `extent` apart."""
    return (points - (points.min(0) + points.max(0)) / 2) * (extent / extent_of(points))


def extent_of(points: np.ndarray) -> float:
    """The distance of the two points farthest apart."""
    return float(np.linalg.norm(points[:, None] - points[None, :], axis=-1).max())


def placed(scene: Scene, kind: str, extent: float, centre: np.ndarray) -> Defect:
    x, y = scene.pose.matrix() @ (centre[0], centre[1], 1.0)
    return Defect(kind, round(extent, 2), (round(float(x), 1), round(float(y), 1)))


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


def shade(drawing: Drawing, mask: np.ndarray, value: float | None = None, keep: float = 0.0) -> None:
    """Mixes `value` into what passes through, or multiplies it by `keep`, under the mask."""
    x, y, width, height = cv2.boundingRect(mask)
    area = (slice(y, y + height), slice(x, x + width))
    alpha = mask[area].astype(np.float32)[..., None] / 255
    through = drawing.canvas.through
    target = through[area] * np.float32(keep) if value is None else np.float32(value)
    through[area] += (target - through[area]) * alpha
    drawing.cover[area] = np.maximum(drawing.cover[area], mask[area])


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


def add_particle(drawing: Drawing, scene: Scene, rng: np.random.Generator) -> Defect:
    """A speck or a fibre, floating in the liquid or settled on the bottom."""
    vial = scene.vial
    is_fibre = rng.uniform() < 0.3
    is_settled = rng.uniform() < 0.3
    extent = log_uniform(rng, 26, 90) if is_fibre else log_uniform(rng, SMALLEST_PX, 56)
    if is_settled:
        place = (rng.uniform(-0.72, 0.72), vial.base - rng.uniform(38, 54))
    else:
        place = (rng.uniform(-0.76, 0.76), rng.uniform(vial.fill_line + 50, vial.base - 80))
    centre = np.array([AXIS + place[0] * vial.radius, place[1]])

    on_canvas = extent / scene.pose.scale
    if is_fibre:
        heading = rng.uniform(-0.4, 0.4) if is_settled else rng.uniform(0, np.pi)
        line = scaled_to(wander(rng, 24, heading, 0.16), on_canvas) + centre
        mask = stroked([line], int(rng.integers(4, 6)))
    else:
        mask = filled(scaled_to(blob(rng, int(rng.integers(7, 12)), 0.22), on_canvas) + centre)
    # Small specks are opaque, large ones let some light pass.
    darkness = rng.uniform(0.08, 0.22 if extent < 24 else 0.42)
    if light_at(drawing, centre) > 0.45:
        shade(drawing, mask, keep=darkness)
    else:
        shade(drawing, mask, value=1.05 - darkness)
    return placed(scene, "fibre" if is_fibre else "speck", extent, centre)


def add_crack(drawing: Drawing, scene: Scene, rng: np.random.Generator) -> Defect:
    """A branching line, dark with a bright flank, anywhere on the glass below the crimp."""
    vial = scene.vial
    extent = log_uniform(rng, 60, 280)
    row = rng.uniform(vial.shoulder_top + 20, vial.base - 70)
    half = drawing.canvas.half_width[int(row)]
    centre = np.array([AXIS + rng.uniform(-0.7, 0.7) * half, row])

    heading = rng.uniform(0, 2 * np.pi)
    stem = wander(rng, 22, heading, 0.30)
    lines = [stem]
    for _ in range(rng.integers(2, 5)):
        start = int(rng.integers(4, 18))
        side = rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
        lines.append(wander(rng, int(rng.integers(4, 11)), heading + side, 0.2) + stem[start])
    ends = np.cumsum([len(line) for line in lines])[:-1]
    drawn = scaled_to(np.vstack(lines), extent / scene.pose.scale) + centre
    # A crack ends where the glass does.
    drawn = within_glass(drawing, vial, drawn)
    lines = np.split(drawn, ends)
    thickness = int(rng.integers(3, 5))
    shade(drawing, stroked([line + (2.5, 1.0) for line in lines], 2), value=1.0)
    shade(drawing, stroked(lines, thickness), keep=rng.uniform(0.15, 0.40))
    return placed(scene, "crack", extent_of(drawn) * scene.pose.scale, (drawn.min(0) + drawn.max(0)) / 2)


def add_chip(drawing: Drawing, scene: Scene, rng: np.random.Generator) -> Defect:
    """A bite out of the outline at rim, shoulder or heel: light passes, with dark shell lines."""
    vial = scene.vial
    site = rng.choice(("rim", "shoulder", "heel"))
    spans = {
        "rim": (vial.neck_top + 8, vial.neck_top + 24),
        "shoulder": (vial.shoulder_top + 10, vial.body_top + 30),
        "heel": (vial.base - 60, vial.base - 14),
    }
    row = rng.uniform(*spans[site])
    side = rng.choice((-1, 1))
    extent = log_uniform(rng, 18, 40) if site == "rim" else log_uniform(rng, SMALLEST_PX, 64)
    edge = AXIS + side * drawing.canvas.half_width[int(row)]

    shape = scaled_to(blob(rng, int(rng.integers(7, 11)), 0.18), extent / scene.pose.scale)
    bite = within_glass(drawing, vial, shape + (edge - side * 0.30 * np.ptp(shape[:, 0]), row))
    while extent_of(bite) * scene.pose.scale < extent:
        shape = shape * 1.05
        bite = within_glass(drawing, vial, shape + (edge - side * 0.30 * np.ptp(shape[:, 0]), row))
    centre = (bite.min(0) + bite.max(0)) / 2
    # From the outermost point on, so that the inner side is one run of points.
    bite = np.roll(bite, -int(np.argmax(bite[:, 0] * side)), axis=0)
    inwards = (bite[:, 0] - centre[0]) * side < 0.15 * np.ptp(bite[:, 0])
    shade(drawing, filled(bite), value=rng.uniform(0.90, 1.0))
    # The shell: a dark inner rim, and a ripple parallel to it.
    shell = bite[inwards]
    thickness = 2 if extent < 26 else 3
    shade(drawing, stroked([shell, (shell - centre) * 0.45 + centre], thickness), keep=0.2)
    return placed(scene, f"chip_{site}", extent_of(bite) * scene.pose.scale, centre)


def within_glass(drawing: Drawing, vial: Vial, points: np.ndarray) -> np.ndarray:
    """`points`, those beyond the outline of the glass moved onto it."""
    y = np.clip(points[:, 1], vial.neck_top + 7, vial.base - 4)
    reach = drawing.canvas.half_width[y.astype(int)]
    return np.column_stack([np.clip(points[:, 0], AXIS - reach, AXIS + reach), y])
