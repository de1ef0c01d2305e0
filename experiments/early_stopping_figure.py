"""The figure of early_stopping.py: the stop on a curve, patience, and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from answers import Row, plain
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stopping import Stop

TRAINING, VALIDATION, TEST = "#d97a2b", "#3f83d1", "#222b3a"
COLOURS = {"validation/loss": "#3f83d1", "validation/top1": "#3a9a6b"}
Swept = Mapping[str, Mapping[int, Sequence[Stop]]]


def figure(
    rows: Sequence[Row],
    drawn: Mapping[str, Sequence[Stop]],
    swept: Swept,
    noise: Mapping[int, Any],
) -> Figure:
    """`drawn` has the stops of each monitor at the patience that is drawn, `swept` those at each,
    `noise` what came of few validation images."""
    figure = Figure(figsize=(14, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    if rows:
        _curve(panels[0, 0], rows[0], "loss", drawn["validation/loss"])
        _curve(panels[1, 0], rows[0], "top1", drawn["validation/top1"])
        _patience(panels[0, 1], rows, swept)
        _noise(panels[1, 1], noise)
    for axis in panels.flat:
        plain(axis)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=10)
    return figure


def _curve(axis: Axes, row: Row, metric: str, stops: Sequence[Stop]) -> None:
    """One network's curves, with where it stops and what it restores."""
    scale, curve = (100 if metric == "top1" else 1), row["curve"]
    steps = curve["step"]
    looks = (("seen", "training", TRAINING), ("validation",) * 2 + (VALIDATION,))
    for split, label, colour in (*looks, ("test", "test", TEST)):
        values = scale * np.array(curve[f"{split}/{metric}"])
        axis.plot(steps, values, color=colour, lw=2.2 if split != "test" else 1.2, label=label)
    stop = stops[0]
    best = scale * curve[f"validation/{metric}"][stop.best]
    axis.plot(steps[stop.best], best, "o", color=VALIDATION, ms=12, label="restored")
    if stop.early:
        axis.axvline(steps[stop.last], color="#c94f5d", lw=1.8, ls="--", label="stopped")
        axis.axvspan(steps[stop.last], steps[-1], color="#7a8699", alpha=0.1, lw=0)
    axis.set_xlabel("updates")
    axis.set_ylabel("right answers, %" if metric == "top1" else "cross-entropy")
    axis.set_title(f"One network, stopped by validation/{metric}", loc="left", weight="bold")


def _patience(axis: Axes, rows: Sequence[Row], swept: Swept) -> None:
    """Test of the restored network, and the updates that it takes, over patience."""
    updates = axis.twinx()
    for monitor, colour in COLOURS.items():
        shares, made = [], []
        for ends in swept[monitor].values():
            pairs = list(zip(rows, ends, strict=True))
            shares.append([100 * row["curve"]["test/top1"][end.best] for row, end in pairs])
            made.append(np.mean([row["curve"]["step"][end.last] for row, end in pairs]))
        places = range(len(shares))
        axis.plot(places, np.mean(shares, axis=1), "o-", color=colour, lw=2.2, label=monitor)
        axis.fill_between(
            places, np.min(shares, axis=1), np.max(shares, axis=1), color=colour, alpha=0.13, lw=0
        )
        updates.plot(places, made, ":", color=colour, lw=2)
    end = np.mean([100 * row["curve"]["test/top1"][-1] for row in rows])
    axis.axhline(end, color="#7a8699", lw=1.8, label="at the very end")
    axis.set_xticks(range(len(swept["validation/loss"])), list(swept["validation/loss"]))
    axis.set_xlabel("patience, evaluations")
    axis.set_ylabel("right in test where it restores, %")
    updates.set_ylabel("updates made (dotted)")
    updates.set_ylim(bottom=0)
    updates.spines["top"].set_visible(False)
    axis.set_title("How much patience", loc="left", weight="bold")


def _noise(axis: Axes, noise: Mapping[int, Any]) -> None:
    """What few validation images promise, and what is true."""
    looks = (
        ("told", "o-", "#c94f5d", "what the images asked said"),
        ("true", "o-", VALIDATION, "what all of validation says"),
        ("test", "o-", TEST, "what the test says"),
    )
    for name, style, colour, label in looks:
        shares = [100 * getattr(found, name) for found in noise.values()]
        places = range(len(shares))
        axis.plot(places, [s.mean() for s in shares], style, color=colour, lw=2.2, label=label)
        axis.fill_between(
            places, [s.min() for s in shares], [s.max() for s in shares], color=colour, alpha=0.1
        )
    axis.set_xticks(range(len(noise)), list(noise))
    axis.set_xlabel("validation images that an evaluation asks")
    axis.set_ylabel("right answers where it restores, %")
    axis.set_title("A noisy metric", loc="left", weight="bold")
