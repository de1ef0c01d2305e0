"""How a person is painted: limbs around the joints, slices of a body along the spine, a head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alexnet_jax.data.street.canvas import Canvas, View
from alexnet_jax.data.street.light import Colour, shade

Level = tuple[float, float, float]  # height, half width and half depth in metres


@dataclass(frozen=True)
class Figure:
    joints: np.ndarray  # [14, 3]
    head: float  # radius
    torso: tuple[Level, ...]
    skirt: tuple[Level, ...]
    hair: str  # "none", "short", "bun", "tail", "long"
    limbs: tuple[float, float, float, float]  # radii of thigh, calf, upper arm, forearm
    skin: Colour
    hair_colour: Colour
    top: Colour
    bottom: Colour
    shoe: Colour
    sleeves: int  # 0 bare arms, 1 to the elbow, 2 to the wrist
    trousers: int  # 0 bare legs, 1 to the knee, 2 to the ankle
    bag: Colour | None
    beard: bool
    hat: Colour | None


def paint_figure(canvas: Canvas, view: View, figure: Figure) -> None:
    """From far to near."""
    ahead = view.axes[0, 2] > 0  # looks at the viewer rather than away
    sides = ("left", "right") if view.axes[2, 2] > 0 else ("right", "left")
    _arm(canvas, view, figure, sides[0], 0.86)
    if ahead:
        _hair(canvas, view, figure)
    for side, light in zip(sides, (0.84, 1.0), strict=True):
        _leg(canvas, view, figure, side, light)
    if figure.bag is not None and ahead:
        _bag(canvas, view, figure, figure.bag)
    canvas.polygon(_levels(view, figure, figure.torso), figure.top)
    belt = [level for level in figure.torso if level[0] < figure.joints[2, 1] + 0.08]
    if not figure.skirt:
        canvas.polygon(_levels(view, figure, tuple(belt)), figure.bottom)
    else:
        canvas.polygon(_levels(view, figure, figure.skirt), figure.bottom)
    if figure.bag is not None and not ahead:
        _bag(canvas, view, figure, figure.bag)
    _face(canvas, view, figure)
    if not ahead:
        _hair(canvas, view, figure)
    if figure.hat is not None:
        _hat(canvas, view, figure, figure.hat)
    _arm(canvas, view, figure, sides[1], 0.95)


def _levels(view: View, figure: Figure, levels: tuple[Level, ...]) -> np.ndarray:
    """The outline of elliptic slices stacked along the spine."""
    c, s = view.axes[0, 0], view.axes[2, 0]
    hip, neck = figure.joints[[2, 3]].mean(axis=0), figure.joints[12]
    heights = np.array([y for y, _, _ in levels])
    share = np.clip((heights - hip[1]) / (neck[1] - hip[1]), 0.0, None)[:, None]
    centres = hip + share * (neck - hip)
    centres[:, 1] = heights
    spine = view(centres)
    across = np.array([math.hypot(width * s, depth * c) for _, width, depth in levels]) * view.scale
    left, right = spine.copy(), spine.copy()
    left[:, 0] -= across
    right[:, 0] += across
    return np.concatenate([left, right[::-1]])


def _leg(canvas: Canvas, view: View, figure: Figure, side: str, light: float) -> None:
    hip, knee, ankle = (2, 1, 0) if side == "right" else (3, 4, 5)
    scale = view.scale
    thigh, calf = figure.limbs[0] * scale, figure.limbs[1] * scale
    points = view(figure.joints[[hip, knee, ankle]])
    toe = view(figure.joints[[ankle, ankle]] + [(-0.02, -0.05, 0), (0.15, -0.055, 0)])
    skin = shade(figure.skin, light)
    cloth = shade(figure.bottom, light)
    upper = cloth if figure.trousers >= 1 else skin
    lower = cloth if figure.trousers >= 2 else skin
    canvas.limb(toe, (0.036 * scale, 0.028 * scale), shade(figure.shoe, light))
    canvas.limb(points[1:], (calf, calf * 0.7), lower)
    canvas.limb(points[:2], (thigh, calf * 1.05), upper)


def _arm(canvas: Canvas, view: View, figure: Figure, side: str, light: float) -> None:
    shoulder, elbow, wrist = (8, 7, 6) if side == "right" else (9, 10, 11)
    scale = view.scale
    upper, fore = figure.limbs[2] * scale, figure.limbs[3] * scale
    points = view(figure.joints[[shoulder, elbow, wrist]])
    skin = shade(figure.skin, light)
    cloth = shade(figure.top, light)
    canvas.limb(points[1:], (fore, fore * 0.8), cloth if figure.sleeves >= 2 else skin)
    canvas.limb(points[:2], (upper, fore), cloth if figure.sleeves >= 1 else skin)
    canvas.disc(points[2], 0.043 * scale, skin)


def _head(figure: Figure) -> np.ndarray:
    return figure.joints[13] - (0.0, figure.head * 1.12, 0.0)


def _face(canvas: Canvas, view: View, figure: Figure) -> None:
    head, radius = _head(figure), figure.head
    neck = view([figure.joints[12] - (0, 0.02, 0), head])
    canvas.limb(neck, (0.05 * view.scale, 0.05 * view.scale), shade(figure.skin, 0.9))
    drop = 0.0 if figure.hair == "none" else 0.014
    eye = radius, 0.01
    spots = np.array([(0.03, -drop, 0), (*eye, 0.036), (*eye, -0.036), (0.055, -0.06, 0)])
    face, right, left, chin = view(head + spots)
    if figure.beard:
        canvas.disc(chin, radius * 0.8 * view.scale, figure.hair_colour)
        face[1] -= 0.022 * view.scale
        canvas.disc(face, radius * 0.86 * view.scale, figure.skin)
    else:
        canvas.disc(face, radius * 0.94 * view.scale, figure.skin)
    if view.axes[0, 2] > 0.3:
        for eye in (right, left):
            canvas.disc(eye, 0.011 * view.scale, (40, 32, 30))


def _hair(canvas: Canvas, view: View, figure: Figure) -> None:
    if figure.hair == "none":
        return
    head, radius, scale = _head(figure), figure.head, view.scale
    colour = figure.hair_colour
    if figure.hair == "long":
        ends = view(head + np.array([(-0.035, 0, 0), (-0.08, -0.33, 0)]))
        canvas.limb(ends, (radius * 1.25 * scale, radius * 1.4 * scale), colour)
    elif figure.hair == "tail":
        ends = view(head + np.array([(-0.11, 0.03, 0), (-0.19, -0.24, 0)]))
        canvas.limb(ends, (0.045 * scale, 0.035 * scale), colour)
    elif figure.hair == "bun":
        knot = view(head + np.array([(-0.07, 0.115, 0)]))[0]
        canvas.disc(knot, 0.058 * scale, colour)
    ball = view(head + np.array([(-0.022, 0.022, 0)]))[0]
    canvas.disc(ball, radius * 1.1 * scale, colour)


def _hat(canvas: Canvas, view: View, figure: Figure, colour: Colour) -> None:
    head, radius = _head(figure), figure.head
    angles = np.linspace(0, math.pi, 9)
    out, up = 1.1 * radius * np.cos(angles), 0.035 + radius * np.sin(angles)
    flat = np.zeros_like(out)
    crown = np.stack([out - 0.01, up, flat], axis=1)
    across = np.stack([flat - 0.01, up, out], axis=1)
    peak = np.array(
        [(0.02, 0.035, -0.07), (0.2, 0.02, -0.05), (0.2, 0.02, 0.05), (0.02, 0.035, 0.07)]
    )
    for points in (crown, across, peak):
        canvas.polygon(view(head + points), colour)


def _bag(canvas: Canvas, view: View, figure: Figure, colour: Colour) -> None:
    """A rucksack: two sides and the back between them."""
    y = float(figure.joints[12, 1])
    pack = [(-0.08, y - 0.06), (-0.27, y - 0.1), (-0.28, y - 0.42), (-0.08, y - 0.44)]
    left, right = (view.upright(pack, z) for z in (-0.13, 0.13))
    for outline in (left, right, [left[1], right[1], right[2], left[2]]):
        canvas.polygon(outline, colour)
