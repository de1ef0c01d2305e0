"""Convolution and max pooling, in the forms that run best.

One place for what a backend does better than its default; every form here gives the values of the
plain operation, and gradients equal to it up to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import Array, lax


def convolution(
    x: Array, kernel: Array, *, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
) -> Array:
    """[B, H, W, C] * [h, w, C / groups, F] -> [B, H', W', F], in the dtype of `x`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """Overlapping 3x3 max pooling with stride 2: [B, H, W, C] -> [B, (H-3)//2+1, (W-3)//2+1, C].

    Krizhevsky et al. 2012, section 3.4. The first maximum of a window, in row order, takes its
    gradient, as in XLA's own backward (select-and-scatter); written as shifted slices it is several
    times faster on a CPU, and deterministic on a GPU, where select-and-scatter is not. A window
    that holds a NaN gives NaN, and no gradient.
    """
    return functools.reduce(jnp.maximum, (view for _, _, view in _window_views(x)))


def _window_views(x: Array) -> Iterator[tuple[int, int, Array]]:
    """For each place (i, j) in the window: what all windows have there, [B, H', W', C]."""
    b, h, w, c = x.shape
    rows, columns = (h - 3) // 2 + 1, (w - 3) // 2 + 1
    for i in range(3):
        for j in range(3):
            end = (b, i + 2 * rows - 1, j + 2 * columns - 1, c)
            yield i, j, lax.slice(x, (0, i, j, 0), end, (1, 2, 2, 1))


def _max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = max_pool(x)
    return y, (x, y)


def _max_pool_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array]:
    x, y = saved
    _, h, w, _ = x.shape
    _, rows, columns, _ = y.shape
    zero = jnp.zeros((), g.dtype)
    free = jnp.ones(y.shape, bool)
    total = jnp.zeros(x.shape, g.dtype)
    for i, j, view in _window_views(x):
        hit = (view == y) & free
        free &= ~hit
        edges = (
            (0, 0, 0),
            (i, h - i - 2 * rows + 1, 1),
            (j, w - j - 2 * columns + 1, 1),
            (0, 0, 0),
        )
        total += lax.pad(jnp.where(hit, g, zero), zero, edges)
    return (total,)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
