"""How parameters may be kept from update to update, in which rounding.py's trainings differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alexnet_jax.assemble import make_augment
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.optim.rounding import lost_share, stochastic_round
from alexnet_jax.parts import Parts
from alexnet_jax.train.canvas import eval_canvas, train_canvas
from alexnet_jax.train.diagnostics import data_gradient
from alexnet_jax.train.state import TrainState


class Storage(NamedTuple):
    """How parameters are kept from one update to the next."""

    dtype: str  # in which the network gets them
    masters: bool = False  # kept in float32
    chance: bool = False  # rounded up or down at random
    colour: str = ""


FULL, HALVES = "float32", ("bfloat16", "float16")
MASTERS, CHANCE = ", float32 masters", ", stochastic rounding"
STORAGES = {
    FULL: Storage(FULL, colour="#7a8699"),
    "bfloat16": Storage("bfloat16", colour="#d97a2b"),
    "bfloat16" + MASTERS: Storage("bfloat16", masters=True, colour="#8c4a12"),
    "bfloat16" + CHANCE: Storage("bfloat16", chance=True, colour="#e0b040"),
    "float16": Storage("float16", colour="#3f83d1"),
    "float16" + MASTERS: Storage("float16", masters=True, colour="#1d4e89"),
    "float16" + CHANCE: Storage("float16", chance=True, colour="#3aa6a0"),
}


@dataclass(frozen=True)
class Rounded:
    """A task whose network gets its parameters rounded to a type: all else is the task's."""

    task: Any
    dtype: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def losses(self, params: Any, *how: Any) -> Any:
        return self.task.losses(jax.tree.map(lambda p: p.astype(self.dtype), params), *how)


def rounded_by_chance(tx: Any, dtype: str) -> Any:
    """An optimizer whose updates end on numbers of a type, up or down by chance.

    It returns float32 steps from number to number, which `optax.apply_updates` adds exactly.
    """

    def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        updates, after = tx.update(grads, state, wide)
        leaves, tree = jax.tree.flatten(jax.tree.map(jnp.add, wide, updates))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), state.count), len(leaves))
        pairs = zip(keys, leaves, strict=True)
        ends = tree.unflatten([stochastic_round(key, x, dtype) for key, x in pairs])
        return jax.tree.map(lambda q, w: q.astype(jnp.float32) - w, ends, wide), after

    return tx._replace(update=update)


def stored(parts: Parts, storage: Storage) -> tuple[Parts, Any]:
    """The parts of a run whose parameters are kept in another way, and (state, batch) -> the share
    of the updates by this batch that do nothing, compiled."""
    task, plain = Rounded(parts.task, storage.dtype), parts.stages[0].tx
    tx = rounded_by_chance(plain, storage.dtype) if storage.chance else plain
    p = parts.preprocessing
    settings = make_augment(parts.config, len(parts.classes))
    step = partial(train_canvas, task=task, tx=tx, preprocessing=p, settings=settings)
    made = parts._replace(
        task=task,
        stages=(parts.stages[0]._replace(tx=tx, step=jax.jit(step, donate_argnums=0)),),
        evaluate=jax.jit(partial(eval_canvas, task=task, preprocessing=p)),
        create=lambda seed: begun(parts.create(seed), storage),
    )

    def lost(state: TrainState, batch: dict) -> Any:
        gradient = data_gradient(state, preprocess(batch, p), task=task)
        wide = jax.tree.map(lambda w: w.astype(jnp.float32), state.params)
        asked, _ = plain.update(gradient, state.opt_state, wide)
        steps, _ = tx.update(gradient, state.opt_state, state.params)
        return lost_share(state.params, optax.apply_updates(state.params, steps), asked)

    return made, jax.jit(lost)


def begun(state: TrainState, storage: Storage) -> TrainState:
    """A fresh state with its parameters in the type that keeps them."""
    kept = "float32" if storage.masters else storage.dtype
    return state.replace(params=jax.tree.map(lambda p: p.astype(kept), state.params))
