"""Heat maps of joints: a distribution over places for each, what it should be, and where it peaks.

Tompson et al. 2014, arXiv:1406.2984, learn Gaussians around the joints. Here a map is a softmax
over its places, so that it sums to one and no background has to be outweighed. Its logarithm is
then a parabola around the joint, and the vertex of the one through the highest place and its
neighbours is the joint to a fraction of a place (the idea of Zhang et al. 2020, arXiv:1910.06278,
equation 8, on each axis alone).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from alexnet_jax.models.fcn import Places

NEAR = 2  # places around the highest one whose probability is the score


def divergence(logits: Array, joints: Array, at: Places, sigma: float) -> Array:
    """Kullback-Leibler divergence of the maps from Gaussians around the joints, [B, J].

    Args:
        logits: [B, h, w, J].
        joints: [B, J, 2] (y, x) in pixels, finite.
        at: where the maps' elements lie.
        sigma: standard deviation of the Gaussians, in steps of the map.
    """
    rows, columns = (jnp.asarray(at.of(n) + 0.5, logits.dtype) for n in logits.shape[1:3])
    y, x = joints[:, None, None, :, 0], joints[:, None, None, :, 1]
    square = (rows[:, None, None] - y) ** 2 + (columns[:, None] - x) ** 2
    wanted = jax.nn.log_softmax(-square / (2 * (sigma * at.step) ** 2), axis=(1, 2))
    said = jax.nn.log_softmax(logits, axis=(1, 2))
    return (jnp.exp(wanted) * (wanted - said)).sum(axis=(1, 2))


def locate(logits: Array, at: Places) -> tuple[Array, Array]:
    """(joints float32 [B, J, 2] (y, x) in pixels, score [B, J]) of maps [B, h, w, J].

    The score is the probability of the places near the highest one, from 0 to 1.
    """
    batch, height, width, count = logits.shape
    flat = logits.reshape(batch, height * width, count)
    best = flat.argmax(axis=1)
    row, column = best // width, best % width

    def value(rows: Array, columns: Array) -> Array:
        places = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
        return jnp.take_along_axis(flat, places[:, None], axis=1)[:, 0]

    top = value(row, column)
    down = _vertex(value(row - 1, column), top, value(row + 1, column))
    across = _vertex(value(row, column - 1), top, value(row, column + 1))
    # At the edge of the map one neighbour is missing.
    down = jnp.where((row > 0) & (row < height - 1), down, 0.0)
    across = jnp.where((column > 0) & (column < width - 1), across, 0.0)
    place = jnp.stack([row + down, column + across], axis=-1)

    share = jax.nn.softmax(logits, axis=(1, 2))
    side = 2 * NEAR + 1
    near = lax.reduce_window(share, 0.0, lax.add, (1, side, side, 1), (1, 1, 1, 1), "SAME")
    score = jnp.take_along_axis(near.reshape(flat.shape), best[:, None], axis=1)[:, 0]
    return at.first + 0.5 + at.step * place, score


def _vertex(before: Array, top: Array, after: Array) -> Array:
    """Where a parabola through values at -1, 0 and 1, the middle one the highest, is highest."""
    bend = before - 2 * top + after
    return jnp.where(bend < 0, (before - after) / jnp.where(bend < 0, 2 * bend, 1.0), 0.0)
