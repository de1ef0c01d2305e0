"""Overlap of boxes, and greedy non-maximum suppression in fixed shapes, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def area(boxes: Array) -> Array:
    """[..., 4] (y0, x0, y1, x1) -> [...]; zero where a corner lies beyond the other."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of boxes [N, 4] with boxes [M, 4]: [N, M]; 0 where both are empty."""
    low = jnp.maximum(a[:, None, :2], b[None, :, :2])
    high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    both = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
    union = area(a)[:, None] + area(b)[None] - both
    return jnp.where(union > 0, both / jnp.where(union > 0, union, 1.0), 0.0)


def suppress(boxes: Array, label: Array, threshold: float) -> Array:
    """Which of boxes [N, 4], the best first, stay: bool [N].

    One that overlaps a better one of its class that stays by more than `threshold` (IoU) goes.
    """
    order = jnp.arange(len(boxes))
    beats = (iou(boxes, boxes) > threshold) & (label[:, None] == label) & (order[:, None] < order)
    return jax.lax.fori_loop(
        0, len(boxes), lambda i, keep: keep & ~(beats[i] & keep[i]), jnp.ones(len(boxes), bool)
    )
