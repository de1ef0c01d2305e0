"""How much there is to compute in a forward pass, and how fast this device multiplies matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import measuring

from alexnet_jax.models.spec import Spec, shapes


def multiply_adds(net: Spec) -> int:
    """Of one image's forward pass, at the spec's own size, in convolutions and dense layers."""
    taps = dict(shapes(net, net.image_size))
    total, channels, tap = 0, 3, ""
    for name, conv in net.conv_layers():
        height, width, features = taps[name]
        total += height * width * features * conv.kernel**2 * channels // conv.groups
        channels = features
        tap = name.split("_")[0].replace("conv", "pool") if "pool" in conv.then else name
    height, width, channels = taps[tap]
    inputs = height * width * channels
    for _, neurons in (*net.dense_layers(), ("head", net.num_classes)):
        total += inputs * neurons
        inputs = neurons
    return total


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
