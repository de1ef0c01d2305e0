"""Train the layers behind a frozen tap on the tap's features, each of which is computed once.

The images are seen once instead of once an epoch, so a head learns at thousands of examples a
second. The price is that nothing can be augmented.
"""

from __future__ import annotations

from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.data.stream import indices
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Spec, shapes
from alexnet_jax.tasks.base import Task
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train.state import TrainState, init_state
from alexnet_jax.train.step import train_step
from alexnet_jax.transfer.features import Features


def feature_shape(spec: Spec, tap: str, size: int) -> tuple[int, ...]:
    """The shape of a tap's value that has `size` numbers: (6, 6, 256) for 9216 numbers of pool5.

    Raises ValueError where the tap cannot have that many.
    """
    *square, channels = dict(shapes(spec, spec.image_size))[tap]
    side = isqrt(size // channels) if square else 1
    if channels * side**2 != size:
        raise ValueError(f"{tap!r} of {spec.name!r} has {channels} channels, not {size} features")
    return (side, side, channels) if square else (channels,)


def train_head(
    features: Features,
    *,
    net: AlexNet,
    tap: str,
    tx: Any,
    updates: int,
    batch_size: int = 32,
    seed: int = 0,
    state: TrainState | None = None,
) -> tuple[TrainState, np.ndarray]:
    """Train what lies behind `tap`: the state, and float32 [updates] of what was minimized.

    `net` is the whole network; the state holds the layers behind the tap alone, fresh ones where
    none is given. Its parameters fit into the whole network's. Examples come in the order of the
    training stream, and dropout draws as in the whole network: with the tap frozen and nothing
    augmented, training that gives the same parameters up to rounding.

    Raises ValueError for a tap behind which nothing can begin, or features that are not its.
    """
    shape = feature_shape(net.spec, tap, features.values.shape[1])
    task = classification(net.clone(behind=tap))
    if state is None:
        state = init_state(seed=seed, task=task, tx=tx, image_shape=shape)
    rows = indices(seed, int(state.step) * batch_size, updates * batch_size, len(features.labels))
    values = jnp.asarray(features.values).reshape(-1, *shape)
    labels = jnp.asarray(features.labels)

    order = jnp.asarray(rows.reshape(updates, batch_size), jnp.int32)
    state, losses = _updates(state, order, values, labels, task=task, tx=tx)
    return state, np.asarray(losses)


@partial(jax.jit, static_argnames=("task", "tx"))
def _updates(
    state: TrainState, order: Array, values: Array, labels: Array, *, task: Task, tx: Any
) -> tuple[TrainState, Array]:
    """One update for each row of `order`, int32 [updates, B]; all in one program."""

    def update(state: TrainState, rows: Array) -> tuple[TrainState, Array]:
        batch = {"image": values[rows], "label": labels[rows]}
        state, metrics = train_step(state, batch, task=task, tx=tx)
        return state, metrics["objective"]

    return jax.lax.scan(update, state, order)
