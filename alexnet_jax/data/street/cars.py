"""Cars: from the hatchback to the long saloon and the van."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from alexnet_jax.data.street.bodies import Body, Patch, block, mirrored, vehicle
from alexnet_jax.data.street.canvas import Thing
from alexnet_jax.data.street.light import (
    GLASS,
    LAMP,
    STEEL,
    TAIL,
    Colour,
    blend,
    paint,
    pick,
    shade,
    vary,
)


def car(rng: np.random.Generator) -> Thing:
    """A hatchback, saloon, estate, off-roader, long saloon or van."""
    style = pick(rng, ("hatchback", "saloon", "estate", "tall", "long", "van"))
    spans = {
        "hatchback": ((3.5, 4.2), (1.42, 1.56)),
        "saloon": ((4.3, 5.0), (1.38, 1.5)),
        "estate": ((4.3, 4.9), (1.4, 1.55)),
        "tall": ((4.0, 4.9), (1.6, 1.9)),
        "long": ((5.2, 6.6), (1.42, 1.55)),
        "van": ((4.5, 5.8), (1.9, 2.5)),
    }
    length, height = (float(rng.uniform(*span)) for span in spans[style])
    nose, floor = length / 2, float(rng.uniform(0.2, 0.3))
    belt = (
        height * float(rng.uniform(0.58, 0.65)) if style != "van" else float(rng.uniform(1.1, 1.25))
    )
    bonnet = float(rng.uniform(0.85, 1.25)) * (0.55 if style == "van" else 1.0)
    rake = float(rng.uniform(0.45, 0.75)) * (0.8 if style in ("tall", "van") else 1.0)
    tail = {
        "hatchback": 0.45,
        "saloon": 1.3,
        "estate": 0.3,
        "tall": 0.3,
        "long": 1.25,
        "van": 0.06,
    }[style]
    boot = {"saloon": 0.6, "long": 0.6}.get(style, 0.06) * float(rng.uniform(0.9, 1.1))
    cowl, roof_front, roof_rear = (
        nose - bonnet,
        nose - bonnet - rake,
        -nose + tail * float(rng.uniform(0.9, 1.1)),
    )
    profile = np.array(
        [
            (nose, floor),
            (nose - 0.04, belt * 0.78),
            (cowl, belt),
            (roof_front, height),
            (roof_rear, height * 0.985),
            (-nose + boot, belt * 1.02),
            (-nose + 0.04, belt * 0.97),
            (-nose, floor),
        ]
    )
    colour = paint(rng)
    side = _car_side(rng, style, profile, belt, height, colour)
    glass = blend(GLASS, (150, 176, 196), float(rng.uniform(0, 0.6)))
    lights = float(rng.uniform(0.55, 0.7))
    front: list[Patch] = [
        *mirrored((0.5, lights), (0.95, 0.95), vary(rng, LAMP, 6), True),
        (block(-0.4, 0.5, 0.4, 0.88), shade(colour, 0.35), False),
        (block(-0.95, 0.0, 0.95, 0.2), shade(colour, 0.45), False),
        (block(-0.24, 0.22, 0.24, 0.4), (232, 230, 214), False),
    ]
    rear: list[Patch] = [
        *mirrored((0.62, 0.12), (0.95, 0.45), TAIL, True),
        (block(-0.24, 0.3, 0.24, 0.5), (232, 228, 190), False),
        (block(-0.95, 0.8, 0.95, 1.0), shade(colour, 0.45), False),
    ]
    screen: list[Patch] = [(block(-0.86, 0.06, 0.86, 0.92), glass, False)]
    if style == "van":
        screen_rear: list[Patch] = [
            (block(-0.78, 0.1, -0.06, 0.6), glass, False),
            (block(0.06, 0.1, 0.78, 0.6), glass, False),
        ]
    else:
        screen_rear = [(block(-0.8, 0.1, 0.8, 0.85), glass, False)]
    axle = nose - float(rng.uniform(0.72, 0.92))
    body = Body(
        profile=profile,
        half_width=float(rng.uniform(0.84, 0.96)) * (1.08 if style == "van" else 1.0),
        colour=colour,
        roof=colour if rng.random() < 0.85 else paint(rng),
        faces={0: front, 2: screen, 4: screen_rear, 6: rear},
        sides=(side, side),
        wheels=(axle, -nose + float(rng.uniform(0.7, 0.95))),
        radius=float(rng.uniform(0.3, 0.36)) * (1.1 if style == "tall" else 1.0),
        rim=vary(rng, pick(rng, (STEEL, (200, 202, 206), (70, 72, 76)))),
    )
    return vehicle("car", body)


def _car_side(
    rng: np.random.Generator,
    style: str,
    profile: np.ndarray,
    belt: float,
    height: float,
    colour: Colour,
) -> list[Patch]:
    nose = profile[0, 0]
    low, high = belt + 0.03, height - 0.11
    front = _edge_at(profile[2], profile[3])
    rear = _edge_at(profile[5], profile[4])
    glass = blend(GLASS, (150, 176, 196), float(rng.uniform(0, 0.6)))
    start, end = front(low) - 0.14, rear(low) + 0.16
    pillars = [start, start - (start - end) * float(rng.uniform(0.42, 0.52)), end]
    if style == "long":
        pillars = [start, *np.linspace(start, end, 4)[1:3].tolist(), end]
    if style == "van":
        pillars = pillars[:2] if rng.random() < 0.7 else pillars
        pillars[1] = start - float(rng.uniform(0.9, 1.1))
    patches: list[Patch] = []
    for a, b in pairwise(pillars):
        a, b = a - 0.04, b + 0.04
        a_top, b_top = min(a, front(high) - 0.1), max(b, rear(high) + 0.1)
        patches.append(([(a, low), (a_top, high), (b_top, high), (b, low)], glass, False))
    seam = shade(colour, 0.62)
    for x in pillars:
        patches.append((block(x - 0.015, 0.35, x + 0.015, low), seam, False))
    for x in pillars[1:]:
        patches.append(
            (block(x + 0.1, belt - 0.16, x + 0.28, belt - 0.11), shade(colour, 0.4), False)
        )
    sill = float(profile[0, 1])
    patches.append(
        (block(-nose + 0.02, sill, nose - 0.02, sill + 0.09), shade(colour, 0.45), False)
    )
    lamp = belt * 0.72
    patches.append((block(nose - 0.3, lamp - 0.14, nose - 0.05, lamp), LAMP, True))
    patches.append((block(-nose + 0.05, belt * 0.68, -nose + 0.22, belt * 0.9), TAIL, True))
    mirror = front(low) - 0.1
    patches.append((block(mirror - 0.1, low, mirror + 0.08, low + 0.14), shade(colour, 0.7), False))
    return patches


def _edge_at(a: np.ndarray, b: np.ndarray) -> Callable[[float], float]:
    """x of the straight edge from a to b at the height y."""
    return lambda y: float(a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]))
