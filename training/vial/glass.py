"""Draws the clean vial: how much of the back light each canvas pixel lets through.

A `Canvas` holds two layers. `through` multiplies the light behind the vial
(1 outside it), `glow` is light added in front of it (cap, reflections).
"""

from dataclasses import dataclass

import numpy as np

from training.vial.scene import AXIS, CANVAS_HEIGHT, CANVAS_WIDTH, Vial

ROWS = np.arange(CANVAS_HEIGHT, dtype=np.float32)
COLUMNS = np.arange(CANVAS_WIDTH, dtype=np.float32) - np.float32(AXIS)
# Profiles across the vial are tables over |u|, the distance from the axis in radii.
TABLE_SIZE = 1024
TABLE_U = np.linspace(0, 2, TABLE_SIZE, dtype=np.float32)


@dataclass
class Canvas:
    through: np.ndarray
    glow: np.ndarray
    # Half width of the glass at each row, 0 where there is none.
    half_width: np.ndarray


def step(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smooth rise from 0 at `start` to 1 at `end`, which may lie below `start`."""
    t = np.clip((values - np.float32(start)) / np.float32(end - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((values - np.float32(centre)) / np.float32(width)) ** 2))


def outline(vial: Vial) -> np.ndarray:
    """Half width of the glass at every canvas row, below the crimp."""
    shoulder = step(ROWS, vial.shoulder_top, vial.body_top)
    half = vial.neck_radius + (vial.radius - vial.neck_radius) * shoulder
    # The flange that the crimp grips shows as a short bulge under it.
    half += 0.16 * vial.neck_radius * step(ROWS, vial.neck_top + 16, vial.neck_top + 6)
    into_corner = np.clip(ROWS - (vial.base - vial.corner), 0, vial.corner)
    half -= vial.corner - np.sqrt(np.maximum(vial.corner**2 - into_corner**2, 0))
    half[(ROWS < vial.neck_top) | (ROWS >= vial.base)] = 0
    return half.astype(np.float32)


def empty_profile() -> np.ndarray:
    """Glass and air: clear in the middle, a dark wall with one bright line in it."""
    profile = 0.95 - 0.10 * step(TABLE_U, 0.55, 0.86)
    profile -= 0.62 * step(TABLE_U, 0.86, 0.95)
    profile += 0.30 * bump(TABLE_U, 0.935, 0.012)
    profile -= 0.10 * step(TABLE_U, 0.96, 1.0)
    return outside_clear(profile)


def liquid_profile() -> np.ndarray:
    """A full cylinder is a lens: its rim shows what lies beside the light panel."""
    profile = 0.99 - 0.16 * step(TABLE_U, 0.45, 0.78)
    profile -= 0.55 * step(TABLE_U, 0.76, 0.92)
    profile += 0.16 * bump(TABLE_U, 0.945, 0.014)
    profile -= 0.12 * step(TABLE_U, 0.95, 1.0)
    return outside_clear(profile)


def outside_clear(profile: np.ndarray) -> np.ndarray:
    """Light passes beside the vial; the seam is a pixel or two wide."""
    beside = step(TABLE_U, 0.994, 1.008)
    return (profile * (1 - beside) + beside).astype(np.float32)


EMPTY_PROFILE = empty_profile()
LIQUID_PROFILE = liquid_profile()


def draw_vial(vial: Vial) -> Canvas:
    """The clean vial, upright on its canvas."""
    half = outline(vial)
    u = COLUMNS[None, :] / np.maximum(half, 1e-3)[:, None]
    distance = np.minimum(np.abs(u), np.float32(1.99))
    distance[half == 0] = 1.99
    table = (distance * ((TABLE_SIZE - 1) / 2)).astype(np.int32)
    inside = distance < 1.0

    light = EMPTY_PROFILE[table]
    wet = draw_liquid(vial, light, table, distance)
    light *= row_shading(vial, half)[:, None] * inside + ~inside
    draw_base(vial, light, distance, inside)

    through = np.empty((CANVAS_HEIGHT, CANVAS_WIDTH, 3), np.float32)
    for channel in range(3):
        glass = np.float32(vial.glass_tint[channel] - 1) * inside + 1
        liquid = np.float32(vial.liquid_tint[channel] - 1) * wet + 1
        through[..., channel] = light * glass * liquid
    canvas = Canvas(through, np.zeros_like(through), half)
    draw_plug(vial, canvas)
    draw_closure(vial, canvas)
    return canvas


def draw_liquid(vial: Vial, light: np.ndarray, table: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Changes `light` below the meniscus in place; returns how wet each pixel is."""
    near_wall = np.minimum(distance, 1) ** 4
    surface = np.float32(vial.fill_line) - np.float32(vial.meniscus_rise) * near_wall
    depth = ROWS[:, None] - surface
    inside = distance < 1.0
    wet = np.clip(depth + 0.5, 0, 1) * inside
    light += (LIQUID_PROFILE[table] - light) * wet
    # The surface seen edge on: a dark line with a bright one above it.
    first = max(int(vial.fill_line - vial.meniscus_rise) - 20, 0)
    band = slice(first, int(vial.fill_line) + 40)
    line = bump(depth[band], 5, 5) * 0.58 + bump(depth[band], 17, 7) * 0.18 - bump(depth[band], -6, 3) * 0.06
    light[band] *= 1 - line * inside[band]
    return wet


def row_shading(vial: Vial, half: np.ndarray) -> np.ndarray:
    """Where the outline slopes, glass turns light away from the camera."""
    slope = np.abs(np.gradient(half))
    slope[ROWS < vial.shoulder_top - 4] = 0
    slope[ROWS > vial.body_top + 4] = 0
    neck = step(ROWS, vial.shoulder_top + 10, vial.shoulder_top - 10) * 0.12
    flange = bump(ROWS, vial.neck_top + 14, 5) * 0.35
    return (1 - np.clip(slope * 0.20, 0, 0.42) - neck - flange).astype(np.float32)


def draw_base(vial: Vial, light: np.ndarray, distance: np.ndarray, inside: np.ndarray) -> None:
    """The thick bottom: a dark curved edge of the inner floor, a bright heel under it."""
    first = int(vial.base) - 70
    band = slice(first, int(vial.base))
    sag = 10 * (1 - np.minimum(distance[band], 1) ** 2)
    height = np.float32(vial.base) - ROWS[band, None] + sag
    shade = bump(height, 34, 5) * 0.40 + bump(height, 20, 6) * 0.16 + step(height, 16, 6) * 0.45
    light[band] *= 1 - shade * inside[band]


def draw_plug(vial: Vial, canvas: Canvas) -> None:
    """The rubber stopper's plug, seen through the neck."""
    rows = slice(int(vial.neck_top), int(vial.neck_top + vial.plug_depth))
    u = np.abs(COLUMNS[None, :]) / np.float32(vial.neck_radius)
    alpha = step(u, 0.80, 0.76)
    rubber = 0.20 - 0.06 * u
    fade = np.ones(rows.stop - rows.start, np.float32)
    fade[-3:] = (0.85, 0.6, 0.3)
    alpha = (alpha * fade[:, None])[..., None]
    canvas.through[rows] = canvas.through[rows] * (1 - alpha) + rubber[..., None] * alpha


def draw_closure(vial: Vial, canvas: Canvas) -> None:
    """Crimped aluminium under a plastic flip-off button; both are opaque."""
    crimp = np.array((0.62, 0.63, 0.65), np.float32)
    draw_cylinder(canvas, (vial.crimp_top, vial.neck_top + 6), vial.crimp_radius, crimp, sheen=0.45)
    button = np.array(vial.cap_colour, np.float32)
    draw_cylinder(canvas, (vial.cap_top, vial.crimp_top), vial.crimp_radius * 1.03, button, sheen=0.16)


def draw_cylinder(canvas: Canvas, span: tuple[float, float], radius: float, colour: np.ndarray, sheen: float) -> None:
    rows = slice(int(span[0]), int(span[1]))
    height = ROWS[rows, None] - rows.start
    last = rows.stop - rows.start - 1
    # Rounded upper and lower edges.
    inset = 5 * np.maximum(step(height, 6, 0), step(height, last - 6, last))
    half = np.float32(radius) - inset
    u = COLUMNS[None, :] / half
    cover = np.clip(half - np.abs(COLUMNS[None, :]) + 0.5, 0, 1)[..., None]
    shade = 0.85 - 0.55 * u * u + sheen * (bump(u, -0.42, 0.12) + 0.5 * bump(u, 0.55, 0.10))
    shade *= 1 - 0.30 * bump(height, last, 5) - 0.15 * bump(height, 0, 4)
    surface = np.clip(shade[..., None] * colour, 0, 1)
    canvas.through[rows] *= 1 - cover
    canvas.glow[rows] = canvas.glow[rows] * (1 - cover) + surface * cover
