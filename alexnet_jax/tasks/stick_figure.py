"""Joints drawn over a picture: limbs as lines, joints as dots, in the colours of their numbers."""

from __future__ import annotations

import numpy as np

from alexnet_jax.data.skeleton import LIMBS, TRUNK
from alexnet_jax.tasks.palette import palette

THICK = 1 / 90  # of a line, in parts of the picture's longer side


def stick_figure(image: np.ndarray, joints: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] with joints [14, 2] (y, x) in its pixels; those not `shown` are left out.

    A line has the colour of its outer joint, which is the palette's.
    """
    drawn = image.copy()
    half = max(1.0, THICK * max(image.shape[:2])) / 2
    colours = palette()
    shown = shown & np.isfinite(joints).all(axis=-1)
    for a, b in (*TRUNK, *LIMBS):
        if shown[a] and shown[b]:
            _stroke(drawn, joints[a], joints[b], half, colours[a])
    for joint in np.flatnonzero(shown):
        _stroke(drawn, joints[joint], joints[joint], 2 * half, np.array((255, 255, 255)))
        _stroke(drawn, joints[joint], joints[joint], 1.4 * half, colours[joint])
    return drawn


def _stroke(
    image: np.ndarray, a: np.ndarray, b: np.ndarray, half: float, colour: np.ndarray
) -> None:
    """Colour, in place, the pixels whose centres are within `half` of the line from a to b."""
    low = np.floor(np.minimum(a, b) - half).clip(0, image.shape[:2]).astype(int)
    high = np.ceil(np.maximum(a, b) + half).clip(0, image.shape[:2]).astype(int)
    part = image[low[0] : high[0], low[1] : high[1]]
    centres = np.moveaxis(np.indices(part.shape[:2]), 0, -1) + low + 0.5
    along = (b - a) / max(float(((b - a) ** 2).sum()), 1e-12)
    share = ((centres - a) @ along).clip(0, 1)[..., None]
    distance = np.sqrt(((centres - a - share * (b - a)) ** 2).sum(axis=-1))
    part[distance <= half] = colour
