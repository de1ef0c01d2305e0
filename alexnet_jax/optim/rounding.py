"""What becomes of an update that is smaller than the spacing of numbers around its weight.

w - eta g is rounded to the nearest number that its type holds. Where eta g is less than half the
spacing around w, that is w itself: the update does nothing, however often it is made.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Tree = Any


def spacing(number: float, dtype: Any) -> float:
    """From a number (not 0, and not a subnormal one) to the next larger of its type: its ulp."""
    return 2.0 ** (math.floor(math.log2(abs(number))) - jnp.finfo(dtype).nmant)


def stochastic_round(key: Array, x: Array, dtype: Any) -> Array:
    """float32 `x` as `dtype`, up or down with the chances that make its mean x.

    Numbers that `dtype` holds are kept. What rounding to the nearest loses every time, this keeps
    on average (Gupta et al. 2015, arXiv:1502.02551, section 3.1).
    """
    nearest = x.astype(dtype)
    rest = x - nearest.astype(x.dtype)  # exact
    beyond = jnp.nextafter(nearest, jnp.where(rest > 0, jnp.inf, -jnp.inf).astype(dtype))
    gap = jnp.abs(beyond.astype(x.dtype) - nearest.astype(x.dtype))
    chosen = jax.random.uniform(key, x.shape, x.dtype) * gap < jnp.abs(rest)
    return jnp.where(chosen & jnp.isfinite(nearest), beyond, nearest)


def lost_share(before: Tree, after: Tree, updates: Tree) -> Array:
    """Share of the updates other than zero that left their parameter as it was, float32 [].

    `updates` are what was to be added, in a type that is wide enough. NaN where all are zero.
    """
    leaves = list(zip(*map(jax.tree.leaves, (before, after, updates)), strict=True))
    asked = jnp.asarray(sum(jnp.sum(u != 0) for _, _, u in leaves))
    lost = jnp.asarray(sum(jnp.sum((u != 0) & (old == new)) for old, new, u in leaves))
    return lost.astype(jnp.float32) / asked.astype(jnp.float32)
