"""Buses: from the minibus to the double-decker."""

from __future__ import annotations

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


def bus(rng: np.random.Generator) -> Thing:
    """A minibus, a midibus, a town bus, a coach or (seldom) a double-decker."""
    style = pick(rng, ("mini", "mini", "midi", "midi", "town", "town", "coach", "double"))
    spans = {
        "mini": ((5.2, 6.4), (2.4, 2.8)),
        "midi": ((6.4, 8.2), (2.7, 3.0)),
        "town": ((8.5, 11.5), (2.8, 3.1)),
        "coach": ((8.5, 11.5), (3.1, 3.5)),
        "double": ((7.5, 9.5), (3.9, 4.3)),
    }
    length, height = (float(rng.uniform(*span)) for span in spans[style])
    nose, floor = length / 2, float(rng.uniform(0.25, 0.38))
    rake = float(rng.uniform(0.02, 0.22)) * (2.5 if style == "mini" else 1.0)
    deck = 2.55 if style == "double" else height
    belt = deck * float(rng.uniform(0.38, 0.46)) if style != "coach" else deck * 0.5
    snout = float(rng.uniform(0.0, 0.35)) if style == "mini" else 0.02
    profile = np.array(
        [
            (nose, floor),
            (nose - 0.02, belt * 0.86),
            (nose - snout - 0.03, belt),
            (nose - snout - rake, height - 0.22),
            (nose - snout - rake - 0.2, height),
            (-nose + 0.15, height),
            (-nose + 0.02, height - 0.15),
            (-nose, floor),
        ]
    )
    colour = paint(rng)
    glass = blend(GLASS, (150, 176, 196), float(rng.uniform(0, 0.6)))
    if rng.random() < 0.18:  # at dusk and at night the saloon may be lit
        glass = blend(glass, (250, 232, 170), 0.55)
    second = paint(rng) if rng.random() < 0.5 else shade(colour, 0.8)
    doors = tuple((rng.uniform(-0.35, 0.42, int(rng.integers(1, 3))) * length).tolist())
    left, right = (
        _bus_side(rng, profile, belt, deck, height, glass, colour, second, d) for d in ((), doors)
    )
    sign = (block(-0.6, 0.86, 0.6, 0.98), (252, 186, 60), True)
    screen: list[Patch] = [(block(-0.92, 0.04, 0.92, 0.8), glass, False), sign]
    if style == "double":
        screen = [
            (block(-0.92, 0.02, 0.92, 0.42), glass, False),
            (block(-0.6, 0.44, 0.6, 0.54), (252, 186, 60), True),
            (block(-0.92, 0.6, 0.92, 0.96), glass, False),
        ]
    front: list[Patch] = [
        (block(-1.0, 0.0, 1.0, 0.3), shade(second, 0.7), False),
        *mirrored((0.6, 0.34), (0.92, 0.66), vary(rng, LAMP, 6), True),
        (block(-0.22, 0.32, 0.22, 0.5), (232, 230, 214), False),
    ]
    rear: list[Patch] = [
        (block(-0.8, 0.06, 0.8, 0.36), glass, False),
        *mirrored((0.8, 0.5), (0.96, 0.78), TAIL, True),
        (block(-0.6, 0.62, 0.6, 0.84), shade(colour, 0.6), False),
    ]
    axles = (
        nose - length * float(rng.uniform(0.2, 0.27)),
        -nose + length * float(rng.uniform(0.2, 0.28)),
    )
    body = Body(
        profile=profile,
        half_width=float(rng.uniform(1.0, 1.08))
        if style == "mini"
        else float(rng.uniform(1.15, 1.27)),
        colour=colour,
        roof=shade(colour, 0.95) if rng.random() < 0.6 else (222, 222, 220),
        faces={0: front, 2: screen, 6: rear},
        sides=(left, right),
        wheels=axles,
        radius=float(rng.uniform(0.38, 0.42))
        if style == "mini"
        else float(rng.uniform(0.44, 0.52)),
        rim=vary(rng, pick(rng, (STEEL, (90, 92, 96)))),
    )
    return vehicle("bus", body)


def _bus_side(
    rng: np.random.Generator,
    profile: np.ndarray,
    belt: float,
    deck: float,
    height: float,
    glass: Colour,
    colour: Colour,
    second: Colour,
    doors: tuple[float, ...],
) -> list[Patch]:
    nose, floor = profile[0]
    start, end = float(profile[3, 0]) - 0.1, -nose + 0.25
    patches: list[Patch] = []
    livery = rng.random()
    if livery < 0.45:
        patches.append((block(-nose, floor, nose - 0.03, belt * 0.8), second, False))
    elif livery < 0.8:
        y = belt * float(rng.uniform(0.55, 0.8))
        patches.append((block(-nose, y, nose - 0.03, y + 0.16), second, False))
    rows = (
        [(belt, deck - 0.38)]
        if deck == height
        else [(belt, deck - 0.4), (deck + 0.25, height - 0.35)]
    )
    pitch = float(rng.uniform(0.95, 1.6))
    count = max(3, round((start - end) / pitch))
    frame = 0.04 if rng.random() < 0.5 else 0.09
    edges = np.linspace(start, end, count + 1).tolist()
    for low, high in rows:
        for a, b in pairwise(edges):
            patches.append((block(b + frame, low, a - frame, high), glass, False))
    for x in doors:
        patches.append(
            (block(x - 0.62, floor + 0.05, x + 0.62, deck - 0.34), shade(colour, 0.45), False)
        )
        for a in (x - 0.54, x + 0.05):
            patches.append(
                (block(a, floor + 0.2, a + 0.49, deck - 0.42), shade(glass, 1.25), False)
            )
    patches.append((block(nose - 0.22, belt * 0.5, nose - 0.04, belt * 0.68), LAMP, True))
    patches.append((block(-nose + 0.03, belt * 0.55, -nose + 0.14, belt * 0.85), TAIL, True))
    return patches
