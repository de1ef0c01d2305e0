"""L1, L2 and (both together) elastic net: as loss terms, as gradient terms, as a proximal step.

L2 is `strength / 2 * sum(w**2)`, whose gradient is `strength * w`. L1 is `strength * sum(|w|)`,
whose gradient is taken as `strength * sign(w)` with sign(0) = 0, the subgradient of least norm:
a weight that is zero is left alone.

`strengths` (and `thresholds`) are one number or a tree like `params`, of numbers or float32
scalars. Leaves that are None are skipped everywhere. In a chain of optax's own:

    optax.chain(optax.stateless(lambda g, p: add_l1(g, p, 1e-5)), optax.sgd(0.1))
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


def l2_penalty(params: Tree, strengths: Tree) -> jax.Array:
    """Return `sum of strength / 2 * |w|^2`, float32 scalar."""
    return _sum(lambda w, strength: 0.5 * strength * jnp.sum(jnp.square(w)), params, strengths)


def l1_penalty(params: Tree, strengths: Tree) -> jax.Array:
    """Return `sum of strength * |w|`, float32 scalar; its gradient at w = 0 is 0."""

    def penalty(w, strength):
        # The gradient of jnp.abs at 0 is 1, which would push weights that start at zero.
        return strength * jnp.sum(w * jax.lax.stop_gradient(jnp.sign(w)))

    return _sum(penalty, params, strengths)


def add_l2(grads: Tree, params: Tree, strengths: Tree) -> Tree:
    """Return `g + strength * w`, the gradient with the L2 penalty's."""
    return _map(lambda w, strength, g: g + strength * w, params, strengths, grads)


def add_l1(grads: Tree, params: Tree, strengths: Tree) -> Tree:
    """Return `g + strength * sign(w)`, the gradient with the L1 penalty's subgradient."""
    return _map(lambda w, strength, g: g + strength * jnp.sign(w), params, strengths, grads)


def soft_threshold(x: jax.Array, threshold: jax.typing.ArrayLike) -> jax.Array:
    """Return `sign(x) * max(|x| - threshold, 0)`, the proximal operator of `threshold * |x|`."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)


def proximal_l1(updates: Tree, params: Tree, thresholds: Tree) -> Tree:
    """Return updates that lead to `soft_threshold(w + u, threshold)`: the last step of a chain.

    Weights within the threshold become exactly zero, since `w + (0 - w) == 0`. With
    `threshold = learning rate * strength` after a plain gradient step this is the proximal
    gradient method (ISTA; Parikh and Boyd 2014, "Proximal Algorithms", 4.2). After momentum or
    adaptive scaling the metric of the step is another one, and it is a heuristic. A threshold
    of 0 leaves the update untouched to the bit.
    """

    def proximal(w, threshold, u):
        return jnp.where(threshold > 0, soft_threshold(w + u, threshold) - w, u)

    return _map(proximal, params, thresholds, updates)


def _map(function, params: Tree, strengths: Tree, *rest: Tree) -> Tree:
    return jax.tree.map(function, params, jax.tree.broadcast(strengths, params), *rest)


def _sum(function, params: Tree, strengths: Tree) -> jax.Array:
    terms = _map(lambda w, s: function(w.astype(jnp.float32), s), params, strengths)
    return jax.tree.reduce(jnp.add, terms, jnp.zeros((), jnp.float32))
