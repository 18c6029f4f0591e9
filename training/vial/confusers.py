"""Harmless things that a careless classifier would take for a defect.

They are drawn at the same rates on vials of every class, so that their
presence says nothing about the label.
"""

import cv2
import numpy as np

from training.vial.glass import COLUMNS, ROWS, Canvas, bump, step
from training.vial.scene import AXIS, CANVAS_HEIGHT, CANVAS_WIDTH, Scene

# Sub-pixel bits of OpenCV's anti-aliased drawing.
SHIFT = 4


def add_confusers(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> list[str]:
    """Draws a random choice on the canvas; returns the names of what was drawn."""
    add_reflections(canvas, scene, rng)
    names = ["reflections"]
    for name, share, add in (
        ("bubbles", 0.45, add_bubbles),
        ("dust", 0.45, add_dust),
        ("scratches", 0.35, add_scratches),
    ):
        if rng.uniform() < share:
            add(canvas, scene, rng)
            names.append(name)
    if scene.lot.print_lines and add_print(canvas, scene, rng):
        names.append("print")
    return names


def add_reflections(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Soft vertical streaks of room light on the outer glass."""
    vial = scene.vial
    top, bottom = int(vial.shoulder_top), int(vial.base) - 20
    rows = slice(top, bottom)
    along = step(ROWS[rows], top, top + 80) * step(ROWS[rows], bottom, bottom - 60)
    u = COLUMNS[None, :] / canvas.half_width[rows, None]
    for side in (-1, 1):
        place = side * rng.uniform(0.42, 0.72)
        streak = bump(u, place, rng.uniform(0.02, 0.05)) * rng.uniform(0.02, 0.11)
        canvas.glow[rows] += (streak * along[:, None])[..., None]


def add_bubbles(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """A few small rings that ride on the meniscus."""
    vial = scene.vial
    for _ in range(rng.integers(1, 5)):
        u = rng.uniform(-0.85, 0.85)
        radius = rng.uniform(3, 8)
        x = AXIS + u * vial.radius
        y = vial.fill_line - vial.meniscus_rise * u**4 + rng.uniform(-1, 5)
        ring = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
        centre = (round(x * 2**SHIFT), round(y * 2**SHIFT))
        cv2.circle(ring, centre, round(radius * 2**SHIFT), 255, 2, cv2.LINE_AA, SHIFT)
        darken(canvas, ring, slice(int(y) - 14, int(y) + 15), rng.uniform(0.25, 0.5))


def add_dust(canvas: Canvas, _scene: Scene, rng: np.random.Generator) -> None:
    """Faint spots far out of focus, on the glass or on the lens."""
    for _ in range(rng.integers(1, 4)):
        sigma = rng.uniform(9, 20)
        x, y = rng.uniform(40, CANVAS_WIDTH - 40), rng.uniform(260, CANVAS_HEIGHT - 120)
        reach = int(3 * sigma)
        rows = slice(max(int(y) - reach, 0), min(int(y) + reach, CANVAS_HEIGHT))
        columns = slice(max(int(x) - reach, 0), min(int(x) + reach, CANVAS_WIDTH))
        across = bump(np.arange(columns.start, columns.stop, dtype=np.float32), x, sigma * 1.4)
        down = bump(np.arange(rows.start, rows.stop, dtype=np.float32), y, sigma * 1.4)
        spot = np.outer(down, across) * np.float32(rng.uniform(0.03, 0.09))
        canvas.through[rows, columns] *= 1 - spot[..., None]


def add_scratches(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Fine lines on the holder that the vial stands on."""
    first = int(scene.vial.base) + 8
    lines = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    for _ in range(rng.integers(1, 6)):
        start = np.array([rng.uniform(20, CANVAS_WIDTH - 20), rng.uniform(first + 6, CANVAS_HEIGHT - 14)])
        angle, length = rng.uniform(-0.5, 0.5), rng.uniform(20, 140)
        ends = np.stack([start, start + length * np.array([np.cos(angle), np.sin(angle)])])
        points = np.round(ends * 2**SHIFT).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(lines, [points], False, 255, int(rng.integers(1, 3)), cv2.LINE_AA, SHIFT)
    darken(canvas, lines, slice(first, CANVAS_HEIGHT), rng.uniform(0.2, 0.6))


def add_print(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> bool:
    """The lot's code on the glass above the liquid; False where there is no room for it."""
    vial, lot = scene.vial, scene.lot
    height = 22
    top = vial.body_top + rng.uniform(10, 30)
    bottom = top + height * len(lot.print_lines)
    if bottom > vial.fill_line - vial.meniscus_rise - 16:
        return False
    letters = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    left = int(AXIS + rng.uniform(-0.55, -0.1) * vial.radius)
    for number, line in enumerate(lot.print_lines):
        place = (left, int(top + height * (number + 1)) - 5)
        cv2.putText(letters, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, 255, 2, cv2.LINE_AA)
    rows = slice(int(top) - 2, int(bottom) + 6)
    cover = letters[rows].astype(np.float32)[..., None] * np.float32(rng.uniform(0.45, 0.8) / 255)
    canvas.through[rows] *= 1 - cover * (1 - np.array(lot.ink, np.float32))
    return True


def darken(canvas: Canvas, mask: np.ndarray, rows: slice, depth: float) -> None:
    """Takes up to `depth` of the light under the mask."""
    canvas.through[rows] *= 1 - mask[rows].astype(np.float32)[..., None] * np.float32(depth / 255)
