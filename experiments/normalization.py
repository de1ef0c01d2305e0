#!/usr/bin/env python3
"""Which normalization helps, before or after the ReLU, and which learning rates does it allow?

    python experiments/normalization.py             # none, local response, batch, layer, group

At one common rate, and up a ladder of rates until training breaks; without clipping the gradient,
which would hide that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from answers import Chance, Row, chosen, markdown_table, paired, plain, publish, survivors
from matplotlib.figure import Figure
from sweeping import Sweeping, base_config, run_sweep

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Optimizer
from alexnet_jax.models.spec import NORMALIZATIONS
from alexnet_jax.parts import make_parts

POSITIONS = ("before", "after")
COLOURS = {
    "none": "#555f6e",
    "local_response": "#8e6bbf",
    "batch": "#3f83d1",
    "layer": "#3a9a6b",
    "group": "#d97a2b",
}


class Kind(NamedTuple):
    """A normalization, and where it stands: "before" or "after" the ReLU, "" for none."""

    name: str
    position: str

    def told(self) -> str:
        where = f" {self.position} ReLU" if self.position else ""
        return self.name.replace("_", " ") + where


@dataclass(frozen=True)
class Options(Sweeping):
    """Which normalization helps, and which learning rates does it allow?"""

    updates: int = 300
    """At most; fewer where this machine would need longer than `minutes`."""
    learning_rate: float = 0.01
    """At which they are compared; one of `rates`."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """The ladder."""
    normalizations: tuple[str, ...] = NORMALIZATIONS
    out: str = "runs/experiments/normalization"

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [name for name in self.normalizations if name not in NORMALIZATIONS]:
            known = ", ".join(NORMALIZATIONS)
            raise ValueError(f"no normalization is called {unknown[0]!r}; there are {known}")
        if self.learning_rate not in self.rates or min(self.rates) <= 0:
            raise ValueError(
                f"rates are {self.rates!r}; expected {self.learning_rate:g}, the common one, and "
                "others above 0"
            )


def main(options: Options) -> None:
    base = replace(base_config(options), optimizer=Optimizer(momentum=0.9))
    parts = make_parts(base)
    chance = Chance(1 / len(parts.source.classes), len(parts.readers["validation"]))
    cases = [
        {"normalization": kind.name, "position": kind.position, "rate": rate, "seed": seed}
        for kind in kinds(options)
        for rate in sorted(options.rates)
        for seed in range(options.seeds)
    ]
    free = ("rates", "normalizations")
    how: dict[str, Any] = {"splits": ("validation",), "evaluations": 6, "free": free}
    rows, updates = run_sweep(options, base, cases, changes, **how)
    publish(Path(options.out), *page(options, rows, updates, chance))


def kinds(options: Options) -> list[Kind]:
    """All that are compared, in the order of the options."""
    return [
        Kind(name, position)
        for name in options.normalizations
        for position in (("",) if name == "none" else POSITIONS)
    ]


def changes(normalization: str, position: str, rate: float, seed: int) -> dict[str, Any]:
    """The settings of a case."""
    return {
        "model.normalization": normalization,
        "model.norm_position": position or None,
        "learning_rate": rate,
        "seed": seed,
    }


def found(rows: Sequence[Row], kind: Kind, rate: float) -> dict[int, float]:
    """{seed: right answers in validation at the end} of those that did not diverge."""
    named = chosen(rows, normalization=kind.name, position=kind.position, rate=rate)
    return {
        row["seed"]: row["validation/top1"]
        for row in named
        if row["diverged_at"] is None and math.isfinite(row["validation/loss"])
    }


def largest(options: Options, rows: Sequence[Row], kind: Kind, chance: Chance) -> float | None:
    """The largest rate at which it has learned from every initialization, and at all smaller ones
    that were tried down to the first at which it did: it is finite, and above chance."""
    top = None
    for rate in sorted(options.rates):
        shares = found(rows, kind, rate).values()
        if sum(share > chance.limit for share in shares) == options.seeds:
            top = rate
        elif top is not None:
            break
    return top


def page(options: Options, rows: list[Row], updates: int, chance: Chance) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which normalization helps, and which learning rates does it allow?"
    common, every = options.learning_rate, kinds(options)
    none = Kind("none", "")
    lines, ladder = [], []
    for kind in every:
        at = found(rows, kind, common)
        top = largest(options, rows, kind, chance)
        against = paired(at, found(rows, none, common)) if kind != none else ""
        limit = f"{top:g}" if top else "no rate"
        lines.append([kind.told(), survivors(at, options.seeds), against, limit])
        at_rates = (found(rows, kind, rate) for rate in sorted(options.rates))
        ladder.append([kind.told(), *(survivors(at, options.seeds) for at in at_rates)])
    positions = [
        [
            name.replace("_", " "),
            paired(*(found(rows, Kind(name, where), common) for where in POSITIONS)),
        ]
        for name in options.normalizations
        if name != "none"
    ]
    sections = [
        f"Right answers in validation at a rate of {common:g}, mean and range of {options.seeds} "
        "initializations (nothing is chosen by looking at it); pairs of equal initialization and "
        "order of images against none; and the rate of the ladder up to which every "
        "initialization learns:",
        markdown_table(["normalization", "right answers", "against none", "learns up to"], lines),
    ]
    if positions:
        sections += [
            f"Before the ReLU against after it, at {common:g}:",
            markdown_table(["normalization", "right answers before"], positions),
        ]
    sections += [
        "The ladder: right answers, mean and range of those that did not diverge: loss and "
        "gradient stayed finite in training, and so is the loss in validation:",
        markdown_table(["normalization", *(f"{rate:g}" for rate in sorted(options.rates))], ladder),
        f"A network learns where it ends finite with more than {100 * chance.limit:.1f} % right: "
        f"two standard errors of {chance.count} images above the {100 * chance.share:.1f} % of "
        f"guessing. Every network makes {updates} updates of {options.batch_size} images, SGD with "
        "momentum 0.9, without clipping, the rate falling to zero by a cosine after a warm-up of "
        "20 updates. Every convolution is normalized.",
    ]
    return title, answer(options, rows, chance), figure(options, rows, chance), sections


def answer(options: Options, rows: list[Row], chance: Chance) -> str:
    """The sentences that the numbers make."""
    common, every = options.learning_rate, kinds(options)
    there = {kind: shares for kind in every if (shares := found(rows, kind, common))}
    if there:
        best = max(there, key=lambda kind: float(np.mean(list(there[kind].values()))))
        none = Kind("none", "")
        told = survivors(there[best], options.seeds)
        sentence = f"At a rate of {common:g}, {best.told()} gets most right, {told}"
        if none in every and best != none:
            gain = paired(there[best], there.get(none, {}))
            sentence += f"; against none, {gain}" if gain else "; without any, training diverges"
        sentence += "."
    else:
        sentence = f"At a rate of {common:g} every network diverged."
    limits = {kind: largest(options, rows, kind, chance) for kind in every}
    groups: dict[float | None, list[str]] = {}
    for kind, limit in limits.items():
        groups.setdefault(limit, []).append(kind.told())
    ranked = sorted((limit for limit in groups if limit is not None), reverse=True)
    if not ranked:
        return f"{sentence} No network learns at any rate."
    top = max(options.rates)
    at = [
        f"{limit:g}{', the top of the ladder,' if limit == top else ''} for "
        + listed(groups[limit])
        for limit in ranked
    ]
    at += [f"none for {listed(groups[None])}"] if None in groups else []
    starts = f"all {options.seeds} starts" if options.seeds > 1 else "the one start"
    return f"{sentence} The largest rate at which {starts} learn is {'; '.join(at)}."


def listed(names: Sequence[str]) -> str:
    """Names as "a, b and c"."""
    return " and ".join(", ".join(names).rsplit(", ", 1))


def figure(options: Options, rows: list[Row], chance: Chance) -> Figure:
    """The ladder as a heat map, beside it the right answers at the common rate."""
    every, rates, common = kinds(options), sorted(options.rates), options.learning_rate
    figure = Figure(figsize=(13, 0.55 * len(every) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    shares = [[list(found(rows, kind, rate).values()) for rate in rates] for kind in every]
    grid = [[100 * np.mean(at) if at else math.nan for at in line] for line in shares]
    top = np.nanmax([100 * chance.limit, *np.ravel(grid)])
    left.imshow(grid, cmap="Blues", vmin=100 * chance.share, vmax=top, aspect="auto")
    for y, kind in enumerate(every):
        for x, (at, mean) in enumerate(zip(shares[y], grid[y], strict=True)):
            if not at:
                left.text(x, y, "diverged", ha="center", va="center", color="#c0392b", fontsize=11)
                continue
            dark = mean > (100 * chance.share + top) / 2
            colour = "white" if dark else "#333333" if mean > 100 * chance.limit else "#a0a7b1"
            lost = f"\n{options.seeds - len(at)} diverged" if len(at) < options.seeds else ""
            how = {"ha": "center", "va": "center", "color": colour}
            left.text(x, y, f"{mean:.0f} %{lost}", size=9 if lost else 13, **how)
        at = 100 * np.array(list(found(rows, kind, common).values()))
        colour = COLOURS[kind.name]
        right.plot(at, [y] * len(at), "o", color=colour, alpha=0.45, ms=8)
        if len(at):
            right.plot(at.mean(), y, "|", color=colour, ms=22, mew=3)
    left.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=12)
    left.set_yticks(range(len(every)), [kind.told() for kind in every], fontsize=13)
    left.set_xlabel("learning rate", fontsize=13)
    left.set_title("right answers in validation, by learning rate", fontsize=13)
    left.spines[:].set_visible(False)
    left.tick_params(length=0)
    right.axvline(100 * chance.share, color="#7a8699", lw=1.2, ls="--")
    right.set_xlabel("right answers in validation, %", fontsize=13)
    right.set_title(f"at {common:g}, {options.seeds} initializations", fontsize=13)
    plain(right)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
