"""The report's figures: data in, matplotlib `Figure` out. No pyplot, no window, no global state.

Figures are transparent and drawn in `INK`, which inline.py turns into the colour of a page's text:
one figure serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
except ImportError as error:
    raise ImportError(
        f"the report is drawn by matplotlib, which is missing ({error}): "
        "pip install 'alexnet_jax[report]'"
    ) from error

INK = "#010203"
TRAIN, VALIDATION, MARK, ALARM = "#d97a2b", "#3f83d1", "#7a8699", "#d64545"
MATRIX_CLASSES = 30  # beyond it a matrix is a texture: see `most_confused`
COUNTED_CLASSES = 12  # up to it the counts fit into the cells

Row = Mapping[str, float]


def learning_curves(
    rows: Sequence[Row],
    metric: str | None = "top1",
    best_epoch: float | None = None,
    stopped: str | None = None,
) -> Figure:
    """Loss, `metric` and learning rate over the epochs; each where the rows have it.

    `rows` are those of metrics.csv: `epoch` and, say, `train/loss`, `validation/loss`,
    `validation/top1`, `learning_rate`. Values that are not finite leave a gap and a cross on the
    axis. `best_epoch` gets a line, and so has the last row if `stopped` names why it is the last.
    """
    rate = next((name for row in rows for name in row if name.endswith("learning_rate")), None)
    panels = [name for name in ("loss", metric) if name and any(_columns(rows, name))]
    heights = [3.0] * len(panels) + [1.0] * (rate is not None)
    figure = Figure(figsize=(9, 0.9 + 0.8 * sum(heights)), layout="constrained")
    if not heights:
        figure.text(0.5, 0.5, "nothing to draw: no evaluation was made", color=INK, ha="center")
        return figure
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    epochs = np.array([row["epoch"] for row in rows], float)
    for axis, name in zip(axes, panels, strict=False):
        for column, color in zip(_columns(rows, name), (TRAIN, VALIDATION), strict=True):
            if column:
                _curve(axis, epochs, _values(rows, column), color, column.split("/")[0])
        axis.set_ylabel(name, parse_math=False)
        if name != "loss" and _all_shares(rows, name):
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if rate is not None:
        values = _values(rows, rate)
        axes[-1].plot(epochs, values, color=MARK, drawstyle="steps-post")
        axes[-1].set_ylabel("learning\nrate")
        positive = values[values > 0]
        if positive.size and positive.max() >= 5 * positive.min():
            axes[-1].set_yscale("log")
            axes[-1].yaxis.set_major_formatter("{x:g}")
            axes[-1].yaxis.set_minor_formatter(NullFormatter())
    for axis in axes:
        _plain(axis)
        if best_epoch is not None:
            label = f"best (epoch {best_epoch:g})"
            axis.axvline(best_epoch, color=VALIDATION, lw=1.2, ls="--", label=label)
        if stopped and len(rows):
            axis.axvline(epochs[-1], color=MARK, lw=1.2, ls=":", label=f"stopped: {stopped}")
    _epochs_and_legend(figure)
    return figure


def comparison(runs: Sequence[tuple[str, Sequence[Row]]], column: str) -> Figure:
    """A column of metrics.csv over the epochs, a curve for each of two runs (name, rows)."""
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    axis = figure.subplots()
    for (name, rows), color in zip(runs, (VALIDATION, TRAIN), strict=True):
        epochs = np.array([row["epoch"] for row in rows], float)
        _curve(axis, epochs, _values(rows, column), color, name)
    axis.set_ylabel(column, parse_math=False)
    if not column.endswith("/loss") and all(_are_shares(_values(rows, column)) for _, rows in runs):
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    _plain(axis)
    _epochs_and_legend(figure)
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts [true, predicted], coloured by the share of the true class; up to 30 classes.

    A class without examples has an empty row.
    """
    counts = _square(matrix, classes)
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    names = [name if len(name) <= 24 else name[:23] + "…" for name in classes]
    size = len(names)
    cell = 0.62 if size <= COUNTED_CLASSES else 0.27
    side = max(cell * size, 2.2)
    margin = 0.5 + 0.085 * max(map(len, names), default=0)
    figure = Figure(figsize=(side + margin, side + 0.75 * margin + 0.3), layout="constrained")
    axis = figure.subplots()
    for true in range(size):
        for predicted in range(size):
            count = counts[true, predicted]
            strength = shares[true, predicted] ** 0.6  # a few per cent are to be seen
            place = (predicted - 0.5, true - 0.5)
            axis.add_patch(Rectangle(place, 1, 1, color=VALIDATION, alpha=strength, lw=0))
            if size <= COUNTED_CLASSES and count:
                color = "white" if strength > 0.6 else INK
                axis.text(predicted, true, short(count), ha="center", va="center", color=color)
    axis.set(
        xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal",
        xlabel="predicted", ylabel="true",
    )  # fmt: skip
    lean: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    slanted = lean if sum(map(len, names)) > 40 or size > COUNTED_CLASSES else {}
    axis.set_xticks(range(size), names, parse_math=False, **slanted)
    axis.set_yticks(range(size), names, parse_math=False)
    axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axis.grid(which="minor", color=INK, alpha=0.12, lw=0.6)
    _plain(axis, grid=False)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    return figure


def short(count: int) -> str:
    """A count that fits into a cell: 9999, 12k, 3.4M."""
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def most_confused(
    matrix: np.ndarray, classes: Sequence[str], n: int = 20
) -> list[tuple[str, str, int, float]]:
    """The `n` commonest mistakes: (true, predicted, count, share of the true class)."""
    counts = _square(matrix, classes)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    pairs = np.argsort(-wrong, axis=None, kind="stable")[:n]
    result = []
    for true, predicted in zip(*np.unravel_index(pairs, wrong.shape), strict=True):
        if count := int(wrong[true, predicted]):
            share = count / int(counts[true].sum())
            result.append((classes[true], classes[predicted], count, share))
    return result


def filters(kernel: np.ndarray, columns: int = 16) -> Figure:
    """The kernels [h, w, 3, n] of a first convolution as a grid (see `tiles`), pixel for pixel."""
    grid, zoom = tiles(kernel, columns), max(1, 44 // max(kernel.shape[:2]))
    figure = Figure(figsize=(grid.shape[1] * zoom / 100, grid.shape[0] * zoom / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(grid, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    return figure


def tiles(kernel: np.ndarray, columns: int = 16) -> np.ndarray:
    """The kernels [h, w, 3, n] side by side, each stretched to its own range: red, green, blue and
    opacity in 0..1, [H, W, 4], with a transparent line between them.

    A kernel of one value throughout, or with values that are not finite, is grey. Raises ValueError
    for kernels over other than 3 channels.
    """
    height, width, channels, number = kernel.shape
    if channels != 3:
        raise ValueError(f"only kernels over 3 channels have colours; this one has {channels}")
    columns = min(columns, number)
    lines = math.ceil(number / columns)
    grid = np.zeros((lines * (height + 1) - 1, columns * (width + 1) - 1, 4))
    for index, weights in enumerate(np.moveaxis(np.asarray(kernel, np.float64), -1, 0)):
        low, span = weights.min(), np.ptp(weights)
        usable = np.isfinite(span) and span > 0
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        tile = grid[top : top + height, left : left + width]
        tile[..., :3] = (weights - low) / span if usable else 0.5
        tile[..., 3] = 1.0
    return grid


def _columns(rows: Sequence[Row], name: str) -> tuple[str | None, str | None]:
    """The columns of `name` for training and validation; None where no row has it."""
    found = [
        column if any(column in row for row in rows) else None
        for column in (f"train/{name}", f"validation/{name}")
    ]
    return found[0], found[1]


def _values(rows: Sequence[Row], column: str) -> np.ndarray:
    values = np.array([row.get(column, math.nan) for row in rows], float)
    return np.where(np.isfinite(values), values, math.nan)


def _all_shares(rows: Sequence[Row], name: str) -> bool:
    return all(_are_shares(_values(rows, column)) for column in _columns(rows, name) if column)


def _are_shares(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(((finite >= 0) & (finite <= 1)).all())


def _curve(axis: Axes, epochs: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    marker = "o" if len(epochs) <= 40 else None
    axis.plot(epochs, values, color=color, lw=1.8, marker=marker, ms=3.5, label=label)
    gaps = epochs[np.isnan(values)]
    if gaps.size:
        axis.plot(
            gaps, np.full(gaps.size, 0.03), "x", color=ALARM, label="not finite",
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _epochs_and_legend(figure: Figure) -> None:
    """Name the lowest axis, and above all of them each kind of line once."""
    lowest = figure.axes[-1]
    lowest.set_xlabel("epoch")
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=5, frameon=False,
        labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _plain(axis: Axes, grid: bool = True) -> None:
    axis.tick_params(colors=INK, length=3)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(INK)
    axis.spines[["top", "right"]].set_visible(False)
    for spine in axis.spines.values():
        spine.set(color=INK, alpha=0.4)
    if grid:
        axis.grid(color=INK, alpha=0.12, lw=0.6)


def _square(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(
            f"a confusion matrix of shape {counts.shape} does not fit {len(classes)} classes"
        )
    return counts
