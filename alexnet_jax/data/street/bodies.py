"""Solid bodies of vehicles: a side profile pulled out sideways, with patches on its faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_jax.data.street.canvas import Canvas, Thing, View
from alexnet_jax.data.street.light import RUBBER, Colour, shade

Point = tuple[float, float]
Patch = tuple[Sequence[Point], Colour, bool]  # outline, colour, glows


@dataclass(frozen=True)
class Body:
    """A side profile and what is on the faces of the solid that it makes.

    `profile` runs from the front bumper over the roof to the rear one: (x, y) in metres. `faces[i]`
    are the patches on the strip between its points i and i + 1, with (across -1 ... 1, along 0 ...
    1) corners; `sides` are those on the left and on the right side, in metres.
    """

    profile: np.ndarray
    half_width: float
    colour: Colour
    roof: Colour
    faces: dict[int, list[Patch]]
    sides: tuple[list[Patch], list[Patch]]
    wheels: tuple[float, ...]
    radius: float
    rim: Colour


def vehicle(kind: str, body: Body) -> Thing:
    length = 2 * float(body.profile[0, 0])
    height = float(body.profile[:, 1].max())
    return Thing(
        kind, length, height, 2 * body.half_width, lambda canvas, view: _paint(canvas, view, body)
    )


def _paint(canvas: Canvas, view: View, body: Body) -> None:
    half = body.half_width
    outline = {z: view.upright(body.profile, z) for z in (-half, half)}
    for z in (-half, half):
        for x in body.wheels:
            _tyre(canvas, view, x, z, body.radius)
    belly = view([(x, 0.16, z) for x, z in block(body.wheels[-1], -half, body.wheels[0], half)])
    canvas.polygon(belly, RUBBER)
    strips = []
    for i in range(len(body.profile) - 1):
        a, b = outline[half][i : i + 2], outline[-half][i : i + 2]
        corners = np.array([a[0], a[1], b[1], b[0]])
        if _area(corners) > 0:
            middle = np.append(body.profile[i : i + 2].mean(axis=0), 0.0)
            strips.append((float(middle @ view.axes[:, 2]), i, corners))
    for _, i, corners in sorted(strips, key=lambda strip: strip[0]):
        along = body.profile[i] - body.profile[i + 1]
        up = along[0] / np.hypot(*along)  # of the strip's outward normal
        base = body.roof if up > 0.9 and body.profile[i, 1] > 1.2 else body.colour
        canvas.polygon(corners, shade(base, 0.86 + 0.28 * max(up, 0.0)))
        for patch, colour, glow in body.faces.get(i, ()):
            canvas.polygon(_on(corners, patch), colour, glow)
    for z, patches in zip((-half, half), body.sides, strict=True):
        if _area(outline[z]) * z > 0:  # this side is turned away
            continue
        canvas.polygon(outline[z], shade(body.colour, 1.0 + 0.1 * canvas.light.sun * np.sign(z)))
        for patch, colour, glow in patches:
            canvas.polygon(view.upright(patch, z), colour, glow)
        for x in body.wheels:
            r = body.radius
            canvas.polygon(view.circle(x, r + 0.03, z, r * 1.18), shade(body.colour, 0.3))
            canvas.polygon(view.circle(x, r, z, r), RUBBER)
            canvas.polygon(view.circle(x, r, z, r * 0.62), body.rim)
            canvas.polygon(view.circle(x, r, z, r * 0.2), shade(body.rim, 0.5))


def _tyre(canvas: Canvas, view: View, x: float, z: float, r: float) -> None:
    inner = z - np.sign(z) * 0.24
    canvas.polygon(view.circle(x, r, inner, r), RUBBER)
    canvas.polygon(view([(x, 0, z), (x, 2 * r, z), (x, 2 * r, inner), (x, 0, inner)]), RUBBER)


def _on(corners: np.ndarray, patch: Sequence[Point]) -> np.ndarray:
    """Bilinear: across 1 is the right side (the first two corners), along 0 the front end."""
    u, v = np.asarray(patch, dtype=np.float64).T[:, :, None]
    right = corners[0] + (corners[1] - corners[0]) * v
    left = corners[3] + (corners[2] - corners[3]) * v
    return left + (right - left) * (u + 1) / 2


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0])


def block(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    return [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]


def mirrored(a: Point, b: Point, colour: Colour, glow: bool) -> list[Patch]:
    return [
        (block(a[0], a[1], b[0], b[1]), colour, glow),
        (block(-b[0], a[1], -a[0], b[1]), colour, glow),
    ]
