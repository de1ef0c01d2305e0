#!/usr/bin/env python3
"""Which updates do nothing? 10 - 0.000001 in three precisions, and the weights of a real training.

    python experiments/rounding.py

The same networks with parameters in float32, bfloat16 and float16; in the halves with float32
masters behind them; and in halves that are rounded up or down by chance. All else is float32.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from answers import Row, chosen, collect, compared, markdown_table, plain, publish, spread, values
from matplotlib.figure import Figure
from storing import CHANCE, FULL, HALVES, MASTERS, STORAGES, stored
from sweeping import Sweeping, settings_for, updates_of
from transferring import judged_on

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.data.loader import training_batches
from alexnet_jax.optim.rounding import spacing
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.parts import Parts, evaluate_split, make_parts, make_update, placed

POINTS = 12  # of a training at which its updates are looked at


@dataclass(frozen=True)
class Options(Sweeping):
    """Which updates round to nothing, and what mends it?"""

    updates: int = 200
    """At most; fewer where this machine would need longer than `minutes`."""
    learning_rate: float = 0.02
    """Of the first update, from which it falls to zero by a cosine."""
    momentum: float = 0.9
    initializer: str = "glorot_normal"
    width: float = 0.5
    out: str = "runs/experiments/rounding"


def main(options: Options) -> None:
    cases = [{"storage": name, "seed": seed} for name in STORAGES for seed in range(options.seeds)]
    updates = updates_of(options, make_parts(config(options, options.updates)), len(cases))
    base = make_parts(config(options, updates))
    judge = judged_on(base)
    made: dict[str, tuple] = {}  # of the case at hand: its compiled steps serve all seeds

    def measure(storage: str, seed: int) -> dict[str, Any]:
        if storage not in made:
            made.clear()
            made[storage] = stored(base, STORAGES[storage])
        return trained(*made[storage], seed, updates, judge)

    settings = settings_for(options, updates) | {"judged_on": judge}
    rows = collect(Path(options.out), settings, cases, measure)
    publish(Path(options.out), *page(options, rows, updates, judge, len(base.readers[judge])))


def config(options: Options, updates: int) -> Config:
    name, size = options.network
    return Config(
        data=options.data,
        spec=name,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        epochs=1,
        patience=None,
        model=Model(
            width=None if options.full else options.width,
            kernel_init=options.initializer,
            dropout_rate=0.0,
        ),
        optimizer=Optimizer(momentum=options.momentum),
        schedule=Schedule("cosine", duration=updates),
        augment=Augment(flip=0.5),
        input=Input(canvas=size, size=size, examples=options.images),
        run=Run(precision="exact"),  # which compiles in less time
    )


def difference_of(dtype: str, number: float = 10.0, small: float = 1e-6) -> float:
    """number - small, all three of a type."""
    return float(jnp.asarray(number, dtype) - jnp.asarray(small, dtype))


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


def page(options: Options, rows: list[Row], updates: int, judge: str, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which updates do nothing, and does it matter?"
    facts = [
        [
            name,
            f"{difference_of(name):.9g}",
            f"{spacing(10.0, name):.2g}",
            f"{spacing(10.0, name) / 20:.1g}",
        ]
        for name in (FULL, *HALVES)
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
        f"{POINTS} of {updates} updates; right answers on the {count} images of {judge} "
        "and the training loss of the last 50 updates. Mean and range of "
        f"{options.seeds} seeds:",
        markdown_table(["parameters", "updates that do nothing", "right answers", "loss"], table),
        "All storages of a seed begin with the same numbers, rounded to the type, and see the same "
        "batches. Masters are float32 parameters of which the network gets a rounded copy; the "
        "updates that count are those of the masters. Stochastic rounding goes up or down by "
        "chance, so that the mean is right: an update still leaves most weights as they are, and "
        "moves the others by more than was asked. Gradients of halves are halves; sums, momentum "
        "and activations are float32.",
        f"{options.told}{'' if options.full else f', of width {options.width:g}'}: "
        f"{updates} updates of {options.batch_size} "
        f"images, from a learning rate of {options.learning_rate:g} by a cosine to zero, momentum "
        f"{options.momentum:g}. Every network is judged at the end.",
    )
    return title, answer(rows, updates), figure(rows, updates), sections


def loss(found: np.ndarray) -> str:
    """Losses as "0.612 (0.601 to 0.633)"."""
    return f"{found.mean():.3f} ({found.min():.3f} to {found.max():.3f})"


def answer(rows: list[Row], updates: int) -> str:
    """The sentences that the numbers make."""
    facts = "; ".join(
        f"{difference_of(name):.9g} in {name}, whose numbers at 10 are {spacing(10.0, name):.2g} "
        "apart"
        for name in (FULL, *HALVES)
    )

    def lost(kept: str) -> str:
        shares = {half: spread(values(rows, "lost", storage=half + kept)) for half in HALVES}
        return " and ".join(f"{share} in {half}" for half, share in shares.items())

    def mended(kept: str) -> str:
        pairs = {half: [values(rows, storage=half + k) for k in (kept, "")] for half in HALVES}
        return "; ".join(f"in {half} {compared(*pair)}" for half, pair in pairs.items())

    full = values(rows, storage=FULL)
    costs = "; ".join(f"in {half} {compared(values(rows, storage=half), full)}" for half in HALVES)
    return (
        f"10 - 0.000001 is {facts}. In training, {spread(values(rows, 'lost', storage=FULL))} of "
        f"the updates leave their weight as it is in {FULL}, {lost('')}. With {FULL} masters it is "
        f"{lost(MASTERS)}; with stochastic rounding, which moves the other weights farther, "
        f"{lost(CHANCE)}. Right answers after {updates} updates against those of {FULL}: {costs}. "
        f"With masters against without: {mended(MASTERS)}. With stochastic rounding against "
        f"without: {mended(CHANCE)}."
    )


def figure(rows: list[Row], updates: int) -> Figure:
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
    left.set_xlabel(f"update, of {updates}; the learning rate falls to zero", fontsize=12)
    left.set_ylabel("updates that leave the weight as it is, %", fontsize=12)
    left.legend(frameon=False, fontsize=10, loc="lower left", bbox_to_anchor=(0.0, 0.1))
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
