#!/usr/bin/env python3
"""Which optimizer trains best, each at the best of its own learning rates?

    python experiments/optimizers.py                                # ten methods, six rates each

The rates are swept on one initialization and judged on validation; the best one is trained from
three, and test is reported. Plain networks: no clipping, no remedy against overfitting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from answers import Row, chosen, markdown_table, paired, plain, publish, survivors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweeping import Sweeping, base_config, best_rate, edge, end_loss, run_sweep
from transferring import judged_on

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Optimizer
from alexnet_jax.parts import make_parts


class Method(NamedTuple):
    """Its usual learning rate, its settings, and how it is drawn."""

    usual: float
    optimizer: Optimizer
    colour: str
    line: str = "-"


BLUE, GREEN, PURPLE, ORANGE, GREY = "#3f83d1", "#3a9a6b", "#8e6bbf", "#d97a2b", "#555f6e"
METHODS = {
    "SGD": Method(0.1, Optimizer("sgd"), GREY),
    "momentum": Method(0.03, Optimizer("sgd", momentum=0.9), BLUE),
    "Nesterov": Method(0.03, Optimizer("sgd", momentum=0.9, nesterov=True), BLUE, "--"),
    "RMSprop": Method(0.001, Optimizer("rmsprop"), GREEN, ":"),
    "Adam": Method(0.001, Optimizer("adam"), GREEN),
    "AdamW": Method(0.001, Optimizer("adamw", decay=0.01), GREEN, "--"),
    "LAMB": Method(0.001, Optimizer("lamb"), PURPLE),
    "LARS": Method(3.0, Optimizer("lars", momentum=0.9), PURPLE, "--"),
    "Lion": Method(0.0003, Optimizer("lion"), ORANGE),
    "Muon": Method(0.003, Optimizer("muon"), ORANGE, "--"),
}
BASELINE = "momentum"  # that of AlexNet


@dataclass(frozen=True)
class Options(Sweeping):
    """Which optimizer trains best, each at the best of its own learning rates?"""

    updates: int = 300
    """At most; fewer where this machine would need longer than `minutes`."""
    learning_rate: tyro.conf.Suppress[float] = 0.0
    methods: tuple[str, ...] = tuple(METHODS)
    factors: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Learning rates of the sweep, in units of each method's usual one."""
    out: str = "runs/experiments/optimizers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ValueError(f"no method is called {unknown[0]!r}; there are {', '.join(METHODS)}")
        if not self.methods or not self.factors or min(self.factors) <= 0:
            raise ValueError("methods and factors have to be given, and factors be more than 0")


def main(options: Options) -> None:
    base = replace(base_config(options), optimizer=Optimizer())
    swept = [
        {"method": name, "rate": rate, "seed": 0}
        for name in options.methods
        for rate in rates(name, options.factors)
    ]
    networks = len(swept) + (options.seeds - 1) * len(options.methods)
    judge = judged_on(make_parts(base))
    how: dict[str, Any] = {"evaluations": 10, "networks": networks, "free": ("methods", "factors")}
    how["splits"] = tuple(dict.fromkeys(("validation", judge)))
    rows, updates = run_sweep(options, base, swept, changes, **how)
    best = {name: best_rate(chosen(rows, method=name)) for name in options.methods}
    again = [
        {"method": name, "rate": rate, "seed": seed}
        for name, rate in best.items()
        for seed in range(1, options.seeds)
        if rate is not None
    ]
    more, _ = run_sweep(options, base, again, changes, **how)
    publish(Path(options.out), *page(options, rows + more, updates, judge))


def rates(method: str, factors: Sequence[float]) -> list[float]:
    """The learning rates of a method's sweep, to two digits."""
    return [float(f"{METHODS[method].usual * factor:.2g}") for factor in factors]


def changes(method: str, rate: float, seed: int) -> dict[str, Any]:
    """The settings of a case."""
    return {"optimizer": METHODS[method].optimizer, "learning_rate": rate, "seed": seed}


@dataclass(frozen=True)
class Best:
    """A method at its best rate, which is None where every rate diverged.

    `accuracy` {seed: right answers where it is judged} of the seeds that did not diverge; `seeds`
    counts all of them.
    """

    method: str
    rate: float | None
    accuracy: dict[int, float] = field(default_factory=dict)
    seeds: int = 0

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.accuracy.values()))) if self.accuracy else -math.inf

    def told(self) -> str:
        """The shares in words, with how many seeds diverged."""
        if self.rate is None:
            return "diverged at every rate"
        return survivors(self.accuracy, self.seeds)

    def against(self, other: Best) -> str:
        """The pairs of equal seeds in words; empty where there are none."""
        return paired(self.accuracy, other.accuracy) if self.method != other.method else ""


def best_of(rows: Sequence[Row], method: str, judge: str) -> Best:
    """How a method does at its best rate."""
    rate = best_rate(chosen(rows, method=method))
    if rate is None:
        return Best(method, None)
    found = chosen(rows, method=method, rate=rate)
    accuracy = {r["seed"]: r[f"{judge}/top1"] for r in found if math.isfinite(end_loss(r))}
    return Best(method, rate, accuracy, len(found))


def page(options: Options, rows: list[Row], updates: int, judge: str) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which optimizer trains best, each at the best of its own learning rates?"
    bests = [best_of(rows, method, judge) for method in options.methods]
    base = next((best for best in bests if best.method == BASELINE), bests[0])
    lines = [
        [b.method, "" if b.rate is None else f"{b.rate:g}", b.told(), b.against(base)]
        for b in sorted(bests, key=lambda b: -b.mean)
    ]
    sweep = []
    for method in options.methods:
        found = {row["rate"]: row for row in chosen(rows, method=method, seed=0)}
        told = [outcome(found[rate]) for rate in rates(method, options.factors)]
        sweep.append([method, f"{METHODS[method].usual:g}", *told])
    sections = (
        f"Right answers in {judge} at the best rate"
        + (", which was chosen there, since there is no test" if judge != "test" else "")
        + f", mean and range of {options.seeds} "
        "initializations; pairs of equal initialization and order of images:",
        markdown_table(["method", "best rate", "right answers", f"against {base.method}"], lines),
        "The sweep: loss in validation at the end, on the first initialization. Where one "
        "diverged, the update at which loss or gradient were not finite any more:",
        markdown_table(["method", "usual rate", *(f"x {f:g}" for f in options.factors)], sweep),
        edges(options, bests),
        f"Every network makes {updates} updates of {options.batch_size} images, its rate falling "
        "to zero by a cosine after a warm-up of 20 updates; no clipping, no weight decay but "
        "AdamW's 0.01. Momentum is 0.9 where a method asks for one, all else as optax has it: "
        "Muon orthogonalizes the kernels of dense layers and gives convolutions to Adam.",
    )
    return (
        title,
        answer(options, rows, judge),
        figure(options, rows, judge),
        tuple(s for s in sections if s),
    )


def outcome(row: Row) -> str:
    """Of one network of the sweep, in a word."""
    if row["diverged_at"] is not None:
        return f"diverged at {row['diverged_at']}"
    return f"{end_loss(row):.3f}" if math.isfinite(end_loss(row)) else "diverged"


def edges(options: Options, bests: Sequence[Best]) -> str:
    """Which best rates are the smallest or largest that were tried, or ""."""
    at = []
    for best in bests:
        if which := edge(best.rate, rates(best.method, options.factors)):
            at.append(f"{best.method}'s is the {which} that was tried")
    return f"A best rate may lie outside the sweep: {'; '.join(at)}." if at else ""


def answer(options: Options, rows: list[Row], judge: str) -> str:
    """The sentences that the numbers make."""
    bests = sorted((best_of(rows, m, judge) for m in options.methods), key=lambda b: -b.mean)
    there = [best for best in bests if best.accuracy]
    lost = [best.method for best in bests if not best.accuracy]
    failed = f"Every learning rate of {', '.join(lost)} diverged." if lost else ""
    if not there:
        return f"Nothing is shown. {failed}"
    first, last = there[0], there[-1]
    told = [f"{first.method} gets most answers right at its best learning rate: {first.told()}"]
    base = next((best for best in there if best.method == BASELINE), last)
    if base.method != first.method:
        told.append(f"against {base.method}, {first.against(base)}")
    if last.method not in (base.method, first.method):
        told.append(f"against {last.method}, the last, {first.against(last)}")
    return " ".join(s for s in (f"{'; '.join(told)}.", weight(options, rows, there), failed) if s)


def weight(options: Options, rows: list[Row], bests: Sequence[Best]) -> str:
    """What matters more in the sweep, the method or its rate, in validation on seed 0."""
    shares = {
        best.method: {
            row["rate"]: 100 * row["validation/top1"]
            for row in chosen(rows, method=best.method, seed=0)
            if math.isfinite(end_loss(row))
        }
        for best in bests
    }
    if len(shares) < 2 or len(options.factors) < 2:
        return ""
    tops = [shares[best.method][best.rate] for best in bests]
    falls = [max(found.values()) - min(found.values()) for found in shares.values()]
    rate, method = float(np.median(falls)), max(tops) - min(tops)
    ratio = max(options.factors) / min(options.factors)
    verdict = "more than" if rate > method else "no more than"
    return (
        f"A method's learning rate matters {verdict} the choice among methods: within a factor of "
        f"{ratio:g}, the worst rate that does not diverge costs {rate:.1f} points in the median "
        f"({min(falls):.1f} to {max(falls):.1f}, {len(falls)} methods); at their best rates, the "
        f"methods lie within {method:.1f} points (in validation, n = 1)."
    )


def figure(options: Options, rows: list[Row], judge: str) -> Figure:
    """The sweep of each method; at the best rates, losses in training and right answers."""
    figure = Figure(figsize=(14, 10), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.1))
    columns = math.ceil(len(options.methods) / 2)
    panels = top.subplots(2, columns, sharey=True, squeeze=False)
    finite = [end_loss(row) for row in chosen(rows, seed=0) if math.isfinite(end_loss(row))]
    ceiling = min(max(finite, default=1.0), 2 * float(np.median(finite or [1.0])))
    for axis, method in zip(panels.flat, options.methods, strict=False):
        draw_sweep(axis, chosen(rows, method=method, seed=0), method, ceiling)
    for axis in list(panels.flat)[len(options.methods) :]:
        axis.set_visible(False)
    top.suptitle("Each method's sweep; the ring is its best rate, a cross diverged", fontsize=13)
    top.supylabel("loss in validation", fontsize=12)
    top.supxlabel("learning rate", fontsize=12)
    left, right = bottom.subplots(1, 2, width_ratios=(1.5, 1))
    bests = sorted((best_of(rows, m, judge) for m in options.methods), key=lambda b: b.mean)
    bests = [best for best in bests if best.accuracy]
    for best in reversed(bests):
        draw_curve(left, rows, best)
    left.set_xlabel("updates", fontsize=12)
    left.set_ylabel("loss in training, at the best rate", fontsize=12)
    for place, best in enumerate(bests):
        shares = 100 * np.array(list(best.accuracy.values()))
        colour = METHODS[best.method].colour
        right.plot(shares, [place] * len(shares), "o", color=colour, alpha=0.45, ms=7)
        right.plot(shares.mean(), place, "|", color=colour, ms=22, mew=3)
    right.set_yticks(range(len(bests)), [f"{b.method}, {b.rate:g}" for b in bests], fontsize=12)
    right.set_xlabel(f"right answers in {judge}, %", fontsize=12)
    for axis in (left, right):
        plain(axis)
    if bests:
        left.legend(frameon=False, fontsize=11, ncols=2)
    return figure


def draw_sweep(axis: Axes, rows: Sequence[Row], method: str, ceiling: float) -> None:
    """Loss over rate, the best as a ring; what diverged, or lies above, at the upper edge."""
    colour = METHODS[method].colour
    points = sorted((row["rate"], end_loss(row)) for row in rows)
    inside = [(rate, min(value, ceiling)) for rate, value in points if math.isfinite(value)]
    if inside:
        axis.plot(*zip(*inside, strict=True), "o-", color=colour, lw=2.2, ms=5)
        axis.plot(*min(inside, key=lambda p: p[1]), "o", ms=13, mfc="none", mec=colour, mew=2)
    for rate, value in points:
        if not math.isfinite(value):
            axis.plot(rate, ceiling, "x", color="#c0392b", ms=9, mew=2.5)
    axis.set_xscale("log")
    axis.set_title(method, fontsize=13, color=colour)
    plain(axis)


def draw_curve(axis: Axes, rows: Sequence[Row], best: Best) -> None:
    """The mean over seeds of the training loss between evaluations."""
    found = chosen(rows, method=best.method, rate=best.rate)
    curves = [row["curve"] for row in found if row["seed"] in best.accuracy]
    mean = np.mean([curve["train/loss"] for curve in curves], axis=0)
    drawn = METHODS[best.method]
    axis.plot(curves[0]["step"], mean, drawn.line, color=drawn.colour, lw=2.2, label=best.method)


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
