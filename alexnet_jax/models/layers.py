"""The layers that libraries lack: response norm, masked batch norm, row-keyed dropout."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.models.spec import ResponseNorm


def response_norm(x: Array, settings: ResponseNorm) -> Array:
    """Local response normalization across neighbouring channels, [B, H, W, C] -> the same.

    Krizhevsky et al. 2012, section 3.3. Sums in float32 or wider; towers are normalized apart.
    """
    size, towers = settings.size, settings.towers
    square = jnp.square(_at_least_float32(x)).reshape(*x.shape[:-1], towers, -1)
    window = (1,) * (square.ndim - 1) + (size,)
    edges = [(0, 0)] * (square.ndim - 1) + [(size // 2, size - 1 - size // 2)]
    total = _window_sum(square, window, edges).reshape(x.shape)
    scale = (settings.k + settings.alpha / size * total) ** -settings.beta
    return (x * scale).astype(x.dtype)


def spatial_response_norm(
    x: Array, size: int = 5, alpha: float = 1e-3, beta: float = 0.75
) -> Array:
    """x / (1 + alpha / size^2 * sum of squares over size x size pixels of the same channel)^beta.

    The 2012 source's `rnorm` layer after conv2; the paper leaves it out. [B, H, W, C] -> the same.
    """
    square = jnp.square(_at_least_float32(x))
    edge = (size // 2, size - 1 - size // 2)
    total = _window_sum(square, (1, size, size, 1), [(0, 0), edge, edge, (0, 0)])
    return (x * (1.0 + alpha / size**2 * total) ** -beta).astype(x.dtype)


def _window_sum(x: Array, window: tuple[int, ...], edges: list[tuple[int, int]]) -> Array:
    # A traced initial value has no gradient rule; a NumPy scalar does.
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, (1,) * x.ndim, edges)


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(jnp.float32, x.dtype))


def dropout(x: Array, rate: Array | float, key: Array, rows: Array) -> Array:
    """Inverted dropout whose mask depends on the key and each example's row alone.

    So it is the same mask whether the batch lies on one device or on eight. [B, ...], rows [B].
    Srivastava et al. 2014.
    """
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    kept = jax.vmap(lambda k: jax.random.bernoulli(k, keep, x.shape[1:]))(keys)
    return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class BatchNorm(nn.Module):
    """Batch normalization over the valid rows of the global batch (Ioffe and Szegedy 2015).

    Statistics are sums of (count, x, x^2) over every device under `axis_name`, divided once: right
    also where devices hold unequal numbers of valid rows, or none. Statistics in float32, or wider
    where parameters are. A batch without a valid row leaves the running statistics alone.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, valid: Array, axis_name: str | None, train: bool) -> Array:
        features = x.shape[-1]
        wide = jnp.promote_types(jnp.float32, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), wide)
        var = self.variable("batch_stats", "var", jnp.ones, (features,), wide)
        scale = self.param("scale", nn.initializers.ones, (features,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (features,), self.param_dtype)
        m, v = mean.value, var.value
        if train and not self.is_initializing():
            count, m, v = _masked_moments(x.astype(wide), valid, axis_name)
            rate = jnp.where(count > 0, 1 - self.momentum, 0.0).astype(wide)
            mean.value += rate * (m - mean.value)
            var.value += rate * (v - var.value)
        factor = lax.rsqrt(v + self.epsilon) * scale.astype(wide)
        offset = bias.astype(wide) - m * factor
        return (x.astype(wide) * factor + offset).astype(x.dtype)


def _masked_moments(x: Array, valid: Array, axis_name: str | None) -> tuple[Array, Array, Array]:
    """(count, mean, variance) of [B, ..., C] over all but the last axis."""
    axes = tuple(range(x.ndim - 1))
    weight = valid.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    places = float(np.prod(x.shape[1:-1]))
    sums = (weight.sum() * places, (x * weight).sum(axes), (x * x * weight).sum(axes))
    count, first, second = sums if axis_name is None else lax.psum(sums, axis_name)
    mean = first / jnp.maximum(count, 1.0)
    return count, mean, jnp.maximum(second / jnp.maximum(count, 1.0) - mean * mean, 0.0)
