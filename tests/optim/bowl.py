"""A small problem for optimizers: a bowl around TARGET, over a convolution, a norm and a head."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax


def tree(seed):
    """A convolution, the scale of a norm and a head, with normal values."""
    rng = np.random.default_rng(seed)
    shapes = {
        "conv1": {"kernel": (3, 3, 2, 4), "bias": (4,)},
        "norm1": {"scale": (4,)},
        "head": {"kernel": (6, 5)},
    }
    draw = partial(jax.tree.map, is_leaf=lambda x: isinstance(x, tuple))
    return draw(lambda shape: rng.normal(size=shape).astype(np.float32), shapes)


PARAMS, TARGET = tree(0), tree(1)


def gradient(params, step):
    """Of a bowl around TARGET that is steeper and flatter from step to step."""
    steepness = 1.0 + 0.5 * jnp.sin(1.0 + step)
    return jax.tree.map(lambda w, target: steepness * (w - target), params, TARGET)


def run(tx, params=PARAMS, steps=20, gradient=gradient, state=None):
    """Return the parameters after some steps; the gradient includes a penalty in the loss."""
    penalty = getattr(tx, "penalty", lambda params, state: 0.0)

    def step(carry, number):
        params, state = carry
        grads = gradient(params, number)
        grads = jax.tree.map(jnp.add, grads, jax.grad(penalty)(params, state))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params) if state is None else state
    options = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here
    train = jax.jit(
        lambda *carry: jax.lax.scan(step, carry, jnp.arange(steps))[0][0], compiler_options=options
    )
    return train(params, state)


def assert_close(a, b, rtol=1e-5):
    """Largest difference of a leaf, relative to its largest value."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.max(np.abs(x - y)) <= rtol * np.max(np.abs(y))


def kernels(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
