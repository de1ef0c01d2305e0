"""A sweep: the same configuration with changes, each trained as a run would be to its last epoch.

    cases = [{"learning_rate": rate, "seed": seed} for rate in (0.01, 0.1) for seed in range(3)]
    for outcome in sweep(recipe("street"), cases):
        print(outcome.case, outcome.rows[-1]["validation/top1"])

Cases that differ in nothing but numbers that are arrays in the state share one compiled program.
Nothing is saved and nothing stops early: a curve is whole, and `early_stopping` can be asked
afterwards where it would have stopped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alexnet_jax.assemble import make_spec
from alexnet_jax.config import Config
from alexnet_jax.data.loader import training_batches
from alexnet_jax.optim.methods import method
from alexnet_jax.parts import Parts, evaluates_at, make_parts, placed, split_figures
from alexnet_jax.settings import changed, value_of
from alexnet_jax.train.evaluate import add
from alexnet_jax.train.loop import named, parted
from alexnet_jax.train.parallel import AXIS
from alexnet_jax.train.population import (
    Population,
    gather,
    member,
    population_step,
    spread,
    with_hyper,
)
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.initial import given, initial_state

# Settings that are arrays in the state, and their names there; where a setting is None, the network
# or the method does without it, and that is another program.
ARRAYS = {
    "learning_rate": "learning_rate",
    "optimizer.l1": "l1",
    "optimizer.l2": "l2",
    "optimizer.decay": "decay",
    "optimizer.momentum": "momentum",
    "model.dropout_rate": "dropout_rate",
}


@dataclass(frozen=True)
class Outcome:
    """What came of case number `number`: the rows of its evaluations, as metrics.csv has them with
    "step", and its last state. `diverged_at` is the first step whose loss or gradient is not
    finite, or None; its state then means nothing.
    """

    number: int
    case: dict[str, Any]
    rows: list[dict[str, float]]
    state: TrainState
    diverged_at: int | None


class Member(NamedTuple):
    """A case and the configuration that it makes."""

    number: int
    case: dict[str, Any]
    config: Config


def sweep(
    config: Config,
    cases: Sequence[Mapping[str, Any]],
    *,
    splits: Sequence[str] = ("validation",),
    together: bool | None = None,
) -> Iterator[Outcome]:
    """Train every case; outcomes in the order of the cases within each group of equal programs.

    Args:
      config: what the cases have in common. Data are opened, and held out, with its seed.
      cases: changes by name: {"optimizer.l2": 1e-4, "model.width": 2, "seed": 1}.
      splits: what is evaluated, at `run.evaluate_every`; "train" is judged as the others are, and
        called "seen": "train/..." is what training itself measured, augmented and dropped out.
      together: train the members of a group at once (train/population.py) or one after the other;
        by default at once, except on a CPU, where that is slower.

    A member's order of images, augmentation, dropout and initialization are those of its seed.

    Raises ValueError, before anything is trained, for a setting that does not exist, with the
    nearest name, and for an optimizer, initializer or normalization that there is not.
    """
    together = jax.default_backend() != "cpu" if together is None else together
    groups: dict[str, list[Member]] = {}
    for number, case in enumerate(cases):
        asked = changed(config, case)
        if len(asked.transfer.freeze) > 1 or asked.plateau.factor is not None:
            raise ValueError("a sweep has no stages (transfer.freeze) and no plateau.factor")
        make_spec(asked, classes=2)
        o = asked.optimizer
        method(o.name, o.momentum, o.nesterov, o.extra)
        groups.setdefault(repr(_program(asked)), []).append(Member(number, dict(case), asked))
    return _outcomes(list(groups.values()), config.seed, splits, together)


def _outcomes(
    groups: list[list[Member]], seed: int, splits: Sequence[str], together: bool
) -> Iterator[Outcome]:
    for group in groups:
        parts = make_parts(dataclasses.replace(group[0].config, seed=seed))
        for members in [group] if together else [[one] for one in group]:
            yield from _train(parts, members, splits, _at_once if together else _alone)


def _program(config: Config) -> Config:
    """The config with one value for all numbers that are arrays in the state: members for which it
    is equal share a compiled program."""
    given = {name for name, value in _arrays(config).items() if value is not None}
    return changed(config, {"seed": 0, **dict.fromkeys(sorted(given), 0.5)})


def _arrays(config: Config) -> dict[str, float | None]:
    values = {name: value_of(config, name) for name in ARRAYS}
    if config.optimizer.name != "sgd":
        values["optimizer.momentum"] = None  # fixed in the program: only ours reads it as an array
    return values


def _begin(parts: Parts, config: Config) -> TrainState:
    """The fresh state of a case."""
    values = {ARRAYS[name]: x for name, x in _arrays(config).items() if x is not None}
    if not parts.task.net.spec.dropout:
        values.pop("dropout_rate", None)
    state = parts.create(config.seed)
    if config.init is not None:
        keep = config.transfer.keep
        state, _ = initial_state(
            given(config.init), state, keep, parts.preprocessing, parts.classes
        )
    return with_hyper(state, **values)


def _train(
    parts: Parts, members: list[Member], splits: Sequence[str], how: Callable
) -> list[Outcome]:
    """Train some cases of one program side by side: their outcomes."""
    configs = [member.config for member in members]
    rows: list[list[dict[str, float]]] = [[] for _ in members]
    running: list[dict] = [{} for _ in members]
    diverged: list[int | None] = [None for _ in members]
    states, advance, state_of = how(parts, [_begin(parts, config) for config in configs])
    with ExitStack() as stack:
        streams = {c.seed: stack.enter_context(closing(_batches(parts, c.seed))) for c in configs}
        for number in range(1, parts.total_steps + 1):
            batches = {seed: next(stream) for seed, stream in streams.items()}
            states, measured = advance(states, [batches[c.seed] for c in configs])
            for i, metrics in enumerate(measured):
                if diverged[i] is not None:
                    continue
                numbers, sums = parted(metrics)
                if not math.isfinite(numbers["objective"] + numbers["gradient_norm"]):
                    diverged[i] = number
                    continue
                running[i] = add(running[i], sums)
                if evaluates_at(parts, number):
                    row = {
                        "step": number,
                        **named("train", parts.task.metrics(running[i]) | numbers),
                    }
                    rows[i].append(row | _judged(parts, state_of(states, i), splits))
                    running[i] = {}
            if None not in diverged:
                break
    return [
        Outcome(m.number, m.case, rows[i], state_of(states, i), diverged[i])
        for i, m in enumerate(members)
    ]


def _alone(parts: Parts, states: list[TrainState]) -> tuple[Any, Callable, Callable]:
    """(states, how they advance, one of them) of one member, by the step that runs have."""

    def advance(states: list, batches: list) -> tuple[list, list]:
        state, measured = parts.stages[0].step(states[0], batches[0])
        return [state], [jax.device_get(measured)]

    return states, advance, lambda states, i: states[i]


def _at_once(parts: Parts, states: list[TrainState]) -> tuple[Any, Callable, Callable]:
    """The same of many members in one program."""
    step = population_step(parts.stages[0].plain_step, shared=False)
    population = gather(states)
    if len(states) % parts.mesh.shape[AXIS] == 0:
        population = spread(population, parts.mesh)

    def advance(population: Population, batches: list) -> tuple[Population, list]:
        population, measured = step(population, jax.tree.map(lambda *x: jnp.stack(x), *batches))
        measured = jax.device_get(measured)
        return population, [jax.tree.map(lambda x, i=i: x[i], measured) for i in range(len(states))]

    place = jax.tree.map(lambda x: x.sharding, parts.stages[0].target)
    return population, advance, lambda p, i: jax.device_put(member(p, i), place)


def _batches(parts: Parts, seed: int) -> Generator[dict, None, None]:
    """The training batches of a seed, as a run of that seed has them."""
    size = parts.config.batch_size
    batches = training_batches(parts.readers["train"], seed=seed, position=0, batch_size=size)
    return placed(batches, parts.mesh)


def _judged(parts: Parts, state: TrainState, splits: Sequence[str]) -> dict[str, float]:
    """What evaluation finds in some splits; the training split's is called "seen"."""
    found: dict[str, float] = {}
    for split in splits:
        name = "seen" if split == "train" else split
        found |= named(name, split_figures(parts, state, split))
    return found
