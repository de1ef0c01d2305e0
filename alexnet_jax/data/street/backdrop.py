"""The street itself: sky, buildings, trees, pavement and road behind, poles and bushes in front."""

from __future__ import annotations

import numpy as np

from alexnet_jax.data.street.canvas import Canvas
from alexnet_jax.data.street.light import Colour, blend, paint, pick, shade, vary

_WALLS: tuple[Colour, ...] = (
    (176, 96, 72),
    (206, 186, 152),
    (222, 214, 198),
    (142, 138, 134),
    (166, 124, 98),
    (120, 140, 156),
    (204, 160, 120),
)
_LEAVES: tuple[Colour, ...] = ((66, 118, 58), (92, 136, 56), (48, 92, 60), (170, 120, 48))


def paint_backdrop(canvas: Canvas, rng: np.random.Generator, horizon: float) -> Colour:
    """Everything behind the objects; `horizon` in image sides. Returns the ground's colour."""
    _sky(canvas, rng, horizon)
    place = pick(rng, ("city", "city", "suburb", "park", "wall"))
    foot = horizon + float(rng.uniform(0.0, 0.05))
    if place == "city":
        _buildings(canvas, rng, foot, tall=True)
    elif place == "suburb":
        _buildings(canvas, rng, foot, tall=False)
        _trees(canvas, rng, foot, int(rng.integers(1, 4)))
    elif place == "park":
        canvas.rectangle(
            0, foot - float(rng.uniform(0.02, 0.12)), 1, foot + 0.01, vary(rng, (84, 116, 70))
        )
        _trees(canvas, rng, foot, int(rng.integers(3, 7)))
    else:
        _hoarding(canvas, rng, foot)
    if rng.random() < 0.3:
        _fence(canvas, rng, foot)
    return _ground(canvas, rng, foot)


def _sky(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    light = canvas.light
    canvas.gradient(horizon + 0.05, light.zenith, light.horizon)
    if not light.night:
        for _ in range(int(rng.integers(0, 3))):
            x, y = rng.uniform(0, 1), rng.uniform(0, max(horizon - 0.1, 0.05))
            for dx, r in ((-0.06, 0.03), (0.0, 0.045), (0.06, 0.03)):
                canvas.disc((x + dx, y), r, blend(light.horizon, (250, 250, 250), 0.5), glow=True)


def _buildings(canvas: Canvas, rng: np.random.Generator, foot: float, tall: bool) -> None:
    x = -float(rng.uniform(0, 0.2))
    while x < 1.0:
        width = float(rng.uniform(0.18, 0.5))
        height = float(rng.uniform(0.25, 0.9) if tall else rng.uniform(0.12, 0.3))
        wall = vary(rng, pick(rng, _WALLS))
        top = foot - height
        canvas.rectangle(x, top, x + width, foot + 0.005, wall)
        if tall:
            canvas.rectangle(x, top, x + width, top + 0.015, shade(wall, 0.7))
        else:
            ridge = top - float(rng.uniform(0.05, 0.14))
            roof = vary(rng, pick(rng, ((130, 66, 50), (86, 84, 90), (112, 92, 74))))
            canvas.polygon([(x - 0.02, top), (x + width / 2, ridge), (x + width + 0.02, top)], roof)
        _windows(canvas, rng, (max(x, -0.1), max(top, -0.05), x + width, foot), wall)
        x += width + float(rng.uniform(-0.01, 0.02) if tall else rng.uniform(0.02, 0.2))


def _windows(
    canvas: Canvas, rng: np.random.Generator, block: tuple[float, float, float, float], wall: Colour
) -> None:
    left, top, right, bottom = block
    columns, rows = (
        max(1, round((right - left) / 0.12)),
        max(1, min(4, round((bottom - top) / 0.15))),
    )
    dx, dy = (right - left) / columns, (bottom - top) / rows
    glass = vary(rng, (84, 96, 110))
    fill = float(rng.uniform(0.45, 0.8))
    lit = rng.random((rows, columns)) < (0.45 if canvas.light.night else 0.04)
    for i in range(rows):
        y = top + (i + 0.25) * dy
        for j in range(columns):
            x = left + (j + 0.5 - fill / 2) * dx
            if lit[i, j]:
                canvas.rectangle(x, y, x + fill * dx, y + 0.5 * dy, (246, 214, 130), glow=True)
            else:
                canvas.rectangle(x, y, x + fill * dx, y + 0.5 * dy, glass)


def _trees(canvas: Canvas, rng: np.random.Generator, foot: float, count: int) -> None:
    for _ in range(count):
        x, size = float(rng.uniform(-0.05, 1.05)), float(rng.uniform(0.08, 0.2))
        leaf = vary(rng, pick(rng, _LEAVES), 18)
        y = foot - size * 1.5
        canvas.rectangle(x - size * 0.1, y, x + size * 0.1, foot + 0.01, vary(rng, (92, 70, 52)))
        canvas.disc((x - size * 0.5, y), size * 0.6, shade(leaf, 0.85))
        canvas.disc((x + size * 0.5, y + size * 0.1), size * 0.6, shade(leaf, 0.9))
        canvas.disc((x, y - size * 0.5), size * 0.75, leaf)


def _hoarding(canvas: Canvas, rng: np.random.Generator, foot: float) -> None:
    """A long wall, plain or with panels."""
    top = foot - float(rng.uniform(0.15, 0.6))
    wall = vary(rng, pick(rng, _WALLS))
    canvas.rectangle(0, top, 1, foot + 0.01, wall)
    step = float(rng.uniform(0.1, 0.4))
    for x in np.arange(rng.uniform(0, step), 1.0, step).tolist():
        if rng.random() < 0.5:
            canvas.rectangle(x, top, x + step * 0.94, foot, vary(rng, wall, 24))
        canvas.rectangle(x, top, x + 0.012, foot, shade(wall, 0.7))
    canvas.rectangle(0, top, 1, top + 0.02, shade(wall, 0.75))


def _fence(canvas: Canvas, rng: np.random.Generator, foot: float) -> None:
    colour = vary(rng, pick(rng, ((70, 72, 74), (230, 228, 220), (120, 88, 60))))
    top = foot - float(rng.uniform(0.06, 0.14))
    step = float(rng.uniform(0.04, 0.09))
    for x in np.arange(rng.uniform(0, step), 1.0, step).tolist():
        canvas.rectangle(x, top, x + step * 0.25, foot + 0.005, colour)
    for y in (top + 0.015, foot - 0.02):
        canvas.rectangle(0, y, 1, y + 0.01, colour)


def _ground(canvas: Canvas, rng: np.random.Generator, foot: float) -> Colour:
    asphalt = vary(rng, shade((104, 104, 106), float(rng.uniform(0.7, 1.3))), 6)
    paving = vary(rng, (168, 162, 154), 12)
    canvas.rectangle(0, foot, 1, 1, asphalt)
    depth = 1.0 - foot
    kerb = foot + depth * float(rng.uniform(0.05, 0.25))
    canvas.rectangle(0, foot, 1, kerb, paving if rng.random() < 0.75 else vary(rng, (96, 124, 72)))
    canvas.rectangle(0, kerb, 1, kerb + 0.012, shade(paving, 0.75))
    if rng.random() < 0.6:
        y = kerb + (1 - kerb) * float(rng.uniform(0.35, 0.8))
        thick = 0.012 + 0.02 * (y - foot)
        step = float(rng.uniform(0.2, 0.6))
        solid = rng.random() < 0.3
        for x in np.arange(-rng.uniform(0, step), 1.0, step).tolist():
            end = x + step * (1.0 if solid else 0.55)
            canvas.rectangle(max(x, 0), y, end, y + thick, (226, 224, 214))
    if rng.random() < 0.15:  # a zebra crossing
        start, width = float(rng.uniform(-0.1, 0.7)), float(rng.uniform(0.03, 0.06))
        for i in range(4):
            x = start + 2.2 * i * width
            top, bottom = (x, kerb + 0.02), (x + (x - 0.5) * 0.4, 1.0)
            canvas.polygon(
                [top, (top[0] + width, top[1]), (bottom[0] + width * 1.5, 1.0), bottom],
                (222, 220, 212),
            )
    return asphalt


def paint_foreground(canvas: Canvas, rng: np.random.Generator) -> None:
    """What stands before the objects, never wide enough to hide one."""
    canvas.owner = 0
    kind = pick(rng, ("pole", "pole", "sign", "bollards", "bush", "rail"))
    x = float(rng.uniform(0.05, 0.95))
    colour = vary(rng, pick(rng, ((70, 74, 78), (150, 152, 156), (96, 76, 58), (60, 88, 70))))
    if kind in ("pole", "sign"):
        width = float(rng.uniform(0.018, 0.05))
        canvas.rectangle(x, 0 if kind == "pole" else 0.3, x + width, 1, colour)
        canvas.rectangle(x, 0 if kind == "pole" else 0.3, x + width * 0.3, 1, shade(colour, 1.3))
        if kind == "sign":
            face, r = paint(rng), float(rng.uniform(0.05, 0.085))
            canvas.disc((x + width / 2, 0.28), r, (236, 236, 232))
            canvas.disc((x + width / 2, 0.28), r * 0.75, face)
    elif kind == "bollards":
        gap, top = float(rng.uniform(0.18, 0.35)), float(rng.uniform(0.78, 0.9))
        for i in range(4):
            canvas.rectangle(x - 0.4 + i * gap, top, x - 0.36 + i * gap, 1, colour)
    elif kind == "bush":
        leaf = vary(rng, pick(rng, _LEAVES), 18)
        y = float(rng.uniform(0.92, 1.05))
        for dx, r in ((-0.1, 0.08), (0.0, 0.11), (0.1, 0.08)):
            canvas.disc((x + dx, y), r, shade(leaf, 1.0 + dx))
    else:
        y = float(rng.uniform(0.8, 0.92))
        canvas.rectangle(0, y, 1, y + 0.025, colour)
        for i in range(5):
            canvas.rectangle(x - 0.6 + 0.3 * i, y, x - 0.575 + 0.3 * i, 1, colour)
