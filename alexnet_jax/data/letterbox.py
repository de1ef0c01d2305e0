"""A whole photograph on a square canvas: scaled to fit, in the middle, grey beside it.

Where objects are to be found a cut would lose those at the edge. Masks and coordinates, such as
boxes (y0, x0, y1, x1), go the same way, and the answers' back onto the photograph. Coordinates are
continuous, as in window.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from alexnet_jax.data.window import VOID

GREY = (124, 116, 104)  # ImageNet's mean: nearly nothing once it is subtracted


class Place(NamedTuple):
    """Where the photograph lies on the canvas, in whole pixels of the canvas."""

    top: int
    left: int
    height: int
    width: int


def place(shape: tuple[int, ...], size: int) -> Place:
    """Where `letterbox` lays a photograph of `shape` (H, W, ...) on a canvas of side `size`."""
    longest = max(shape[:2])
    height, width = (max(1, round(n * size / longest)) for n in shape[:2])
    return Place((size - height) // 2, (size - width) // 2, height, width)


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [size, size, 3]; bilinear, antialiased when shrinking (Pillow's)."""
    at = place(image.shape, size)
    canvas = np.full((size, size, 3), GREY, np.uint8)
    scaled = Image.fromarray(image).resize((at.width, at.height), Image.Resampling.BILINEAR)
    canvas[at.top : at.top + at.height, at.left : at.left + at.width] = np.asarray(scaled)
    return canvas


def mask_into(mask: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W] -> [size, size] where `letterbox` lays its image, by nearest pixel; `VOID`
    beside it."""
    at = place(mask.shape, size)
    canvas = np.full((size, size), VOID, np.uint8)
    scaled = Image.fromarray(mask).resize((at.width, at.height), Image.Resampling.NEAREST)
    canvas[at.top : at.top + at.height, at.left : at.left + at.width] = np.asarray(scaled)
    return canvas


def points_into(points: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Points [..., 2] (y, x) in a photograph's pixels as float32 in those of its canvas."""
    scale, begin = affine(shape, size)
    return (np.asarray(points) * scale + begin).astype(np.float32)


def boxes_into(boxes: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Boxes [..., 4] in a photograph's pixels as float32 [..., 4] in those of its canvas."""
    corners = np.reshape(boxes, (*np.shape(boxes)[:-1], 2, 2))
    return points_into(corners, shape, size).reshape(np.shape(boxes))


def boxes_back(boxes: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """The way back of `boxes_into`, cut off at the photograph's edges."""
    (scale, begin), edge = affine(shape, size), np.array(shape[:2], np.float64)
    corners = np.reshape(boxes, (*np.shape(boxes)[:-1], 2, 2))
    found = np.clip((corners - begin) / scale, 0, edge)
    return found.astype(np.float32).reshape(np.shape(boxes))


def affine(shape: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale, begin), float64 [2] each, of (y, x): canvas = photograph * scale + begin."""
    at = place(shape, size)
    scale = np.array([at.height / shape[0], at.width / shape[1]])
    return scale, np.array([at.top, at.left], np.float64)
