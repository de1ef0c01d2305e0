#!/usr/bin/env python3
"""Which updates do nothing? 10 - 0.000001 in three precisions, and the weights of a real training.

    python experiments/rounding.py

The same networks with parameters in float32, bfloat16 and float16; in bfloat16 with float32 masters
behind it; and in bfloat16 that is rounded up or down by chance. All else is float32 everywhere.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from answers import Row, chosen, collect, compared, markdown_table, plain, publish, spread, values
from matplotlib.figure import Figure
from transferring import judged_on

from alexnet_jax.assemble import make_augment
from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.data.loader import training_batches
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.optim.rounding import lost_share, spacing, stochastic_round
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.parts import Parts, evaluate_split, make_parts, make_update, placed
from alexnet_jax.train.canvas import eval_canvas, train_canvas
from alexnet_jax.train.diagnostics import data_gradient
from alexnet_jax.train.state import TrainState

TYPES = ("float32", "bfloat16", "float16")
POINTS = 12  # of a training at which its updates are looked at


class Storage(NamedTuple):
    """How parameters are kept from one update to the next."""

    dtype: str  # in which the network gets them
    masters: bool = False  # kept in float32
    chance: bool = False  # rounded up or down at random
    colour: str = ""


STORAGES = {
    "float32": Storage("float32", colour="#7a8699"),
    "bfloat16": Storage("bfloat16", colour="#d97a2b"),
    "float16": Storage("float16", colour="#3f83d1"),
    "bfloat16, float32 masters": Storage("bfloat16", masters=True, colour="#8c4a12"),
    "bfloat16, stochastic rounding": Storage("bfloat16", chance=True, colour="#3a9a6b"),
}
PAIRS = (  # that the answer compares
    ("bfloat16", "float32"),
    ("bfloat16, float32 masters", "bfloat16"),
    ("bfloat16, stochastic rounding", "bfloat16"),
    ("float16", "float32"),
)


@dataclass(frozen=True)
class Options:
    """Which updates round to nothing, and what mends it?"""

    data: str = "street/a"
    seeds: int = 3
    updates: int = 200
    batch_size: int = 32
    learning_rate: float = 0.02
    """Of the first update, from which it falls to zero by a cosine."""
    momentum: float = 0.9
    initializer: str = "glorot_normal"
    size: int = 32
    """Of the images, in pixels."""
    width: float = 0.5
    out: str = "runs/experiments/rounding"
    """The folder for results.json, figure.png and README.md."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.batch_size, self.updates - POINTS + 1) < 1:
            raise ValueError(f"seeds and batch_size have to be at least 1, updates {POINTS}")


def main(options: Options) -> None:
    base = make_parts(config(options))
    judge = judged_on(base)
    made: dict[
        str, tuple[Parts, Any]
    ] = {}  # of the case at hand: its compiled steps serve all seeds

    def measure(storage: str, seed: int) -> dict[str, Any]:
        if storage not in made:
            made.clear()
            made[storage] = stored(base, STORAGES[storage])
        return trained(*made[storage], seed, options.updates, judge)

    cases = [{"storage": name, "seed": seed} for name in STORAGES for seed in range(options.seeds)]
    settings = {k: v for k, v in asdict(options).items() if k not in ("out", "seeds")}
    rows = collect(Path(options.out), settings | {"judged_on": judge}, cases, measure)
    publish(Path(options.out), *page(options, rows, judge, len(base.readers[judge])))


def config(options: Options) -> Config:
    return Config(
        data=options.data,
        spec="small",
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        epochs=1,
        patience=None,
        model=Model(width=options.width, kernel_init=options.initializer, dropout_rate=0.0),
        optimizer=Optimizer(momentum=options.momentum),
        schedule=Schedule("cosine", duration=options.updates),
        augment=Augment(flip=0.5),
        input=Input(canvas=options.size, size=options.size),
        run=Run(precision="exact"),  # which compiles in less time
    )


def difference_of(dtype: str, number: float = 10.0, small: float = 1e-6) -> float:
    """number - small, all three of a type."""
    return float(jnp.asarray(number, dtype) - jnp.asarray(small, dtype))


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


def trained(parts: Parts, lost: Any, seed: int, updates: int, judge: str) -> dict[str, Any]:
    """Train, and look at the updates of POINTS batches: at how many of them do nothing."""
    state, losses, found = parts.create(seed), [], []
    at = np.linspace(1, updates, POINTS).round().astype(int).tolist()
    batches = training_batches(
        parts.readers["train"], seed=seed, position=0, batch_size=parts.config.batch_size
    )
    with closing(placed(batches, parts.mesh)) as batches:
        for update, batch in zip(range(1, updates + 1), batches, strict=False):
            if update in at:
                found.append(round(float(lost(state, batch)), 5))
            state, metrics = make_update(parts, update, state, batch)
            losses.append(metrics["objective"])
    right, count = evaluate_split(parts, state, judge)["top1"]
    return {
        "lost": round(float(np.mean(found)), 5),
        "loss": round(float(np.mean(jax.device_get(losses[-50:]))), 5),
        "accuracy": right / count,
        "course": {"update": at, "lost": found},
    }


def page(options: Options, rows: list[Row], judge: str, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which updates do nothing, and does it matter?"
    facts = [
        [
            name,
            f"{difference_of(name):.9g}",
            f"{spacing(10.0, name):.2g}",
            f"{spacing(10.0, name) / 20:.1g}",
        ]
        for name in TYPES
    ]
    table = [
        [
            name,
            spread(values(rows, "lost", storage=name)),
            spread(values(rows, storage=name)),
            loss(values(rows, "loss", storage=name)),
        ]
        for name in STORAGES
    ]
    sections = (
        "By arithmetic alone:",
        markdown_table(
            ["type", "10 - 0.000001", "from number to number at 10", "lost below, of the 10"],
            facts,
        ),
        f"In training: the share of updates other than zero that leave their weight as it is, at "
        f"{POINTS} of {options.updates} updates; right answers on the {count} images of {judge} "
        "and the training loss of the last 50 updates. Mean and range of "
        f"{options.seeds} seeds:",
        markdown_table(["parameters", "updates that do nothing", "right answers", "loss"], table),
        "All storages of a seed begin with the same numbers, rounded to the type, and see the same "
        "batches. Masters are float32 parameters of which the network gets a rounded copy; the "
        "updates that count are those of the masters. Stochastic rounding goes up or down by "
        "chance, so that the mean is right: an update still leaves most weights as they are, and "
        "moves the others by more than was asked. Gradients of halves are halves; sums, momentum "
        "and activations are float32.",
        f"Every network makes {options.updates} updates of {options.batch_size} images of "
        f"{options.size} x {options.size} px, from a learning rate of {options.learning_rate:g} "
        f"by a cosine to zero, momentum {options.momentum:g}, and is judged at the end.",
    )
    return title, answer(options, rows), figure(options, rows), sections


def loss(found: np.ndarray) -> str:
    """Losses as "0.612 (0.601 to 0.633)"."""
    return f"{found.mean():.3f} ({found.min():.3f} to {found.max():.3f})"


def answer(options: Options, rows: list[Row]) -> str:
    """The sentences that the numbers make."""
    facts = ", ".join(
        f"{difference_of(name):.9g} in {name} (numbers at 10 are {spacing(10.0, name):.2g} apart)"
        for name in TYPES
    )
    lost = ", ".join(f"{spread(values(rows, 'lost', storage=name))} in {name}" for name in TYPES)
    against = [
        f"{first} against {second} "
        + compared(values(rows, storage=first), values(rows, storage=second))
        for first, second in PAIRS
    ]
    return (
        f"10 - 0.000001 is {facts}. In training, so many updates do nothing: {lost}. Right answers "
        f"after {options.updates} updates: {'; '.join(against)}."
    )


def figure(options: Options, rows: list[Row]) -> Figure:
    """Updates that do nothing over the training, and what was learned: means, seeds as dots."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    for place, (name, storage) in enumerate(STORAGES.items()):
        found = chosen(rows, storage=name)
        shares = 100 * np.array([row["course"]["lost"] for row in found])
        at = found[0]["course"]["update"]
        style = "--" if storage.masters else ":" if storage.chance else "-"
        left.plot(at, shares.mean(axis=0), style, color=storage.colour, lw=2.4, label=name)
        left.fill_between(
            at, shares.min(axis=0), shares.max(axis=0), color=storage.colour, alpha=0.15, lw=0
        )
        right_answers = 100 * values(rows, storage=name)
        right.plot(right_answers, [place] * len(found), ".", color=storage.colour, ms=13)
        right.plot(right_answers.mean(), place, "|", color=storage.colour, ms=34, mew=3.5)
    left.set_ylim(-2, 102)
    left.set_xlabel(f"update, of {options.updates}; the learning rate falls to zero", fontsize=12)
    left.set_ylabel("updates that leave the weight as it is, %", fontsize=12)
    left.legend(frameon=False, fontsize=11.5, loc="lower left", bbox_to_anchor=(0.02, 0.14))
    right.set_yticks(range(len(STORAGES)), STORAGES, fontsize=11)
    right.invert_yaxis()
    right.margins(x=0.1, y=0.15)
    right.set_xlabel("right answers, % (dots: seeds, lines: means)", fontsize=12)
    for axis in (left, right):
        plain(axis)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
