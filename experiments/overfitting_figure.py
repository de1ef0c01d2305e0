"""The figure of overfitting.py: curves, gaps, strengths and weights on one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from answers import Row, chosen, plain, values
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweeping import trained

NONE, STOPPING, TOGETHER = "no remedy", "early stopping", "all together"
SUBGRADIENT, PROXIMAL = "L1, subgradient", "L1, proximal"
BINS = np.linspace(-6, 0.5, 53)  # of log10 |w|
TRAINING, TEST = "#d97a2b", "#3f83d1"
COLOURS = {
    NONE: "#7a8699",
    "dropout": "#3f83d1",
    "L2, loss term": "#1f9e9e",
    "L2, coupled": "#3a9a6b",
    "L2, decoupled": "#8fbf4d",
    SUBGRADIENT: "#c94f5d",
    PROXIMAL: "#8e6bbf",
    "elastic net": "#b0763c",
    "augmentation": "#d97a2b",
    TOGETHER: "#222b3a",
}


def figure(tuned: Sequence[Row], rows: Sequence[Row], order: Sequence[str]) -> Figure:
    """`order` are the remedies from the worst to the best."""
    figure = Figure(figsize=(16, 9), layout="constrained")
    panels = figure.subplots(2, 3)
    _curves(panels[0, 0], rows, "top1")
    _curves(panels[1, 0], rows, "loss")
    _gaps(panels[0, 1], rows, order)
    _strengths(panels[1, 1], tuned)
    _histogram(panels[0, 2], rows)
    _zeros(panels[1, 2], tuned)
    for axis in panels.flat:
        plain(axis)
        if axis.get_legend_handles_labels()[0]:
            place = {"loc": "upper right", "bbox_to_anchor": (1, 0.95)}  # below a curve at 100 %
            axis.legend(frameon=False, fontsize=9, **(place if axis is panels[0, 0] else {}))
    return figure


def _curves(axis: Axes, rows: Sequence[Row], metric: str) -> None:
    """Training and validation over updates, without a remedy and with all."""
    scale = 100 if metric == "top1" else 1
    for remedy, style in ((NONE, "-"), (TOGETHER, "--")):
        of = chosen(rows, remedy=remedy)
        for split, colour in (("seen", TRAINING), ("validation", TEST)):
            curves = [scale * np.array(row["curve"][f"{split}/{metric}"]) for row in of]
            if curves:
                steps = of[0]["curve"]["step"]
                label = f"{'training' if split == 'seen' else split}, {remedy}"
                axis.plot(steps, np.mean(curves, axis=0), style, color=colour, lw=2.2, label=label)
                axis.fill_between(
                    steps, np.min(curves, 0), np.max(curves, 0), color=colour, alpha=0.12, lw=0
                )
    axis.set_xlabel("updates")
    if metric == "top1":
        axis.set_title("Training and validation", loc="left", weight="bold")
        axis.set_ylabel("right answers, %")
    else:
        axis.set_title("Their loss", loc="left", weight="bold")
        axis.set_ylabel("cross-entropy")


def _gaps(axis: Axes, rows: Sequence[Row], order: Sequence[str]) -> None:
    """From test to training, a bar each: its length is the generalization gap."""
    for place, remedy in enumerate(order):
        of = chosen(rows, remedy=remedy)
        test, seen = (100 * values(of, f"{split}/top1") for split in ("test", "seen"))
        width = seen.mean() - test.mean()
        axis.barh(place, width, left=test.mean(), height=0.5, color="#c9d2dd")
        axis.plot(test, [place] * len(test), "o", color=TEST, ms=4, alpha=0.6, mew=0)
        axis.plot(seen, [place] * len(seen), "o", color=TRAINING, ms=4, alpha=0.6, mew=0)
        axis.plot(test.mean(), place, "|", color=TEST, ms=16, mew=3)
        axis.plot(seen.mean(), place, "|", color=TRAINING, ms=16, mew=3)
        middle = (test.mean() + seen.mean()) / 2
        axis.text(middle, place, f"{width:.0f}", ha="center", va="center", fontsize=10)
    axis.set_yticks(range(len(order)), order)
    axis.set_title("The gap from test (blue) to training", loc="left", weight="bold")
    axis.set_xlabel("right answers, %")


def _strengths(axis: Axes, tuned: Sequence[Row]) -> None:
    """Validation over the strengths tried, weakest first."""
    for remedy, colour in COLOURS.items():
        of = chosen(trained(tuned), remedy=remedy)
        if of:
            scores = 100 * values(of, "validation/top1")
            places = np.linspace(1, 4, len(of)) if len(of) > 1 else [1]
            axis.plot(places, scores, "o-", color=colour, lw=1.8, label=remedy)
            top = int(np.lexsort((-values(of, "validation/loss"), scores))[-1])  # the one chosen
            axis.plot(places[top], scores[top], "o", color=colour, ms=10)
    axis.set_xticks(range(1, 5), ["weakest", "", "", "strongest"])
    axis.set_title("Each at several strengths", loc="left", weight="bold")
    axis.set_ylabel("right in validation, %, one seed")


def _histogram(axis: Axes, rows: Sequence[Row]) -> None:
    """Sizes of the weights of one network each, at the strengths that were best."""
    shown = [
        row
        for remedy in (NONE, "L2, coupled", SUBGRADIENT, PROXIMAL)
        for row in chosen(rows, remedy=remedy)[:1]
    ]
    counts = [np.array(row["histogram"]["weights"], float) for row in shown]
    total = max(  # all have as many weights; those below the first bin are in no count
        (
            n.sum() / max(1 - row["weights/zero"], 1e-9)
            for n, row in zip(counts, shown, strict=True)
        ),
        default=1.0,
    )
    for row, count in zip(shown, counts, strict=True):
        label, remedy = row["remedy"], row["remedy"]
        if remedy != NONE:
            label += f" {row['strength']:g}"
        if row["weights/zero"]:
            label += f" ({100 * row['weights/zero']:.0f} % are 0)"
        axis.stairs(100 * count / total, BINS, color=COLOURS[remedy], lw=2, label=label)
    axis.set_xlabel("size of a weight")
    axis.set_xticks(range(-6, 1), [f"$10^{{{n}}}$" for n in range(-6, 1)])
    axis.set_ylabel("share of all weights, %")
    axis.set_title("How large the weights are", loc="left", weight="bold")


def _zeros(axis: Axes, tuned: Sequence[Row]) -> None:
    """Exact zeros and near ones at each strength of L1."""
    looks = [
        (remedy, name, what, alpha)
        for remedy in (SUBGRADIENT, PROXIMAL)
        for name, what, alpha in (("near_zero", "below 0.0001", 0.4), ("zero", "exactly 0", 1))
    ]
    for i, (remedy, name, what, alpha) in enumerate(looks):
        of = chosen(trained(tuned), remedy=remedy)
        if of:
            shares = 100 * values(of, f"weights/{name}")
            places = np.arange(1, len(of) + 1) + 0.2 * (i - 1.5)
            label = f"{remedy}: {what}"
            bars = axis.bar(places, shares, 0.19, color=COLOURS[remedy], alpha=alpha, label=label)
            axis.bar_label(bars, fmt="%.0f", fontsize=9)
    axis.set_xticks(range(1, 4), ["weakest", "", "strongest"])
    axis.set_ylabel("share of all weights, %")
    axis.set_title("Zeros by the strength of L1", loc="left", weight="bold")
