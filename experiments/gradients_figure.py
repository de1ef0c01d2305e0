"""The figures of gradients.py: the norm of every layer, under each initializer, over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from answers import Row, chosen
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from observing import WHEN


def geometric_mean(norms: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Of each layer over the seeds, float [layers]; NaN where one is zero or no number."""
    found = np.array(norms, float)
    logs = np.log(found, out=np.full_like(found, np.nan), where=found > 0)
    return np.exp(logs.mean(axis=0))


def heat_maps(
    rows: Sequence[Row],
    quantity: str,
    names: Sequence[str],
    activations: Sequence[str],
    initializers: Sequence[str],
) -> Figure:
    """Layers of some names x initializers, for each activation and moment."""
    figure = Figure(figsize=(13, 3.1 + 3.6 * len(activations)), layout="constrained")
    axes = figure.subplots(len(activations), len(WHEN), squeeze=False, sharey=True)

    def drawn(activation: str, when: str) -> np.ndarray:
        columns = []
        for name in initializers:
            found = chosen(rows, activation=activation, initializer=name)
            looks = [row[f"{quantity}_norm"][when] for row in found]
            columns.append(geometric_mean(looks) if looks else np.full(len(names), np.nan))
        return np.array(columns).T

    norms = {
        (activation, when): drawn(activation, when) for activation in activations for when in WHEN
    }
    finite = np.concatenate([value[np.isfinite(value)] for value in norms.values()])
    finite = finite if finite.size else np.ones(1)  # a network of zeros has none
    scale = LogNorm(max(finite.min(), finite.max() * 1e-9), finite.max())
    for line, activation in zip(axes, activations, strict=True):
        for axis, when in zip(line, WHEN, strict=True):
            axis.set_facecolor("#c9ced6")
            image = axis.pcolormesh(norms[activation, when], norm=scale, cmap="viridis")
            axis.set_title(f"{activation}, {when}", fontsize=13)
            axis.set_xticks(np.arange(len(initializers)) + 0.5, initializers)
            axis.tick_params(axis="x", rotation=40, labelsize=10)
            axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=9)
    axes[0, 0].invert_yaxis()  # which all share
    what = {"gradient": "norm of the gradient", "activation": "root mean square of activations"}
    figure.colorbar(image, ax=axes, shrink=0.8).set_label(what[quantity], fontsize=12)
    return figure
