"""Where everything stands: the camera, the main object, the others around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alexnet_jax.data.street.bicycles import bicycle
from alexnet_jax.data.street.buses import bus
from alexnet_jax.data.street.canvas import Thing, View
from alexnet_jax.data.street.cars import car
from alexnet_jax.data.street.light import pick
from alexnet_jax.data.street.motorbikes import bike
from alexnet_jax.data.street.people import man, woman

MAKERS: dict[str, Callable[[np.random.Generator], Thing]] = {
    "car": car,
    "bus": bus,
    "bicycle": bicycle,
    "bike": bike,
    "man": man,
    "woman": woman,
}
# What may stand about without being asked for: never a class of the configuration.
_EXTRAS = {
    "a": ("bicycle", "bike", "man", "woman"),
    "b": ("car", "bus"),
    "people": ("car", "bus", "bicycle", "bike"),
}
# Square root of the share of the picture that the main object's box takes: least and most.
_TARGETS = {
    "car": (0.4, 0.72),
    "bus": (0.4, 0.72),
    "bicycle": (0.36, 0.62),
    "bike": (0.36, 0.62),
    "man": (0.5, 0.68),
    "woman": (0.5, 0.68),
}


@dataclass(frozen=True)
class Placed:
    thing: Thing
    view: View
    listed: bool  # part of the annotation

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.thing.extent(self.view)


@dataclass(frozen=True)
class Scene:
    horizon: float
    placed: tuple[Placed, ...]  # from far to near


def compose(config: str, kind: str, rng: np.random.Generator) -> Scene:
    """A scene about one object of the given kind; other listed ones only in "scenes"."""
    if config == "scenes":
        return _crowd(kind, rng)
    thing = MAKERS[kind](rng)
    # In heights of the object, so that the horizon does not tell a tall thing from a low one.
    eye = thing.height * float(np.exp(rng.uniform(math.log(0.5), math.log(1.7))))
    target = float(rng.uniform(*_TARGETS[kind]))
    view = _aim(thing, eye, rng)
    left, top, right, bottom = thing.extent(view)
    width, height = right - left, bottom - top
    scale = min(target / math.sqrt(width * height), 1.12 / max(width, height))
    width, height = width * scale, height * scale
    x = 0.5 + float(rng.uniform(-1, 1)) * (abs(1 - width) / 2 + 0.1 * width)
    y = 0.52 + float(rng.uniform(-1, 1)) * (0.8 * abs(1 - height) / 2 + 0.03 * height)
    x, y = x - scale * (left + right) / 2, y - scale * (top + bottom) / 2
    main = Placed(thing, _at(view, x, y, scale), listed=True)
    horizon = min(max(y - eye * scale, 0.08), y - 0.05)
    others = []
    for _ in range(int(rng.choice(4, p=(0.5, 0.3, 0.15, 0.05)))):
        other = MAKERS[pick(rng, _EXTRAS[config])](rng)
        # Behind the main object mostly; things nearer than it stay at its edge.
        depth = float(
            rng.uniform(0.3, 0.95)
            if config in ("b", "people") or rng.random() < 0.7
            else rng.uniform(1.05, 1.5)
        )
        base, near = horizon + depth * (y - horizon), depth > 1
        view = _at(_aim(other, eye, rng), float(rng.uniform(0, 1)), base, scale * depth)
        candidate = Placed(other, view, listed=False)
        if not near or _overlap(candidate.box, main.box) < 0.3 * _area(main.box):
            others.append((base, candidate))
    ordered = sorted([*others, (y, main)], key=lambda pair: pair[0])
    return Scene(horizon, tuple(placed for _, placed in ordered))


def _crowd(kind: str, rng: np.random.Generator) -> Scene:
    horizon, eye = float(rng.uniform(0.25, 0.48)), float(rng.uniform(1.5, 2.8))
    count = int(rng.integers(1, 7))
    kinds = [kind, *(pick(rng, tuple(MAKERS)) for _ in range(count - 1))]
    placed: list[tuple[float, Placed]] = []
    for i, name in enumerate(kinds):
        thing = MAKERS[name](rng)
        view = _aim(thing, eye, rng)
        left, top, right, bottom = thing.extent(view)
        longest = max(right - left, bottom - top)
        target = float(rng.uniform(0.45, 0.85) if i == 0 else rng.uniform(0.2, 0.6))
        scale = min(target / longest, (1.0 - horizon) / eye)
        tries: list[tuple[float, int, Placed]] = []
        for _ in range(6):
            candidate = Placed(
                thing, _at(view, float(rng.uniform(0.08, 0.92)), horizon + eye * scale, scale), True
            )
            crowding = sum(_overlap(candidate.box, other.box) for _, other in placed)
            tries.append((crowding, len(tries), candidate))
        placed.append((scale, min(tries)[2]))
    ordered = sorted(placed, key=lambda pair: pair[0])
    return Scene(horizon, tuple(thing for _, thing in ordered))


def _aim(thing: Thing, eye: float, rng: np.random.Generator) -> View:
    """How the thing is turned and how far away it is; at the origin, one image side a metre."""
    half_turn = math.pi * float(rng.integers(2))
    if thing.kind in ("man", "woman"):
        yaw = float(rng.uniform(0, 2 * math.pi))
    elif thing.kind in ("bicycle", "bike"):
        yaw = half_turn + float(rng.uniform(-0.8, 0.8))
    else:
        manner = rng.random()
        if manner < 0.5:
            yaw = half_turn + float(rng.normal(0, 0.15))
        elif manner < 0.78:
            yaw = float(rng.uniform(0, 2 * math.pi))
        else:
            yaw = half_turn + math.pi / 2 + float(rng.normal(0, 0.2))
    distance = 4.0 + thing.length * float(rng.uniform(1.2, 3.5))
    return View(
        x=0.0,
        y=0.0,
        scale=1.0,
        yaw=yaw,
        pitch=max(math.atan((eye - 0.7) / distance), 0.0),
        roll=float(rng.normal(0, 0.03)),
        nearness=1 / distance,
    )


def _at(view: View, x: float, y: float, scale: float) -> View:
    return View(x, y, scale, view.yaw, view.pitch, view.roll, view.nearness)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
