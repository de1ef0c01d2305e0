"""Whether a network's layers learn: pure functions on the trees of any model, layer by layer.

Gradients that vanish or explode on their way down show in the norms of gradients (Glorot and
Bengio 2010, section 4.2; He et al. 2015, section 2.2), signals that do so on their way up in those
of activations, steps that are too long or too short in the ratio of update to weight.

A layer is what holds arrays: "backbone/conv1" of "backbone/conv1/kernel". None among the leaves, as
`rules.split` leaves them, is skipped. Norms are float32 scalars, whatever the arrays are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.leaves import named_leaves
from alexnet_jax.tasks.base import Batch, Context, Task
from alexnet_jax.train.state import DROPOUT, TrainState, stream_key

Tree = Any


def data_gradient(state: TrainState, batch: Batch, *, task: Task) -> Tree:
    """The gradient that the next `train_step` on this batch begins with, a tree like the
    parameters: of the data's terms, dropout included, before penalties and clipping.
    """
    weights = task.weights(batch)
    rows = jnp.arange(batch["image"].shape[0], dtype=jnp.int32)
    key = stream_key(state.seed, DROPOUT, state.step)

    def objective(params: Tree) -> Array:
        context = Context(train=True, key=key, rows=rows)
        terms, _, _ = task.losses(params, state.model_state, batch, context)
        return jnp.asarray(sum(loss / weights[name] for name, (loss, _) in terms.items()))

    return jax.grad(objective)(state.params)


def layer_norms(tree: Tree) -> dict[str, Array]:
    """{layer: Euclidean norm of its arrays together}, of a gradient, an update or parameters."""
    return {layer: _norm(*arrays) for layer, arrays in _layers(tree).items()}


def update_ratios(before: Tree, after: Tree) -> dict[str, Array]:
    """{layer: |after - before| / |before|}, of parameters before and after an update.

    Of arrays with two axes or more: biases and the like begin at zero, and move by any multiple of
    it. A layer that is zero has the ratio 0 where it stays so, and infinity where it moves.
    """
    ratios = {}
    for (layer, old), new in zip(_layers(before).items(), _layers(after).values(), strict=True):
        pairs = [(a, b) for a, b in zip(old, new, strict=True) if a.ndim > 1]
        if pairs:
            moved = _norm(*(b.astype(jnp.float32) - a.astype(jnp.float32) for a, b in pairs))
            ratios[layer] = jnp.where(moved > 0, moved / _norm(*(a for a, _ in pairs)), 0.0)
    return ratios


def activation_norms(taps: Mapping[str, Array], valid: Array | None = None) -> dict[str, Array]:
    """{tap: root mean square over the valid examples}, so that taps of any size compare.

    Taps are [B, ...]; `valid` is bool [B], all by default.
    """
    return {name: _root_mean_square(value, valid) for name, value in taps.items()}


def dead_shares(taps: Mapping[str, Array], valid: Array | None = None) -> dict[str, Array]:
    """{tap: share of dead units}: of those that are <= 0 for every valid example and place.

    Taps [B, ..., C] have C units: a filter's map is one. Behind a ReLU no gradient reaches a unit
    that is dead for all examples there are; of a batch this is an upper bound for that share.
    """
    shares = {}
    for name, value in taps.items():
        alive = (value > 0) & _like(valid, value)
        shares[name] = 1.0 - alive.any(axis=tuple(range(value.ndim - 1))).mean(dtype=jnp.float32)
    return shares


def _layers(tree: Tree) -> dict[str, list[Array]]:
    layers: dict[str, list[Array]] = {}
    for name, leaf in named_leaves(tree):
        if leaf is not None:
            layers.setdefault(name.rpartition("/")[0] or name, []).append(leaf)
    return layers


def _norm(*arrays: Array) -> Array:
    squares = [jnp.square(x.astype(jnp.float32)).sum() for x in arrays]
    return jnp.sqrt(jnp.asarray(sum(squares)))


def _root_mean_square(value: Array, valid: Array | None) -> Array:
    counts = jnp.broadcast_to(_like(valid, value), value.shape)
    return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32)), where=counts))


def _like(valid: Array | None, value: Array) -> Array:
    """`valid` with as many axes as a tap."""
    rows = jnp.ones(value.shape[0], bool) if valid is None else valid
    return rows.reshape(-1, *[1] * (value.ndim - 1))
