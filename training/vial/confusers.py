"""Harmless things that a careless classifier would take for a defect.

They are drawn at the same rates on vials of every class, so that their
presence says nothing about the label.
"""

import cv2
import numpy as np

from training.vial.glass import COLUMNS, ROWS, Canvas, bump, step
from training.vial.scene import AXIS, Scene

# Sub-pixel bits of OpenCV's anti-aliased drawing.
SHIFT = 4


def add_confusers(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> list[str]:
    """Draws a random choice on the canvas; returns the names of what was drawn."""
    add_reflections(canvas, scene, rng)
    names = ["reflections"]
    if rng.uniform() < 0.45:
        add_bubbles(canvas, scene, rng)
        names.append("bubbles")
    if rng.uniform() < 0.45:
        add_dust(canvas, rng)
        names.append("dust")
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
        ring = np.zeros(canvas.through.shape[:2], np.uint8)
        centre = (round(x * 2**SHIFT), round(y * 2**SHIFT))
        cv2.circle(ring, centre, round(radius * 2**SHIFT), 255, 2, cv2.LINE_AA, SHIFT)
        near = slice(int(y) - 14, int(y) + 15)
        shade = ring[near].astype(np.float32)[..., None] * np.float32(rng.uniform(0.25, 0.5) / 255)
        canvas.through[near] *= 1 - shade


def add_dust(canvas: Canvas, rng: np.random.Generator) -> None:
    """Faint spots far out of focus, on the glass or on the lens."""
    height, width = canvas.through.shape[:2]
    for _ in range(rng.integers(1, 4)):
        sigma = rng.uniform(9, 20)
        x, y = rng.uniform(40, width - 40), rng.uniform(260, height - 120)
        reach = int(3 * sigma)
        rows = slice(max(int(y) - reach, 0), min(int(y) + reach, height))
        columns = slice(max(int(x) - reach, 0), min(int(x) + reach, width))
        across = bump(np.arange(columns.start, columns.stop, dtype=np.float32), x, sigma * 1.4)
        down = bump(np.arange(rows.start, rows.stop, dtype=np.float32), y, sigma * 1.4)
        spot = np.outer(down, across) * np.float32(rng.uniform(0.03, 0.09))
        canvas.through[rows, columns] *= 1 - spot[..., None]
