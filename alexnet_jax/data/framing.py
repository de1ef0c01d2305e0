"""How a photograph becomes the square canvas, and what is annotated in it moves along."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from alexnet_jax.data import decode
from alexnet_jax.data.letterbox import letterbox, mask_into, points_into


class Framing(NamedTuple):
    """`image` and `mask` take pixels [H, W, 3] or [H, W] and the canvas's side; `points` [..., 2]
    (y, x), the image's shape, and the side."""

    image: Callable[[np.ndarray, int], np.ndarray]
    mask: Callable[[np.ndarray, int], np.ndarray]
    points: Callable[[np.ndarray, tuple[int, ...], int], np.ndarray]


MIDDLE = Framing(decode.canvas, decode.canvas_mask, decode.canvas_points)
WHOLE = Framing(letterbox, mask_into, points_into)


def framing(annotations: tuple[str, ...]) -> Framing:
    """How a picture with these annotations is framed: whole where objects are to be found in it,
    since a cut would lose those at its edge, else by the square in its middle."""
    return WHOLE if "boxes" in annotations else MIDDLE
