"""The parts that bicycles and motorbikes share, drawn in the plane z = 0."""

from __future__ import annotations

import math

import numpy as np

from alexnet_jax.data.street.canvas import Canvas, View
from alexnet_jax.data.street.light import LAMP, Colour

Point = tuple[float, float]


def spokes(
    canvas: Canvas,
    view: View,
    hub: Point,
    radius: float,
    pairs: int,
    turn: float,
    colour: Colour = (176, 178, 182),
    width: float = 0.008,
) -> None:
    x, y = hub
    for angle in (np.arange(pairs) * math.pi / pairs + turn).tolist():
        dx, dy = radius * math.cos(angle), radius * math.sin(angle)
        canvas.line(
            view.upright([(x - dx, y - dy), (x + dx, y + dy)], 0), colour, width * view.scale
        )


def guard(
    canvas: Canvas,
    view: View,
    hub: Point,
    radius: float,
    colour: Colour,
    width: float = 0.03,
    arc: tuple[float, float] = (0.7, 2.9),
) -> None:
    angles = np.linspace(*arc, 8)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius + hub
    canvas.line(view.upright(points, 0), colour, width * view.scale)


def lamp(canvas: Canvas, view: View, place: Point, radius: float) -> None:
    canvas.polygon(view.circle(*place, 0, radius), LAMP, glow=True)


def between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
