"""Colours and the time of day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Colour = tuple[float, float, float]
T = TypeVar("T")

GLASS: Colour = (70, 84, 98)
RUBBER: Colour = (28, 28, 30)
STEEL: Colour = (150, 152, 156)
LAMP: Colour = (255, 246, 205)
TAIL: Colour = (214, 30, 30)

_PAINTS: tuple[Colour, ...] = (
    (236, 236, 232),
    (184, 188, 192),
    (104, 108, 114),
    (36, 38, 44),
    (186, 34, 36),
    (36, 78, 160),
    (32, 112, 72),
    (238, 190, 44),
    (226, 112, 36),
    (198, 176, 138),
    (74, 160, 190),
    (112, 36, 58),
)


@dataclass(frozen=True)
class Light:
    """`tint` multiplies what does not glow; `sun` is where it stands, -1 (left) to 1 (right)."""

    night: bool
    tint: Colour
    zenith: Colour
    horizon: Colour
    sun: float
    shadow: float  # brightness of a shadow, relative to the ground around it


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def shade(colour: Colour, factor: float) -> Colour:
    r, g, b = colour
    return r * factor, g * factor, b * factor


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """`share` 0 gives a, 1 gives b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def vary(rng: np.random.Generator, colour: Colour, amount: float = 14.0) -> Colour:
    return tuple((rng.uniform(-amount, amount, 3) + colour).tolist())


def paint(rng: np.random.Generator) -> Colour:
    """A lacquer or a cloth: one palette for every kind of object, so that colour tells nothing."""
    return vary(rng, pick(rng, _PAINTS))


def draw_light(rng: np.random.Generator) -> Light:
    hour = rng.random()
    sun = float(rng.uniform(-1, 1))
    if hour < 0.62:
        level = float(rng.uniform(0.82, 1.12))
        warm = float(rng.uniform(-0.05, 0.05))
        overcast = float(rng.uniform(0, 1))
        return Light(
            night=False,
            tint=(level * (1 + warm), level, level * (1 - warm)),
            zenith=blend((86, 142, 214), (176, 184, 192), overcast),
            horizon=blend((196, 220, 238), (214, 216, 218), overcast),
            sun=sun,
            shadow=0.55 + 0.3 * overcast,
        )
    if hour < 0.82:
        level = float(rng.uniform(0.6, 0.8))
        return Light(
            night=False,
            tint=(1.08 * level, 0.9 * level, 0.8 * level),
            zenith=vary(rng, (92, 92, 150)),
            horizon=vary(rng, (244, 164, 104)),
            sun=sun,
            shadow=0.6,
        )
    level = float(rng.uniform(0.46, 0.62))
    return Light(
        night=True,
        tint=(0.86 * level, 0.95 * level, 1.16 * level),
        zenith=vary(rng, (24, 30, 62), 8),
        horizon=vary(rng, (84, 84, 112), 12),
        sun=sun,
        shadow=0.75,
    )
