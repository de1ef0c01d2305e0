#!/usr/bin/env python3
"""What helps a network that does not even learn its training images: more of it, or a better start?

    python experiments/underfitting.py

Width and depth from starved to ample, all trained for as many updates; then, on another data set, a
start from a network of the first one against a cold start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from answers import Row, chosen, compared, markdown_table, pairs, publish, spread, values
from sweeping import Sweeping, base_config, images_of, lasting, run_sweep, trained
from underfitting_figure import COLD, LONG, WARM, figure

from alexnet_jax.assemble import make_preprocessing, make_spec
from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Config
from alexnet_jax.models.spec import multiply_adds
from alexnet_jax.parts import make_parts
from alexnet_jax.settings import changed
from alexnet_jax.sweep import Outcome, sweep
from alexnet_jax.weights import Weights, write


@dataclass(frozen=True)
class Options(Sweeping):
    """What helps against underfitting?"""

    updates: int = 400
    widths: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
    """Factors of the number of filters and neurons, starved to ample."""
    depths: tuple[int, ...] = (1, 2, 3)
    """How often the convolutions after the second are repeated."""
    other: str = "street/b"
    """The data set on which a start from a network trained on `data` is tried."""
    out: str = "runs/experiments/underfitting"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or not self.depths:
            raise ValueError("widths and depths have to name at least one each")


def main(options: Options) -> None:
    folder, base = Path(options.out), base_config(options)
    shapes = dict.fromkeys([(w, 1) for w in options.widths] + [(1.0, d) for d in options.depths])
    size = make_preprocessing(base).size

    def compute(width: float, depth: int) -> int:
        model = {"model.width": width, "model.depth": depth}
        return multiply_adds(make_spec(changed(base, model), 2), size)

    cost = [max(1.0, compute(*shape) / compute(1.0, 1)) for shape in shapes]
    rows, updates = run_sweep(
        options,
        base,
        [
            {"width": width, "depth": depth, "multiply_adds": compute(width, depth), "seed": seed}
            for width, depth in shapes
            for seed in range(options.seeds)
        ],
        lambda width, depth, multiply_adds, seed: {
            "model.width": width,
            "model.depth": depth,
            "seed": seed,
        },
        splits=("validation", "test", "train"),
        evaluations=3,
        networks=round(options.seeds * (sum(cost) + 4) + 1),
        observe=parameters,
    )

    cold = replace(base, data=options.other)
    source = folder / "source.npz"
    if not source.exists():
        make_source(base, updates, source)
    twice = lasting(cold, 2 * updates, images_of(cold), 20)
    settings = {
        COLD: {},
        WARM: {"init": str(source)},
        LONG: {"epochs": twice.epochs, "run": twice.run},
    }
    starts, _ = run_sweep(
        options,
        cold,
        [{"start": start, "seed": seed} for start in settings for seed in range(options.seeds)],
        lambda start, seed: {"seed": seed, **settings[start]},
        evaluations=10,
    )
    publish(folder, *page(options, base, rows, starts, updates))


def parameters(outcome: Outcome) -> dict[str, Any]:
    """How many parameters the network has."""
    return {"parameters": sum(x.size for x in jax.tree.leaves(outcome.state.params))}


def make_source(base: Config, updates: int, path: Path) -> None:
    """Train a network with another seed than those that are compared, and write it to a file."""
    config = lasting(base, updates, images_of(base), 1)
    (outcome,) = sweep(config, [{"seed": 1000}])
    if outcome.diverged_at is not None:
        raise ValueError(f"the source diverged at step {outcome.diverged_at}: lower learning_rate")
    parts = make_parts(config)
    weights = Weights(
        spec=parts.task.net.spec,
        params=jax.tree.map(np.asarray, jax.device_get(outcome.state.params)),
        preprocessing=parts.preprocessing.to_json(),
        classes=parts.classes,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(weights, path)


def page(options: Options, base: Config, rows: list[Row], starts: list[Row], updates: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "What helps a network that does not learn even its training images?"
    lost = [row for row in (*rows, *starts) if row["diverged_at"] is not None]
    rows, starts = trained(rows), trained(starts)
    lines = []
    for width, depth in dict.fromkeys((row["width"], row["depth"]) for row in rows):
        of = chosen(rows, width=width, depth=depth)
        gap = values(of, "seen/top1") - values(of, "test/top1")
        lines.append(
            [
                f"width {width:g}, depth {depth}",
                f"{of[0]['parameters']:,}",
                f"{of[0]['multiply_adds']:,}",
                spread(values(of, "seen/top1")),
                spread(values(of, "test/top1")),
                f"{100 * gap.mean():.1f}",
            ]
        )
    told = [
        [
            f"{start}, {updates * (2 if start == LONG else 1)} updates",
            spread(values(of, "train/top1")),
            spread(values(of, "test/top1")),
            "" if start == COLD else between(starts, "test/top1", {"start": start}, CASE),
        ]
        for start in (COLD, WARM, LONG)
        if (of := chosen(starts, start=start))
    ]
    header = ["network", "parameters", "multiply-adds", "right in training", "right in test"]
    sections = [
        f"{options.told} on "
        f"{options.images or 'all'} images of `{options.data}`, without any remedy: {updates} "
        f"updates of {options.batch_size} images, from a learning rate of "
        f"{options.learning_rate:g} by a cosine to zero. Mean and range of {options.seeds} "
        "initializations and orders. Multiply-adds are those of one image, forward.",
        markdown_table([*header, "gap, points"], lines),
        f"On `{options.other}`, from a network that was trained on `{options.data}` for {updates} "
        "updates, or cold; for as many updates, and for twice as many, which is what source and "
        "network took together:",
        markdown_table(
            ["start", "right in training, last batches", "right in test", "test against cold"],
            told,
        ),
    ]
    if lost:
        names = ", ".join(sorted({name_of(row) for row in lost}))
        sections.append(f"{len(lost)} networks diverged and are left out: {names}.")
    return title, answer(options, rows, starts, updates), figure(rows, starts), sections


CASE = {"start": COLD}


def name_of(row: Row) -> str:
    return row["start"] if "start" in row else f"width {row['width']:g}, depth {row['depth']}"


def between(rows: Sequence[Row], name: str, first: dict, second: dict) -> str:
    return compared(*pairs(rows, name, first, second))


def answer(options: Options, rows: Sequence[Row], starts: Sequence[Row], updates: int) -> str:
    """The sentences that the numbers make."""
    if not rows:
        return "Every network diverged: there is nothing to compare."
    told = []
    widths = sorted({row["width"] for row in rows if row["depth"] == 1})
    if len(widths) > 1:
        starved, ample = ({"width": w, "depth": 1} for w in (widths[0], widths[-1]))
        few, many = (chosen(rows, **case)[0]["parameters"] for case in (starved, ample))
        told.append(
            f"At width {widths[0]:g} ({few:,} parameters) the network gives the right answer to "
            f"{spread(values(rows, 'seen/top1', **starved))} of its own training images and to "
            f"{spread(values(rows, 'test/top1', **starved))} of the test. Width {widths[-1]:g} "
            f"({many:,} parameters) has {between(rows, 'seen/top1', ample, starved)} in training "
            f"and {between(rows, 'test/top1', ample, starved)} in test."
        )
    depths = sorted({row["depth"] for row in rows if row["width"] == 1.0})
    if len(depths) > 1:
        deep, flat = ({"width": 1.0, "depth": d} for d in (depths[-1], depths[0]))
        told.append(
            f"Depth {depths[-1]} against depth {depths[0]}: "
            f"{between(rows, 'seen/top1', deep, flat)} in training, "
            f"{between(rows, 'test/top1', deep, flat)} in test."
        )
    if chosen(starts, start=COLD) and chosen(starts, start=WARM):
        told.append(
            f"On {options.other}, after {updates} updates, a pre-trained start has "
            f"{between(starts, 'test/top1', {'start': WARM}, CASE)} than a cold one"
            + caught_up(starts)
            + "."
        )
        if chosen(starts, start=LONG):
            gain = between(starts, "test/top1", {"start": WARM}, {"start": LONG})
            told.append(
                "Against a cold start that is trained twice as long, which takes as much as source "
                f"and network, it has {gain}."
            )
    return " ".join(told)


def caught_up(starts: Sequence[Row]) -> str:
    """When the pre-trained networks first reach, on the mean, where the cold ones end."""
    warm = chosen(starts, start=WARM)
    level = values(starts, "test/top1", start=COLD).mean()
    curve = np.mean([row["curve"]["test/top1"] for row in warm], axis=0)
    reached = np.flatnonzero(curve >= level)
    if not len(reached):
        return ""
    return (
        f", whose {100 * level:.1f} % it reaches by update {warm[0]['curve']['step'][reached[0]]}"
    )


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
