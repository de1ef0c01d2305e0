"""Colours of classes: PASCAL VOC's colour map (Everingham et al. 2010, development kit).

Class 0 is black, 255 a pale yellow. Neighbouring numbers differ clearly.
"""

from __future__ import annotations

import numpy as np


def palette() -> np.ndarray:
    """uint8 [256, 3], red, green and blue: bit k of each are bits 3 k ... of the class."""
    colours = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256, dtype=np.uint32)
    for bit in range(8):
        for channel in range(3):
            value = (numbers >> (3 * bit + channel) & 1) << (7 - bit)
            colours[:, channel] |= value.astype(np.uint8)
    return colours


def outline(image: np.ndarray, boxes: np.ndarray, label: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] with the edges of boxes [n, 4] (y0, x0, y1, x1 in pixels) in the colours of
    their classes, between white lines, since class 0 is black; the last box is on top."""
    drawn = image.copy()
    wide = max(1, round(max(image.shape[:2]) / 300))
    for box, kind in zip(np.round(boxes).astype(int), label, strict=True):
        for inset, colour in ((0, 255), (wide, palette()[kind]), (2 * wide, 255)):
            y0, x0, y1, x1 = np.maximum(box + np.array([1, 1, -1, -1]) * inset, 0)
            inside = slice(y0 + wide, max(y1 - wide, 0)), slice(x0 + wide, max(x1 - wide, 0))
            kept = drawn[inside].copy()
            drawn[y0:y1, x0:x1] = colour
            drawn[inside] = kept
    return drawn


def paint(
    image: np.ndarray, mask: np.ndarray, strength: float = 0.6, void: int = 255
) -> np.ndarray:
    """uint8 [H, W, 3] with each pixel's class of a mask uint8 [H, W] laid over it; void is left."""
    mixed = np.float32(1 - strength) * image + np.float32(strength) * palette()[mask]
    return np.where((mask == void)[..., None], image, np.round(mixed)).astype(np.uint8)
