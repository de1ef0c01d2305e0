"""A population: many trainings at once, by `jax.vmap` of the unchanged train step.

    states = [with_hyper(create(seed), learning_rate=rate) for seed in seeds for rate in rates]
    population = gather(states)
    step = population_step(partial(train_step, task=task, tx=tx))
    population, metrics = step(population, batch)          # every metric has a leading axis [M]

What a sweep varies (learning rate, strengths of L1, L2 and decay, momentum, dropout rate, seed) is
an array in the state, so one program trains all members. On an accelerator that a small network
leaves idle they take little longer than one; on a CPU they are faster one after the other, with the
same compiled step (docs/sweeps.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from alexnet_jax.optim.chain import with_hyper as with_optimizer_hyper
from alexnet_jax.train.parallel import AXIS, batch_sharding
from alexnet_jax.train.state import TrainState


class Population(NamedTuple):
    """`states`: a train state whose leaves are [M, ...]; `alive` bool [M]: which have not diverged.

    A member that diverges stays as it was before the step that was not finite, `states.step` too.
    """

    states: TrainState
    alive: Array


def with_hyper(state: TrainState, **values: jax.typing.ArrayLike) -> TrainState:
    """The state with other hyperparameters: the optimizer's by name, and `dropout_rate`.

    Raises ValueError for one that the optimizer does not have, or a dropout rate where nothing is
    dropped out.
    """
    values = dict(values)
    if "dropout_rate" in values:
        if "hyper" not in state.model_state:
            raise ValueError("a dropout_rate is given, but this network drops nothing out")
        rate = jnp.asarray(values.pop("dropout_rate"), jnp.float32)
        state = state.replace(model_state={**state.model_state, "hyper": {"dropout_rate": rate}})
    return state.replace(opt_state=with_optimizer_hyper(state.opt_state, **values))


def gather(states: Sequence[TrainState]) -> Population:
    """States of the same shapes, one behind the other."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return Population(stacked, jnp.ones(len(states), bool))


def member(population: Population, i: int) -> TrainState:
    """One member's state."""
    return jax.tree.map(lambda leaf: leaf[i], population.states)


def population_step(step: Callable, *, shared: bool = True) -> Callable:
    """A train step (state, batch) -> (state, metrics) as (population, batch) -> the same, compiled.

    With `shared` all members see one batch; otherwise its leaves are [M, B, ...]. The population is
    donated. The metrics of a member that has diverged mean nothing.
    """

    def guarded(state: TrainState, alive: Array, batch: Any) -> tuple[TrainState, Array, dict]:
        new, metrics = step(state, batch)
        finite = jnp.isfinite(metrics["objective"]) & jnp.isfinite(metrics["gradient_norm"])
        alive = alive & finite
        return jax.tree.map(lambda n, o: jnp.where(alive, n, o), new, state), alive, metrics

    mapped = jax.vmap(guarded, in_axes=(0, 0, None if shared else 0))

    def both(population: Population, batch: Any) -> tuple[Population, dict]:
        states, alive, metrics = mapped(*population, batch)
        return Population(states, alive), metrics

    return jax.jit(both, donate_argnums=0)


def spread(population: Population, mesh: Mesh) -> Population:
    """Members over the mesh's data axis: each device trains its own, and none waits for another.

    Raises ValueError where they do not divide over the devices.
    """
    count, ways = len(population.alive), mesh.shape[AXIS]
    if count % ways:
        raise ValueError(
            f"{count} members do not divide over {ways} devices; {-(-count // ways) * ways} would"
        )
    return jax.device_put(population, batch_sharding(mesh))
