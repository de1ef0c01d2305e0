"""What a classifier sees, drawn: its first kernels, its maps, and where in a picture it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet_jax import AlexNet, occlusion, saliency
from alexnet_jax.data.preprocess import Preprocessing, center_crop, preprocess
from alexnet_jax.report.plots import tiles

Variables = Mapping[str, Any]

FAINT = 1e-3  # probability: occlusion that takes away less tells nothing


class Looked(NamedTuple):
    """What a network answers on B pictures, and where it looks for it."""

    probability: np.ndarray  # [B, K]
    saliency: np.ndarray  # [B, S, S], of the classes asked for
    occlusion: np.ndarray  # [B, P, P], likewise


def look(
    given: Variables,
    pictures: np.ndarray,
    classes: np.ndarray | None,
    *,
    net: AlexNet,
    preprocessing: Preprocessing,
    patch: int,
    stride: int,
) -> Looked:
    """Probabilities and both maps of pictures uint8 [B, H, W, 3], of the given classes [B] or, for
    None, of those that the network answers."""
    how = {"net": net, "p": preprocessing}
    if classes is None:
        classes = np.asarray(_answers(given, pictures, **how)[0]).argmax(axis=1)
    return Looked(
        *jax.device_get(_look(given, pictures, classes, **how, patch=patch, stride=stride))
    )


def taps(
    given: Variables, picture: np.ndarray, *, net: AlexNet, preprocessing: Preprocessing
) -> dict[str, np.ndarray]:
    """{tap: value without the batch} of one picture uint8 [H, W, 3], in the network's order."""
    _, values = _answers(given, picture[None], net=net, p=preprocessing)
    return {name: np.asarray(values[name][0]) for name in net.spec.tap_names()}


@partial(jax.jit, static_argnames=("net", "p"))
def _answers(given: Variables, pictures: Any, *, net: AlexNet, p: Preprocessing) -> Any:
    images = preprocess({"image": pictures}, p)["image"]
    return net.apply(given, images, taps=True)


@partial(jax.jit, static_argnames=("net", "p", "patch", "stride"))
def _look(
    given: Variables, pictures: Any, classes: Any, *, net: Any, p: Any, patch: int, stride: int
) -> tuple:
    images = preprocess({"image": pictures}, p)["image"]
    apply = partial(net.apply, given)
    return (
        jax.nn.softmax(apply(images)),
        saliency(apply, images, classes),
        occlusion(apply, images, classes, patch=patch, stride=stride),
    )


def kernels_over_time(kernels: Mapping[str, np.ndarray]) -> Figure:
    """The kernels [h, w, 3, n] of a first convolution at several times, {when: kernel}."""
    wide = 8 if next(iter(kernels.values())).shape[-1] <= 48 else 12
    grids = {when: tiles(np.asarray(kernel), wide) for when, kernel in kernels.items()}
    columns = min(len(grids), 2 if len(grids) <= 4 else 3)
    lines = -(-len(grids) // columns)
    height, width, _ = next(iter(grids.values())).shape
    side = 10 / columns
    figure = Figure(figsize=(10, lines * (side * height / width + 0.35)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (when, grid) in zip(axes, grids.items(), strict=False):
        axis.imshow(grid, interpolation="nearest")
        axis.set_title(when, fontsize=12)
    return figure


def feature_maps(
    picture: np.ndarray, values: Mapping[str, np.ndarray], columns: int = 12
) -> Figure:
    """Every tap's value for one picture: of maps [H, W, C] the channels that answer most strongly,
    the strongest first, each from 0 to its own maximum; of dense layers every neuron."""
    maps = {name: x for name, x in values.items() if x.ndim == 3}
    dense = {name: x for name, x in values.items() if x.ndim == 1 and name != "logits"}
    heights = [1.0] * len(maps) + [0.45] * len(dense)
    figure = Figure(figsize=(12.5, 0.93 * sum(heights)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, columns))
    axis = left.subplots()
    axis.imshow(picture)
    axis.set_anchor("N")
    axis.set_axis_off()
    rows = right.subfigures(len(heights), 1, height_ratios=heights)
    for row, (name, value) in zip(rows, maps.items(), strict=False):
        strongest = np.argsort(-value.max(axis=(0, 1)), kind="stable")[:columns]
        axes = row.subplots(1, columns + 1, width_ratios=(1.5, *[1] * columns))
        _name(axes[0], f"{name}\n{' x '.join(map(str, value.shape))}")
        for axis in axes[1:]:
            axis.set_axis_off()
        for axis, channel in zip(axes[1:], strongest, strict=False):
            axis.imshow(value[..., channel], cmap="magma", vmin=0)
    for row, (name, value) in zip(rows[len(maps) :], dense.items(), strict=True):
        axes = row.subplots(1, 2, width_ratios=(1.5, columns))
        _name(axes[0], f"{name}\n{len(value)}")
        lines = 4 if len(value) % 4 == 0 else 1
        axes[1].imshow(value.reshape(lines, -1), cmap="magma", vmin=0, aspect="auto")
        axes[1].set_axis_off()
    return figure


def where_it_looks(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    looked: Mapping[str, Looked],
    *,
    stride: int,
    boxes: np.ndarray | None = None,
) -> Figure:
    """A line a picture: the picture, with its object's box (y0, x0, y1, x1) where that is known,
    and over it the maps of each network, {network's name: what it looked at}."""
    columns, side = 1 + 2 * len(looked), pictures[0].shape[0]
    figure = Figure(figsize=(2.45 * columns, 2.6 * len(pictures) + 0.5), layout="constrained")
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    for line, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        axes[line, 0].imshow(picture)
        axes[line, 0].set_title(title, fontsize=11)
        grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2) / 255
        for place, (name, maps) in enumerate(looked.items()):
            heat, drops = axes[line, 1 + 2 * place], axes[line, 2 + 2 * place]
            heat.imshow(grey * 0.35)
            shown = maps.saliency[line] / (np.percentile(maps.saliency[line], 99.5) or 1)
            heat.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(shown, 0, 1) ** 0.5)
            drops.imshow(0.5 + 0.5 * grey)
            cells = maps.occlusion[line]
            reach = max(float(np.abs(cells).max()), FAINT)
            extent = (0, cells.shape[1] * stride, cells.shape[0] * stride, 0)
            strength = np.abs(cells) / reach
            drops.imshow(
                cells, cmap="RdBu_r", vmin=-reach, vmax=reach, extent=extent,
                alpha=0.85 * strength**0.7, interpolation="nearest",
            )  # fmt: skip
            if line == 0:
                heat.text(0.0, 1.2, name, transform=heat.transAxes, fontsize=13, weight="bold")
            heat.set_title("saliency", fontsize=11)
            points = 100 * cells.max()
            most = f"up to {points:.1f} points" if points >= 0.1 else "under 0.1 points"
            drops.set_title(f"occlusion, {most}", fontsize=11)
        for axis in axes[line]:
            axis.set(xlim=(0, side), ylim=(side, 0))
            axis.set_axis_off()
            if boxes is not None:
                top, begin, bottom, end = boxes[line]
                axis.add_patch(
                    Rectangle(
                        (begin, top), end - begin, bottom - top, fill=False, ec="#35c46a", lw=1.6
                    )
                )
    return figure


def cropped(pictures: np.ndarray, p: Preprocessing) -> np.ndarray:
    """The part of pictures uint8 [B, H, W, 3] that the network sees."""
    return center_crop(pictures, p.size)


def _name(axis: Any, text: str) -> None:
    axis.text(1.0, 0.5, text, ha="right", va="center", fontsize=11, transform=axis.transAxes)
    axis.set_axis_off()
