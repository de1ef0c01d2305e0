"""All that training changes, in one immutable tree."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.optim.rules import split
from alexnet_jax.tasks.base import Task

# Streams of randomness. No key is stored: each is a function of (seed, stream, step).
INIT, DROPOUT, AUGMENT = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """`step` int32 []; `params`; `model_state`: batch statistics and the dropout rate; `opt_state`;
    `ema`: averaged parameters or None; `seed` uint32 [].
    """

    step: Array
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any
    seed: Array

    def replace(self, **changes: Any) -> TrainState:
        """This state with some fields changed."""
        return dataclasses.replace(self, **changes)


def init_state(*, seed: int, task: Task, tx: Any, image_shape: tuple[int, ...]) -> TrainState:
    """A fresh state; traceable, so that `jax.jit` can create it where it is to live.

    `tx` is an `optimizer(...)` or any optax.GradientTransformation. Frozen parameters get no
    optimizer state. Raises ValueError where a rule of `tx` matches no parameter.
    """
    seed_array = jnp.asarray(seed, jnp.uint32)
    params, model_state = task.init(stream_key(seed_array, INIT, 0), image_shape)
    rules = getattr(tx, "rules", None)
    if rules is not None:
        rules.check(params)
    trainable, _ = split(params, frozen_mask(params, tx))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=tx.init(trainable),
        # A copy: a donated state must not hold one buffer twice.
        ema=jax.tree.map(jnp.copy, params) if getattr(tx, "ema", None) is not None else None,
        seed=seed_array,
    )


def frozen_mask(params: Any, tx: Any) -> Any:
    """A tree of Python bools like `params`: which are frozen by the rules of `tx`."""
    rules = getattr(tx, "rules", None)
    return jax.tree.map(lambda _: False, params) if rules is None else rules.frozen(params)


def stream_key(seed: Array, stream: int, step: Array | int) -> Array:
    """The key of one stream of randomness at one step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)
