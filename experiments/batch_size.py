#!/usr/bin/env python3
"""What does the batch size cost, at a constant learning rate and at one that grows with it?

    python experiments/batch_size.py                                # 8 to 512, around 32

Every network sees as many images. The rate is that of the base batch, or in proportion to the batch
(Krizhevsky 2014, arXiv:1404.5997; Goyal et al. 2017, arXiv:1706.02677), after a warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from answers import (
    Row,
    chosen,
    direction,
    markdown_table,
    paired,
    plain,
    publish,
    shared,
    survivors,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweeping import Sweeping, base_config, run_sweep

from alexnet_jax.cache import keep_compiled

CONSTANT, SCALED = "constant", "scaled"
COLOURS = {CONSTANT: "#3f83d1", SCALED: "#d97a2b"}


@dataclass(frozen=True)
class Options(Sweeping):
    """What does the batch size cost?"""

    updates: int = 400
    """Of the base batch, at most; fewer where this machine would need longer than `minutes`. Other
    batches see as many images."""
    batch_size: int = 32
    """The base, whose learning rate is `learning_rate`."""
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    target: float = 0.7
    """Right answers in validation that are to be reached, as a share."""
    out: str = "runs/experiments/batch_size"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.batches, default=0) < 1 or self.batch_size not in self.batches:
            raise ValueError(f"batches are {self.batches!r}; expected {self.batch_size} and others")
        if not 0 < self.target <= 1:
            raise ValueError(f"target is {self.target!r}; expected a share, such as 0.7")


def main(options: Options) -> None:
    base = base_config(options)
    cases = [
        {"batch": batch, "rate": rate, "seed": seed}
        for batch in options.batches
        for rate in rates(options, batch)
        for seed in range(options.seeds)
    ]

    def changes(batch: int, rate: float, seed: int) -> dict[str, Any]:
        return {"batch_size": batch, "learning_rate": rate, "seed": seed}

    warmup = f"{20 * options.batch_size} examples"
    base = replace(base, schedule=replace(base.schedule, warmup=warmup))
    free = ("batches", "target")
    rows, updates = run_sweep(options, base, cases, changes, splits=("validation",), free=free)
    publish(Path(options.out), *page(options, rows, updates))


def rates(options: Options, batch: int) -> list[float]:
    """The constant rate and the scaled one; they are the same for the base."""
    ways = (rate_of(options, batch, CONSTANT), rate_of(options, batch, SCALED))
    return list(dict.fromkeys(ways))


def rate_of(options: Options, batch: int, way: str) -> float:
    factor = batch / options.batch_size if way == SCALED else 1.0
    return options.learning_rate * factor


def reached(row: Row, target: float) -> int | None:
    """The first evaluated update with so many right answers; None for never."""
    curve = row["curve"]
    pairs = zip(curve.get("step", ()), curve.get("validation/top1", ()), strict=True)
    return next((int(step) for step, share in pairs if share >= target), None)


@dataclass(frozen=True)
class Outcome:
    """Of one batch size at one rate. `shares` {seed: right answers} at the end, of seeds that did
    not diverge; `steps` of the seeds that reached the target; `seeds` how many there are.
    """

    batch: int
    rate: float
    shares: dict[int, float]
    steps: list[int]
    seeds: int

    def told(self) -> str:
        return survivors(self.shares, self.seeds)

    def counted(self, each: int = 1) -> str:
        """Updates to the target, or images for `each` the batch: median and range."""
        if not self.steps:
            return "not reached"
        counts = each * np.array(self.steps)
        missed = self.seeds - len(counts)
        text = f"{np.median(counts):,.0f}"
        if len(counts) > 1:
            text += f" ({counts.min():,} to {counts.max():,})"
        return text + (f", {missed} of {self.seeds} not" if missed else "")

    @property
    def values(self) -> np.ndarray:
        return np.array(list(self.shares.values()))

    @property
    def whole(self) -> bool:
        """Whether every seed has reached the target."""
        return len(self.steps) == self.seeds


def outcome(options: Options, rows: Sequence[Row], batch: int, way: str) -> Outcome:
    rate = rate_of(options, batch, way)
    found = chosen(rows, batch=batch, rate=rate)
    shares = {row["seed"]: row["validation/top1"] for row in found if row["diverged_at"] is None}
    steps = [step for row in found if (step := reached(row, options.target)) is not None]
    return Outcome(batch, rate, shares, steps, len(found))


def outcomes(options: Options, rows: Sequence[Row], way: str) -> list[Outcome]:
    return [outcome(options, rows, batch, way) for batch in sorted(options.batches)]


def page(options: Options, rows: list[Row], updates: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "What does the batch size cost?"
    goal = f"{100 * options.target:g} %"
    lines, gains = [], []
    for batch in sorted(options.batches):
        for rate in rates(options, batch):
            way = CONSTANT if rate == options.learning_rate else SCALED
            found = outcome(options, rows, batch, way)
            to = [found.counted(), found.counted(batch)]
            lines.append([str(batch), f"{rate:g}", found.told(), *to])
        if batch != options.batch_size:
            ways = (outcome(options, rows, batch, way).shares for way in (SCALED, CONSTANT))
            gains.append([str(batch), paired(*ways) or "diverged"])
    images = updates * options.batch_size
    header = ["batch", "rate", "right answers", f"updates to {goal}", f"images to {goal}"]
    sections = (
        f"Right answers in validation at the end, mean and range of {options.seeds} "
        f"initializations; updates and images until {goal} are right there, median and range. "
        "Nothing is chosen by looking at it. Lines in the figure are medians:",
        markdown_table(header, lines),
        "A rate in proportion to the batch against the constant one:",
        markdown_table(["batch", "right answers"], gains),
        f"Every network sees {images:,} images, whatever its batch; the rate rises over the first "
        f"{20 * options.batch_size} and falls to zero by a cosine. SGD with momentum 0.9, "
        f"gradients clipped to a norm of 1. It is evaluated every {images // 20} images, or at the "
        "update that goes beyond: that is how finely the target is told.",
    )
    return title, answer(options, rows), figure(options, rows), sections


def answer(options: Options, rows: list[Row]) -> str:
    """The sentences that the numbers make."""
    ways = {way: outcomes(options, rows, way) for way in COLOURS}
    base = outcome(options, rows, options.batch_size, CONSTANT)
    goal = f"{100 * options.target:g} %"
    told = []
    there = [found for found in ways[CONSTANT] if found.shares]
    if not there:
        return "Nothing is shown: at the constant rate every network diverged."
    best = max(there, key=lambda found: found.values.mean())
    told.append(
        f"After as many images at the constant rate of {options.learning_rate:g}, a batch of "
        f"{best.batch} gets most right, {best.told()}"
        + (
            ""
            if best.batch == base.batch
            else f"; against one of {base.batch}, {paired(best.shares, base.shares)}"
        )
        + "."
    )
    for way, what in ((CONSTANT, "constant"), (SCALED, "scaled")):
        whole = [found for found in ways[way] if found.whole]
        if not whole:
            told.append(f"With the {what} rate no batch size reaches {goal} from every start.")
            continue
        few = min(whole, key=lambda found: float(np.median(found.steps)))
        least = min(whole, key=lambda found: found.batch * float(np.median(found.steps)))
        other = "" if few.batch == least.batch else f"{least.batch} "
        told.append(
            f"Of the batches that reach {goal} from every start at the {what} rate, {few.batch} "
            f"takes the fewest updates, {few.counted()}, and {other}the fewest images, "
            f"{least.counted(least.batch)}."
        )
    return " ".join([*told, scaling(options, rows)])


def scaling(options: Options, rows: Sequence[Row]) -> str:
    """Where the scaled rate is shown to be better, or worse, than the constant one."""
    sides: dict[str, list[str]] = {"gains": [], "loses": [], "neither": []}
    for batch in sorted(options.batches):
        if batch == options.batch_size:
            continue
        scaled, constant = (outcome(options, rows, batch, way) for way in (SCALED, CONSTANT))
        ours, theirs = shared(scaled.shares, constant.shares)
        side = {1: "gains", -1: "loses", 0: "neither"}[direction(ours, theirs)]
        if len(ours) < constant.seeds and len(scaled.shares) < len(constant.shares):
            side = "loses"  # since it diverges where the constant one does not
        sides[side].append(str(batch))
    told = [f"{side} at {', '.join(sides[side])}" for side in ("gains", "loses") if sides[side]]
    if sides["neither"]:
        told.append(f"shows no difference at {', '.join(sides['neither'])}")
    return f"Scaling the rate with the batch {'; it '.join(told)}." if told else ""


def figure(options: Options, rows: list[Row]) -> Figure:
    """Right answers, and updates and images to the target, over the batch size."""
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    accuracy, updates, images = figure.subplots(1, 3)
    for way, colour in COLOURS.items():
        found = [one for one in outcomes(options, rows, way) if one.shares]
        label = f"{way} rate"
        if found:
            line(accuracy, [(one.batch, 100 * one.values) for one in found], colour, label)
        found = [one for one in found if one.steps]
        if found:
            line(updates, [(one.batch, np.array(one.steps)) for one in found], colour, label)
            scaled = [(one.batch, one.batch * np.array(one.steps)) for one in found]
            line(images, scaled, colour, label)
    base = outcome(options, rows, options.batch_size, CONSTANT)
    if base.steps:
        ideal = base.batch * float(np.median(base.steps))
        sizes = np.array(sorted(options.batches))
        style = {"color": "#7a8699", "ls": ":", "lw": 1.8, "label": "as many images"}
        updates.plot(sizes, ideal / sizes, **style)
        images.plot(sizes, np.full(len(sizes), ideal), **style)
    goal = f"{100 * options.target:g} %"
    names = ("right answers in validation, %", f"updates to {goal}", f"images to {goal}")
    for axis, name in zip((accuracy, updates, images), names, strict=True):
        axis.set_xscale("log")
        axis.set_xticks(sorted(options.batches), [str(b) for b in sorted(options.batches)])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("batch size", fontsize=13)
        axis.set_title(name, fontsize=13)
        plain(axis)
    updates.set_yscale("log")
    images.set_ylim(0, 1.25 * images.get_ylim()[1])
    images.yaxis.set_major_formatter("{x:,.0f}")
    accuracy.axhline(100 * options.target, color="#7a8699", lw=1.2, ls="--", label="the target")
    for axis in (updates, images):
        missed(axis, options, rows)
    for axis in (accuracy, updates, images):
        axis.legend(frameon=False, fontsize=12)
    return figure


def line(axis: Axes, points: Sequence[tuple[int, np.ndarray]], colour: str, label: str) -> None:
    """Medians as a line, each seed as a dot."""
    sizes = [size for size, _ in points]
    axis.plot(sizes, [np.median(p) for _, p in points], "-", color=colour, lw=2.2, label=label)
    for size, each in points:
        axis.plot([size] * len(each), each, "o", color=colour, alpha=0.5, ms=6)


def missed(axis: Axes, options: Options, rows: Sequence[Row]) -> None:
    """A cross at the upper edge where not every seed reached the target."""
    for height, (way, colour) in zip((0.97, 0.91), COLOURS.items(), strict=True):
        sizes = [one.batch for one in outcomes(options, rows, way) if not one.whole]
        where = {"transform": axis.get_xaxis_transform(), "color": colour}
        axis.plot(sizes, [height] * len(sizes), "x", ms=9, mew=2.5, **where)
    axis.plot([], [], "x", color="#7a8699", ms=9, mew=2.5, label="not from every start")


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
