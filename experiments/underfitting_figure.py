"""The figure of underfitting.py: capacity in parameters and multiply-adds, and the start."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from answers import Row, chosen, plain, values
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLD, WARM, LONG = "cold", "pre-trained", "cold, twice as long"
TRAINING, TEST = "#d97a2b", "#3f83d1"
COLOURS = {COLD: "#7a8699", WARM: "#3a9a6b", LONG: "#222b3a"}


def figure(rows: Sequence[Row], starts: Sequence[Row]) -> Figure:
    """Networks of several widths and depths, and starts."""
    figure = Figure(figsize=(16, 5.4), layout="constrained")
    wide, deep, start = figure.subplots(1, 3)
    _capacity(wide, chosen(rows, depth=1), "width", "parameters")
    _capacity(deep, chosen(rows, width=1.0), "depth", "multiply_adds")
    _starts(start, starts)
    for axis in (wide, deep, start):
        plain(axis)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=11)
    if rows:
        shared = [100 * values(rows, f"{split}/top1") for split in ("seen", "test")]
        low, high = np.min(shared), np.max(shared)
        for axis in (wide, deep):
            axis.set_ylim(low - 3, high + 5)
    return figure


def _capacity(axis: Axes, rows: Sequence[Row], varied: str, size: str) -> None:
    """Training and test over the network's size."""
    points = sorted({(row[size], row[varied]) for row in rows})
    for split, colour, label in (("seen", TRAINING, "training"), ("test", TEST, "test")):
        shares = [100 * values(rows, f"{split}/top1", **{varied: v}) for _, v in points]
        places = [place for place, _ in points]
        if shares:
            axis.plot(places, [s.mean() for s in shares], "o-", color=colour, lw=2.2, label=label)
        for place, each in zip(places, shares, strict=True):
            axis.plot([place] * len(each), each, ".", color=colour, alpha=0.5)
    for place, value in points:
        top = 100 * max(values(rows, "seen/top1", **{varied: value}))
        axis.annotate(
            f"×{Fraction(value).limit_denominator(64)}",
            (place, top),
            (0, 7),
            textcoords="offset points",
            ha="center",
        )
    if varied == "width":
        axis.set_xscale("log")
    else:
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M")
    axis.margins(x=0.08)
    axis.set_xlabel(
        f"{size.replace('_', '-')} (at each point: the factor of {varied})", fontsize=12
    )
    axis.set_ylabel("right answers, %", fontsize=12)
    axis.set_title(f"More {varied}", loc="left", weight="bold", fontsize=13)


def _starts(axis: Axes, starts: Sequence[Row]) -> None:
    """Test over updates."""
    for start, colour in COLOURS.items():
        of = chosen(starts, start=start)
        if of:
            steps = of[0]["curve"]["step"]
            curves = 100 * np.array([row["curve"]["test/top1"] for row in of])
            axis.plot(steps, curves.mean(0), "o-", ms=4, color=colour, lw=2.2, label=start)
            axis.fill_between(steps, curves.min(0), curves.max(0), color=colour, alpha=0.13, lw=0)
    axis.set_xlabel("updates", fontsize=12)
    axis.set_ylabel("right in test, %", fontsize=12)
    axis.set_title("A better start", loc="left", weight="bold", fontsize=13)
