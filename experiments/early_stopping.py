#!/usr/bin/env python3
"""When to stop? Where early stopping ends a training, what it restores, and what noise does to it.

    python experiments/early_stopping.py

Networks are trained on few images far beyond where validation is best. What patience would have
done is then asked of their curves: the rule is the one that runs have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from answers import Row, compared, markdown_table, publish, spread
from early_stopping_figure import figure
from stopping import Stop, replay
from sweeping import Sweeping, base_config, run_sweep, trained

from alexnet_jax.cache import keep_compiled
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.parts import make_parts

MONITORS = {"validation/loss": "min", "validation/top1": "max"}
DRAWS = 200  # of validation images, for each network and number of images


@dataclass(frozen=True)
class Options(Sweeping):
    """When to stop?"""

    images: int | None = 200
    seeds: int = 5
    updates: int = 400
    evaluations: int = 40
    """Of each network, on all of validation, test and training."""
    patience: tuple[int, ...] = (1, 2, 3, 5, 8, 12, 20)
    """Evaluations without a better one before training stops."""
    shown: int = 8
    """The patience that is drawn, and that the noise is tried with: the default of a run."""
    noise: tuple[int, ...] = (20, 50, 100, 200)
    """Validation images that an evaluation is judged on."""
    out: str = "runs/experiments/early_stopping"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluations < 2 or min((*self.patience, *self.noise, self.shown), default=0) < 1:
            raise ValueError("patience, noise and shown have to be at least 1, evaluations 2")


def main(options: Options) -> None:
    base = replace(base_config(options), schedule=Schedule("constant", warmup=20))
    count = len(make_parts(base).readers["validation"])
    if max(options.noise, default=0) > count:
        raise ValueError(f"noise is {options.noise}, but validation has {count} images")
    rows, updates = run_sweep(
        options,
        base,
        [{"seed": seed} for seed in range(options.seeds)],
        lambda seed: {"seed": seed},
        splits=("validation", "test", "train"),
        evaluations=options.evaluations,
    )
    publish(Path(options.out), *page(options, rows, updates, count))


def stops(rows: Sequence[Row], monitor: str, patience: int | None) -> list[Stop]:
    """Where each network stops."""
    return [
        replay(row["curve"][monitor], mode=MONITORS[monitor], patience=patience) for row in rows
    ]


def at(rows: Sequence[Row], name: str, places: Sequence[int]) -> np.ndarray:
    """A metric of each network at one of its evaluations, float64 [n]."""
    return np.array([row["curve"][name][i] for row, i in zip(rows, places, strict=True)], float)


class Noisy(NamedTuple):
    """What stopping on few validation images does, means over draws for each network, [n] each:
    the test where it restores, what validation said there, what all of validation says there, and
    the updates made."""

    test: np.ndarray
    told: np.ndarray
    true: np.ndarray
    updates: np.ndarray


def noisy(rows: Sequence[Row], images: int, count: int, patience: int, seed: int = 0) -> Noisy:
    """Early stopping on validation accuracy where each evaluation asks `images` of the `count`
    validation images, drawn anew: the number of right answers among them is hypergeometric, so it
    can be drawn from the whole curve."""
    rng = np.random.default_rng(seed)
    found = []
    for row in rows:
        curve = {name: np.array(values) for name, values in row["curve"].items()}
        exact = curve["validation/top1"]
        right = np.rint(exact * count).astype(int)
        drawn = rng.hypergeometric(right, count - right, images, (DRAWS, len(right))) / images
        ends = [replay(each, mode="max", patience=patience) for each in drawn]
        best = [end.best for end in ends]
        found.append(
            (
                curve["test/top1"][best].mean(),
                drawn[range(DRAWS), best].mean(),
                exact[best].mean(),
                curve["step"][[end.last for end in ends]].mean(),
            )
        )
    return Noisy(*np.array(found, float).reshape(-1, 4).T)


def page(options: Options, rows: list[Row], updates: int, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "When should training stop?"
    left = trained(rows)
    lost = len(rows) - len(left)
    noise = {n: noisy(left, n, count, options.shown) for n in (*options.noise, count)}
    swept = {
        monitor: {patience: stops(left, monitor, patience) for patience in options.patience}
        for monitor in MONITORS
    }
    header = ["patience", "updates made", "best at update", "test there", "test loss there"]
    header += ["test at the stop", "test loss at the stop", "stopped"]
    sections = [
        f"{options.told}, on {options.images or 'all'} "
        f"images of `{options.data}` without any remedy; {updates} updates of "
        f"{options.batch_size} images at a learning rate of {options.learning_rate:g}, constant, "
        f"so that a curve does not depend on where it ends. {len(left)} initializations and orders "
        f"of the same images{f'; {lost} more diverged' if lost else ''}. Mean and range of them."
    ]
    for monitor in MONITORS:
        lines = [line(left, str(p), ends) for p, ends in swept[monitor].items()]
        lines.append(line(left, "never", stops(left, monitor, None)))
        sections += [f"Stopped by {monitor}:", markdown_table(header, lines)]
    sections += [
        f"Stopped by validation accuracy with patience {options.shown}, where each evaluation asks "
        f"some of the {count} validation images, drawn anew ({DRAWS} draws for each network, "
        "replayed on its curve):",
        markdown_table(
            [
                "validation images",
                "best it saw",
                "all of validation there",
                "test there",
                "updates",
            ],
            [
                [str(n), spread(x.told), spread(x.true), spread(x.test), span(x.updates)]
                for n, x in noise.items()
            ],
        ),
    ]
    drawn = {monitor: stops(left, monitor, options.shown) for monitor in MONITORS}
    return (
        title,
        answer(options, left, noise, count),
        figure(left, drawn, swept, noise),
        sections,
    )


def line(rows: Sequence[Row], name: str, ends: Sequence[Stop]) -> list[str]:
    """A patience's line of the table."""
    best, last = [end.best for end in ends], [end.last for end in ends]
    return [
        name,
        span(at(rows, "step", last)),
        span(at(rows, "step", best)),
        spread(at(rows, "test/top1", best)),
        span(at(rows, "test/loss", best), 2),
        spread(at(rows, "test/top1", last)),
        span(at(rows, "test/loss", last), 2),
        f"{sum(end.early for end in ends)} of {len(ends)}",
    ]


def span(numbers: np.ndarray, digits: int = 0) -> str:
    """Mean and range."""
    if not len(numbers):
        return ""
    mean, low, high = (f"{x:.{digits}f}" for x in (numbers.mean(), numbers.min(), numbers.max()))
    return f"{mean} ({low} to {high})"


def answer(options: Options, rows: Sequence[Row], noise: Mapping[int, Noisy], count: int) -> str:
    """The sentences that the numbers make."""
    if not rows:
        return "Every network diverged: there is no curve to stop on."
    told = []
    end = [len(row["curve"]["step"]) - 1 for row in rows]
    best = [stop.best for stop in stops(rows, "validation/loss", None)]
    ratio = at(rows, "validation/loss", end) / at(rows, "validation/loss", best)
    told.append(
        f"Validation loss is lowest after {span(at(rows, 'step', best))} of "
        f"{at(rows, 'step', end)[0]:.0f} updates"
        + (
            f" and by the end {span(ratio, 1)} times as high."
            if ratio.min() > 1
            else "; that it rises from there on is not shown for every network."
        )
    )
    top = [stop.best for stop in stops(rows, "validation/top1", None)]
    told.append(f"Validation accuracy is highest after {span(at(rows, 'step', top))}.")
    for monitor in MONITORS:
        ends = stops(rows, monitor, options.shown)
        restored = [stop.best for stop in ends]
        made = at(rows, "step", [stop.last for stop in ends])
        gain = compared(at(rows, "test/top1", restored), at(rows, "test/top1", end))
        told.append(
            f"Stopped by {monitor} with patience {options.shown}, after {span(made)} updates, the "
            f"restored network has {gain} in the test than at the end, at a test loss of "
            f"{at(rows, 'test/loss', restored).mean():.2f} against "
            f"{at(rows, 'test/loss', end).mean():.2f}."
        )
    if options.noise:
        few = min(options.noise)
        cost = compared(noise[few].test, noise[count].test)
        told.append(
            f"Judged on {few} validation images in place of {count}, it restores networks with "
            f"{cost} in the test, and believes them to be "
            f"{100 * (noise[few].told - noise[few].true).mean():.1f} points better than they are."
        )
    return " ".join(told)


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
