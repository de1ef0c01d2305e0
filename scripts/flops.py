"""How fast this device multiplies matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import measuring


def products(n: int, chain: int, precision: str) -> measuring.Run:
    """Steps of `chain` products of [n, n] matrices, each with the result of the one before.

    Normal numbers, whose scale the products keep: zeros or infinities would take less power, and on
    a GPU less time.
    """
    keys = jax.random.split(jax.random.key(0))
    x, w = (jax.random.normal(key, (n, n), jnp.dtype(precision)) for key in keys)
    w = w * jnp.asarray(n**-0.5, w.dtype)

    @jax.jit
    def step(x: jax.Array, w: jax.Array) -> jax.Array:
        for _ in range(chain):
            x = x @ w
        return x

    def run(steps: int) -> None:
        for _ in range(steps):
            result = step(x, w)
        jax.block_until_ready(result)

    return run
