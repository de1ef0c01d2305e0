"""How much of a map lies inside the box around what the picture shows."""

from __future__ import annotations

import numpy as np


def inside(heat: np.ndarray, boxes: np.ndarray, cell: int, size: int) -> np.ndarray:
    """[B], the share of a map's positive part that lies inside a box (y0, x0, y1, x1 in pixels).

    The energy-based pointing game (Wang et al. 2020, arXiv:1910.01279). `heat` [B, h, w] has cells
    of `cell` pixels on a picture of side `size`; one that is partly inside counts in part. NaN for
    a map without a positive value.
    """

    def shares(begin: np.ndarray, end: np.ndarray, cells: int) -> np.ndarray:
        edges = np.minimum(np.arange(cells + 1) * cell, size)
        overlap = np.minimum(end[:, None], edges[1:]) - np.maximum(begin[:, None], edges[:-1])
        return overlap.clip(0) / np.diff(edges)

    heat = np.asarray(heat, float).clip(0)
    down = shares(boxes[:, 0], boxes[:, 2], heat.shape[1])
    across = shares(boxes[:, 1], boxes[:, 3], heat.shape[2])
    with np.errstate(invalid="ignore"):
        return np.einsum("bhw,bh,bw->b", heat, down, across) / heat.sum(axis=(1, 2))


def areas(boxes: np.ndarray, size: int) -> np.ndarray:
    """The boxes' shares of a picture of side `size`."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / size**2
