"""Motorbikes: fat wheels, engine, tank, seat, exhaust and mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_jax.data.street.canvas import Canvas, Thing, View
from alexnet_jax.data.street.light import RUBBER, TAIL, Colour, paint, pick, shade, vary
from alexnet_jax.data.street.wheels import Point, guard, lamp, spokes

# What it is made of, and the x and the y of its corners, in metres.
Plate = tuple[str, Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Style:
    """Lengths in metres; `steering` is how far the steering head lies behind the front axle."""

    name: str
    radius: float
    base: float
    saddle: float
    steering: float
    grips: Point  # behind and above the steering head


_ROAD = Style("road", 0.31, 1.4, 0.82, 0.38, (0.1, 0.16))
_STYLES = (
    _ROAD,
    _ROAD,
    Style("sport", 0.3, 1.36, 0.84, 0.36, (0.1, 0.04)),
    Style("cruiser", 0.32, 1.62, 0.68, 0.55, (0.22, 0.16)),
    Style("scooter", 0.23, 1.25, 0.76, 0.28, (0.1, 0.16)),
)


def bike(rng: np.random.Generator) -> Thing:
    """A roadster, a faired sports bike, a long cruiser or a scooter."""
    style = pick(rng, _STYLES)
    radius = style.radius * float(rng.uniform(0.95, 1.05))
    half = style.base * float(rng.uniform(0.96, 1.05)) / 2
    saddle = style.saddle * float(rng.uniform(0.97, 1.04))
    tyre = 0.15 if style.name == "cruiser" else 0.12
    head = half - style.steering, saddle + 0.16
    grips = head[0] - style.grips[0], head[1] + style.grips[1]
    colour, dark, metal = paint(rng), vary(rng, (40, 40, 42)), vary(rng, (128, 130, 134))
    colours = {
        "paint": colour,
        "dark": dark,
        "metal": metal,
        "engine": shade(metal, 0.55),
        "seat": vary(rng, pick(rng, ((36, 34, 34), (36, 34, 34), (96, 62, 40)))),
    }
    reach = float(rng.uniform(0.32, 0.4))
    plates = {"sport": _sport, "scooter": _scooter}.get(style.name, _road)(half, saddle, head)
    if style.name == "scooter":
        x, y = -half - 0.02, radius + 0.14
        plates = [("paint", (x - 0.22, x - 0.1, x + 0.2), (y, y + 0.12, y)), *plates]
    if rng.random() < 0.2:  # a top box
        x, y = -half - 0.1, saddle
        box = (x - 0.1, x - 0.1, x + 0.26, x + 0.3), (y + 0.12, y + 0.44, y + 0.44, y + 0.12)
        plates = [*plates, ("dark", *box)]

    def draw(canvas: Canvas, view: View) -> None:
        scale = view.scale
        for x in (half, -half):
            canvas.polygon(view.circle(x, radius, 0, radius), RUBBER)
            canvas.polygon(view.circle(x, radius, 0, radius - tyre), shade(metal, 0.8))
            canvas.polygon(view.circle(x, radius, 0, radius - tyre - 0.03), dark)
            spokes(canvas, view, (x, radius), radius - tyre, 3, 0.4, metal, 0.03)
            canvas.polygon(view.circle(x, radius, 0, 0.06), metal)
        for z in (-0.09, 0.09):
            canvas.line(view([(half, radius, z), (*head, z)]), metal, 0.055 * scale)
        guard(canvas, view, (half, radius), radius + 0.03, colour, 0.05, (0.45, 2.2))
        swing = [(-half, radius), (-0.1, radius + 0.06)]
        canvas.line(view.upright(swing, 0.08), metal, 0.07 * scale)
        for material, xs, ys in plates:
            canvas.polygon(view.upright(np.array([xs, ys]).T, 0), colours[material])
            if material == "engine":
                _fins(canvas, view, min(xs) + 0.1, max(xs) - 0.14, metal)
        if style.name != "scooter":
            pipe = [
                (0.35 * half, 0.5),
                (0.2 * half, 0.24),
                (-0.5 * half, 0.22),
                (-1.1 * half, 0.32),
            ]
            canvas.line(view.upright(pipe, 0.16), shade(metal, 1.4), 0.075 * scale)
        canvas.line(view.upright([head, grips], 0), dark, 0.05 * scale)
        x, y = grips
        for side in (-reach, reach):
            bar = [(x, y, 0), (x + 0.02, y + 0.02, side * 0.6), (x - 0.1, y, side)]
            canvas.line(view(bar), dark, 0.05 * scale)
            if style.name != "sport":
                mirror = view([(x, y + 0.02, side * 0.7), (x + 0.02, y + 0.17, side)])
                canvas.line(mirror, dark, 0.02 * scale)
                canvas.disc(mirror[1], 0.045 * scale, dark)
        lamp(canvas, view, (head[0] + 0.13, head[1] - 0.03), 0.095)
        x, y = -half - 0.3, saddle
        tail = [(x, y - 0.02), (x, y + 0.06), (x + 0.1, y + 0.08), (x + 0.1, y - 0.02)]
        canvas.polygon(view.upright(tail, 0), TAIL, glow=True)

    return Thing("bike", 2 * (half + radius), grips[1] + 0.1, 2 * reach, draw)


def _road(half: float, y: float, head: Point) -> list[Plate]:
    """Naked: engine, frame, tail, seat and tank; `y` is the height of the saddle."""
    r, (x, top) = -half, head
    return [
        (
            "engine",
            (-0.24, -0.28, -0.1, x - 0.14, x, x - 0.1),
            (0.24, 0.52, 0.66, 0.66, 0.48, 0.24),
        ),
        ("dark", (0.75 * r, -0.3, x, x, -0.28), (y - 0.2, y - 0.1, top - 0.06, top - 0.16, 0.4)),
        (
            "paint",
            (r - 0.26, r - 0.24, -0.22, -0.28, r),
            (y - 0.02, y + 0.04, y - 0.04, y - 0.18, y - 0.16),
        ),
        (
            "seat",
            (r - 0.14, 0.5 * r, -0.06, -0.04, r - 0.12),
            (y + 0.1, y + 0.04, y + 0.02, y - 0.07, y - 0.02),
        ),
        (
            "paint",
            (-0.12, -0.08, 0.1, x - 0.08, x + 0.02, x - 0.06),
            (y - 0.08, y + 0.08, y + 0.2, y + 0.18, top - 0.08, y - 0.06),
        ),
    ]


def _sport(half: float, y: float, head: Point) -> list[Plate]:
    """Faired: engine, pointed tail, seat, tank, fairing and windshield."""
    r, (x, top) = -half, head
    return [
        ("engine", (-0.28, -0.26, x, x), (0.22, 0.56, 0.56, 0.22)),
        (
            "paint",
            (r - 0.3, r - 0.26, -0.28, -0.3, 0.7 * r),
            (y + 0.14, y + 0.2, y + 0.02, y - 0.14, y - 0.08),
        ),
        ("seat", (0.62 * r, -0.06, -0.04, 0.6 * r), (y + 0.1, y + 0.02, y - 0.06, y + 0.02)),
        (
            "paint",
            (-0.14, -0.08, 0.1, x - 0.04, x - 0.04),
            (y - 0.1, y + 0.08, y + 0.19, top + 0.02, y - 0.1),
        ),
        (
            "paint",
            (-0.22, 0.02, x - 0.06, x + 0.26, x + 0.3, x + 0.02, x - 0.14),
            (0.2, 0.6, top + 0.02, top, top - 0.16, 0.42, 0.2),
        ),
        ("metal", (x, x + 0.04, x + 0.24), (top + 0.02, top + 0.2, top + 0.02)),
    ]


def _scooter(half: float, y: float, head: Point) -> list[Plate]:
    """Step-through: floor, rear body, seat and leg shield."""
    r, (x, top) = -half, head
    return [
        ("dark", (0.2 * r, 0.2 * r, x, x + 0.08), (0.2, 0.32, 0.32, 0.24)),
        (
            "paint",
            (r - 0.24, r - 0.16, -0.02, 0.0, -0.22, r + 0.2),
            (0.35, y - 0.02, y - 0.04, 0.3, 0.22, 0.39),
        ),
        (
            "seat",
            (r - 0.16, 0.4 * r, 0.06, 0.04, r - 0.14),
            (y + 0.08, y + 0.1, y + 0.03, y - 0.06, y - 0.02),
        ),
        (
            "paint",
            (x - 0.04, x - 0.14, x + 0.02, x + 0.16, x + 0.06),
            (0.24, top + 0.06, top + 0.08, 0.49, 0.28),
        ),
    ]


def _fins(canvas: Canvas, view: View, x0: float, x1: float, colour: Colour) -> None:
    for y in (0.42, 0.5, 0.58):
        canvas.line(view.upright([(x0, y), (x1, y)], 0), colour, 0.025 * view.scale)
    canvas.polygon(view.circle((x0 + x1) / 2 - 0.04, 0.32, 0, 0.09), colour)
