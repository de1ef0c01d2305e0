#!/usr/bin/env python3
"""What does a network see: its first kernels, its maps, and where in a picture it looks?

    python experiments/what_it_sees.py                              # trains on street/a, measures
    python experiments/what_it_sees.py --run RUN --image photo.jpg  # a network of yours, drawn
    python experiments/what_it_sees.py --run alexnet.safetensors --image photo.jpg --out FOLDER

How much of the saliency (Simonyan et al. 2014) and of what occlusion takes away (Zeiler and Fergus
2014) lies inside the object's box, before, while and after it is trained?
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from answers import Row, collect, compared, markdown_table, plain, publish, spread, values
from matplotlib.figure import Figure
from pointing import areas, inside
from seeing import FAINT, feature_maps, kernels_over_time, look, taps, where_it_looks
from showing import show

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Config, Run
from alexnet_jax.parts import Parts, evaluate_split, make_parts
from alexnet_jax.recipes import recipe
from alexnet_jax.restored import load
from alexnet_jax.train.checkpoint import steps_in
from alexnet_jax.train.loop import INTERRUPTED
from alexnet_jax.training import train

SALIENCY, OCCLUSION = "saliency", "occlusion"
COLOURS = {SALIENCY: "#d97a2b", OCCLUSION: "#3f83d1"}


@dataclass(frozen=True)
class Options:
    """What does a network see?"""

    run: str | None = None
    """Run folder, one of its checkpoints, or a file of weights: nothing is trained or measured, its
    kernels, maps, saliency and occlusion are drawn."""
    image: tuple[str, ...] = ()
    """Picture files, with --run; left out, the first test pictures of the run's own data."""
    data: str = "street/a"
    """What is trained on; with a box around every object."""
    seeds: int = 3
    epochs: tuple[int, ...] = (0, 1, 2, 4, 8)
    """When it is looked at; 0 is before training."""
    pictures: int = 40
    """Of the test split."""
    patch: int | None = None
    """Side of occlusion's patch in pixels; left out, a fifth of the network's input."""
    stride: int | None = None
    """Pixels from patch to patch; left out, a sixteenth of the network's input."""
    width: float | None = None
    """Scales the number of filters and neurons."""
    runs: str = "runs/what_it_sees"
    """The folder of the trainings; those that lie there are not repeated."""
    out: str = "runs/experiments/what_it_sees"
    """The folder for pages and figures."""
    full: bool = False
    """At the size of the lecture's network, for an accelerator: notes_224, with its 96 kernels."""

    def __post_init__(self) -> None:
        if self.image and self.run is None:
            raise ValueError("--image is looked at by a trained network: give --run")
        if min(self.seeds, self.pictures, self.patch or 1, self.stride or 1) < 1:
            raise ValueError("seeds, pictures, patch and stride have to be at least 1")
        rising = all(a < b for a, b in zip(self.epochs, self.epochs[1:], strict=False))
        if not rising or len(self.epochs) < 3 or self.epochs[0] != 0:
            raise ValueError(f"epochs are {self.epochs}; expected 0 and at least two more, rising")


def main(options: Options) -> None:
    if options.run is not None:
        show(options.run, options.image, options.patch, options.stride, Path(options.out))
        return
    config = training(options)
    parts = make_parts(config)
    pictures, boxes, labels = examples(parts, options.pictures)
    size = parts.preprocessing.size
    patch, stride = options.patch or size // 5, options.stride or math.ceil(size / 16)
    how: dict[str, Any] = {"net": parts.task.net, "preprocessing": parts.preprocessing}
    grid = how | {"patch": patch, "stride": stride}

    @cache
    def trained(seed: int) -> Path:
        folder = Path(options.runs) / f"seed_{seed}"
        if train(replace(config, seed=seed, run_dir=str(folder)), "the same") == INTERRUPTED:
            raise KeyboardInterrupt
        return folder / "checkpoints"

    @cache
    def state_at(seed: int, epoch: int) -> Any:
        if epoch == 0:
            return parts.create(seed)
        folder = trained(seed)
        return load(folder / str(steps_in(folder)[epoch - 1])).state

    def network_at(seed: int, epoch: int) -> dict[str, Any]:
        state = state_at(seed, epoch)
        stats = state.model_state.get("batch_stats")
        return {"params": state.params, **({"batch_stats": stats} if stats else {})}

    def kernel(seed: int, epoch: int) -> np.ndarray:
        return np.asarray(state_at(seed, epoch).params["backbone"]["conv1"]["kernel"])

    def measure(seed: int, epoch: int) -> dict[str, Any]:
        looked = look(network_at(seed, epoch), pictures, labels, **grid)
        right, count = evaluate_split(parts, state_at(seed, epoch), "test")["top1"]
        before = max((e for e in options.epochs if e < epoch), default=0)
        first = np.linalg.norm(kernel(seed, 0))
        moved = np.linalg.norm(kernel(seed, epoch) - kernel(seed, 0)) / first
        pace = np.linalg.norm(kernel(seed, epoch) - kernel(seed, before)) / first
        row = {"accuracy": right / count, "moved": float(moved)}
        row["pace"] = float(pace) / max(1, epoch - before)
        told = looked.occlusion.max(axis=(1, 2)) >= FAINT
        for name, heat, cell, kept in (
            (SALIENCY, looked.saliency, 1, slice(None)),
            (OCCLUSION, looked.occlusion, stride, told),
        ):
            own = inside(heat, boxes, cell, size)[kept]
            other = inside(heat, np.roll(boxes, 1, axis=0), cell, size)[kept]
            row |= {f"{name}_inside": mean(own), f"{name}_elsewhere": mean(other)}
        return row | {"told": int(told.sum()), "box": float(areas(boxes, size).mean())}

    cases = [{"seed": seed, "epoch": e} for seed in range(options.seeds) for e in options.epochs]
    free = ("run", "image", "runs", "out", "seeds")
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    settings |= {"patch": patch, "stride": stride, "classes": parts.classes}
    folder = Path(options.out)
    rows = collect(folder, settings, cases, measure)

    first, last = 0, options.epochs[-1]
    kernels = {named(epoch): kernel(0, epoch) for epoch in options.epochs}
    kernels["what training added"] = kernel(0, last) - kernel(0, first)
    some, of = pictures[:4], labels[:4]
    looked = {named(e): look(network_at(0, e), some, of, **grid) for e in (last, first)}
    titles = [
        f"{parts.classes[label]} {100 * shares[label]:.1f} %"
        for label, shares in zip(of, looked[named(last)].probability, strict=True)
    ]
    values_of = taps(network_at(0, last), some[0], **how)
    for name, drawn in {
        "kernels.png": kernels_over_time(kernels),
        "maps.png": feature_maps(some[0], values_of),
        "where.jpg": where_it_looks(some, titles, looked, stride=stride, boxes=boxes[:4]),
    }.items():
        drawn.savefig(folder / name, dpi=110)
    publish(folder, *page(options, rows, size, patch, stride))


def training(options: Options) -> Config:
    """The recipe of `street` for as many epochs, all of which are kept."""
    config = recipe("street")
    return replace(
        config,
        data=options.data,
        spec="notes_224" if options.full else config.spec,
        epochs=options.epochs[-1],
        patience=None,
        model=replace(config.model, width=options.width),
        run=Run(keep=options.epochs[-1]),
    )


def examples(parts: Parts, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first test pictures [B, S, S, 3] whose object is to be seen, their boxes and labels."""
    if not parts.source.box_classes or "test" not in parts.readers:
        raise ValueError(
            f"{parts.source.name} has no boxes or no test split, which is what maps are compared "
            "with; with --run pictures are drawn without them"
        )
    split = parts.readers["test"].split
    found = [example for i in range(len(split)) if not (example := split[i])["box_ignore"][0]]
    found = found[:count]
    return (
        np.stack([example["image"] for example in found]),
        np.stack([example["boxes"][0] for example in found]),
        np.array([example["label"] for example in found], np.int32),
    )


def mean(shares: np.ndarray) -> float | None:
    """None of nothing, which JSON has a word for."""
    return float(shares.mean()) if len(shares) else None


def named(epoch: int) -> str:
    return {0: "before training", 1: "after 1 epoch"}.get(epoch, f"after {epoch} epochs")


def page(options: Options, rows: list[Row], size: int, patch: int, stride: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = f"What does a network see in {options.data}?"
    header = ["", "right in test", "saliency inside", "in another's box", "occlusion inside",
              "in another's box", "conv1 moved by"]  # fmt: skip
    columns = ["accuracy", "saliency_inside", "saliency_elsewhere", "occlusion_inside",
               "occlusion_elsewhere", "moved"]  # fmt: skip
    table = [
        [named(epoch), *(spread(known(values(rows, name, epoch=epoch))) for name in columns)]
        for epoch in options.epochs
    ]
    told = values(rows, "told")
    sections = (
        f"Mean and range of {options.seeds} seeds, over the same {options.pictures} test pictures. "
        "A map's share inside is that of its positive values inside the box around the object; "
        "another's box is that of the picture before, which tells what is due to the middle of the "
        "picture alone. Moved is the distance of conv1's kernels from where they began, in units "
        "of their norm there, what weight decay takes away included.",
        markdown_table(header, table),
        "The kernels of seed 0, each stretched to its own range:",
        "![The kernels of the first convolution over time](kernels.png)",
        "What the trained network makes of one picture, tap by tap, the strongest channels first:",
        "![Feature maps of every tap](maps.png)",
        "Where it looks. Saliency: the gradient of the class's logit. Occlusion: red is where a "
        "grey patch takes away probability, blue where it adds some; the strongest is in the "
        "title.",
        "![Saliency and occlusion, trained and untrained](where.jpg)",
        f"Patches of {patch} pixels, {stride} apart, on {size} pixels; a picture of which no patch "
        f"takes {100 * FAINT:g} points of probability does not count in occlusion: "
        f"{told.min():.0f} to {told.max():.0f} of {options.pictures} do. A network and pictures of "
        "your own: `python experiments/what_it_sees.py --run RUN --image FILE`.",
    )
    return title, answer(options, rows), figure(options, rows), sections


def answer(options: Options, rows: list[Row]) -> str:
    """The sentence that the numbers make."""
    first, one_before, last = options.epochs[1], *options.epochs[-2:]

    def at(name: str, epoch: int) -> np.ndarray:
        return values(rows, name, epoch=epoch)

    told = []
    for name, what in ((SALIENCY, "the saliency"), (OCCLUSION, "what occlusion takes away")):
        own, other = f"{name}_inside", f"{name}_elsewhere"
        now, then = (beside(at(own, epoch), at(other, epoch)) for epoch in (last, 0))
        told.append(
            f"{spread(known(at(own, last)))} of {what} lies inside the object's box; against "
            f"another picture's box that is {now}, before training {then}"
        )
    slower = at("pace", last) < at("pace", first)
    share = "every seed" if slower.all() else f"{slower.sum()} of {len(slower)} seeds"
    return (
        f"{named(last).capitalize()}, at {spread(at('accuracy', last))} right answers: "
        f"{'. '.join(told)}. The box is {100 * at('box', last).mean():.1f} % of the picture. "
        f"The kernels of conv1 move by {spread(at('pace', first))} of their first norm an epoch "
        f"until epoch {first} and by {spread(at('pace', last))} from epoch {one_before} to {last}, "
        f"slower in {share}; they end {spread(at('moved', last))} from where they began."
    )


def known(shares: np.ndarray) -> np.ndarray:
    """Those that are numbers."""
    return shares[np.isfinite(shares)]


def beside(first: np.ndarray, second: np.ndarray) -> str:
    """`compared` for the pairs that are numbers."""
    points = known(first - second)
    return compared(points, np.zeros(len(points))) if len(points) else "not known"


def figure(options: Options, rows: list[Row]) -> Figure:
    """Shares inside the box, and how far conv1 has moved, over the epochs: means and ranges."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    axis, right = figure.subplots(1, 2)

    def line(axis: Any, name: str, **style: Any) -> None:
        found = {e: known(100 * values(rows, name, epoch=e)) for e in options.epochs}
        epochs, points = zip(*((e, p) for e, p in found.items() if len(p)), strict=True)
        axis.plot(epochs, [p.mean() for p in points], lw=2.2, **style)
        low, high = [p.min() for p in points], [p.max() for p in points]
        axis.fill_between(epochs, low, high, color=style["color"], alpha=0.15, lw=0)

    for name, colour in COLOURS.items():
        line(axis, f"{name}_inside", color=colour, marker="o", label=f"{name}, in the object's box")
        line(axis, f"{name}_elsewhere", color=colour, ls="--", label=f"{name}, in another's box")
    box = 100 * values(rows, "box").mean()
    axis.axhline(box, color="#7a8699", lw=1.5, ls=":", label="the box's share of the picture")
    axis.set_ylabel("share of the map, %", fontsize=12)
    axis.set_ylim(0, 100)
    line(right, "accuracy", color="#7a8699", marker="o", label="right answers in test")
    line(right, "moved", color="#3a9a6b", marker="o", label="how far conv1 has moved, of its norm")
    right.set_ylabel("%", fontsize=12)
    right.set_ylim(0, 102)
    for each in (axis, right):
        each.set_xlabel("epochs", fontsize=12)
        each.set_xticks(options.epochs)
        plain(each)
        each.legend(frameon=False, fontsize=11)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
