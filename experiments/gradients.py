#!/usr/bin/env python3
"""Which initializer keeps a deep plain network's gradients from vanishing or exploding?

    python experiments/gradients.py                     # depth multipliers 1 and 4, ReLU and tanh

AlexNets without normalization, their convolutions after the second repeated, under each initializer
(Glorot and Bengio 2010; He et al. 2015; ...): norms of activations and gradients layer by layer
before training, after one update and after all; what is learned in equal updates; and what clipping
the gradient changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from answers import (
    Row,
    chosen,
    collect,
    compared,
    difference,
    direction,
    markdown_table,
    publish,
    spread,
    values,
)
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from observing import BEFORE, LAST, WHEN, layers, observed
from transferring import judged_on

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.models.initializers import NAMES
from alexnet_jax.models.spec import ACTIVATIONS, spec
from alexnet_jax.parts import Parts, make_parts

GLOROT, HE = "glorot_normal", "he_normal"


@dataclass(frozen=True)
class Options:
    """Initializers of deep plain networks: what vanishes, what explodes, what learns?"""

    data: str = "street/a"
    depths: tuple[int, ...] = (1, 4)
    """Depth multipliers, ascending; the figures are of the last."""
    activations: tuple[str, ...] = ("relu", "tanh")
    initializers: tuple[str, ...] = (
        *("gaussian_2012", "lecun_normal", "glorot_uniform", GLOROT),
        *("he_uniform", HE, "orthogonal"),
    )
    clip: float = 1.0
    """Largest norm of the gradient, where it is clipped."""
    clipped: tuple[str, ...] = ("relu",)
    """Activations of the deepest networks that are trained once more with clipping. These and the
    shallower ones are under Glorot's and He's normal initializers alone."""
    seeds: int = 3
    updates: int = 300
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    size: int = 32
    """Of the images, in pixels."""
    width: float = 0.5
    out: str = "runs/experiments/gradients"
    """The folder for results.json, the figures and README.md."""

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("initializer", self.initializers, NAMES),
            ("activation", (*self.activations, *self.clipped), ACTIVATIONS),
        ):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(
                    f"no {kind} is called {unknown[0]!r}; there are {', '.join(known)}"
                )
        if not {GLOROT, HE} <= set(self.initializers):
            raise ValueError(f"initializers are {self.initializers}; {GLOROT} and {HE} are needed")
        if min(self.seeds, self.updates - 1, self.batch_size, *self.depths) < 1:
            raise ValueError("seeds, batch_size and depths have to be at least 1, updates 2")


def main(options: Options) -> None:
    first = parts_of(options, options.depths[0], options.activations[0], None)
    judge = judged_on(first)
    made = {}  # of the case at hand: its compiled steps serve all initializers and seeds

    def measure(
        depth: int, activation: str, clip: float | None, initializer: str, seed: int
    ) -> dict[str, Any]:
        name = (depth, activation, clip)
        if name not in made:
            made.clear()
            made[name] = parts_of(options, *name)
        return observed(made[name], initializer, seed, options.updates, judge)

    cases = [
        {"depth": depth, "activation": activation, "clip": clip, "initializer": name, "seed": seed}
        for depth, activation, clip in networks(options)
        for name in (options.initializers if for_all(options, depth, clip) else (GLOROT, HE))
        for seed in range(options.seeds)
    ]
    free = ("out", "seeds", "depths", "activations", "initializers", "clipped")
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    rows = collect(Path(options.out), settings | {"judged_on": judge}, cases, measure)
    heat_maps(options, rows, "activation").savefig(Path(options.out) / "activation.png", dpi=110)
    publish(Path(options.out), *page(options, rows, judge, len(first.readers[judge])))


def networks(options: Options) -> list[tuple[int, str, float | None]]:
    """(depth, activation, clip) of each network."""
    plain = [(depth, name, None) for name in options.activations for depth in options.depths]
    return [*plain, *((options.depths[-1], name, options.clip) for name in options.clipped)]


def for_all(options: Options, depth: int, clip: float | None) -> bool:
    """Whether it is one of the networks that all initializers are compared in."""
    return depth == options.depths[-1] and clip is None


def parts_of(options: Options, depth: int, activation: str, clip: float | None) -> Parts:
    """A plain network of some depth, and its steps."""
    return make_parts(
        Config(
            data=options.data,
            spec="small",
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            patience=None,
            model=Model(
                width=options.width,
                depth=depth,
                activation=activation,
                normalization="none",
                dropout_rate=0.0,
            ),
            optimizer=Optimizer(momentum=options.momentum, clip=clip),
            augment=Augment(flip=0.5),
            input=Input(canvas=options.size, size=options.size),
            run=Run(precision="exact"),  # which compiles in less time
        )
    )


def page(options: Options, rows: list[Row], judge: str, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which initializer keeps gradients from vanishing and exploding?"
    deepest, nets = options.depths[-1], networks(options)
    header = [f"{act}, depth {depth}{', clipped' if clip else ''}" for depth, act, clip in nets]
    learned = [
        [name]
        + [
            spread(values(rows, initializer=name, depth=depth, activation=act, clip=clip))
            for depth, act, clip in nets
        ]
        for name in options.initializers
    ]
    signals = [
        [name]
        + [
            factor(measure(rows, initializer=name, activation=act, depth=deepest))
            for act in options.activations
            for measure in (growth, evenness)
        ]
        for name in options.initializers
    ]
    what = ("activation, last to first", "gradient, least to most")
    sections = (
        "The columns are networks that differ in nothing but the initializer, the rows their "
        f"layers from the image on ({count_layers(rows, deepest)} in all); the colour is the norm "
        "of each layer's gradient on the first training batch, the geometric mean of "
        f"{options.seeds} seeds. Grey: zero, or no number any more, in one of them at least. The "
        "activations:",
        "![Root mean square of each layer's activations](activation.png)",
        "Before training: the activations of the last hidden layer as a multiple of the first's, "
        "and the gradient of the layer that has the smallest as a multiple of the largest "
        f"(geometric mean and range of {options.seeds} seeds):",
        markdown_table(
            ["initializer", *(f"{act}: {name}" for act in options.activations for name in what)],
            signals,
        ),
        f"Right answers on the {count} images of {judge} after {options.updates} updates, mean and "
        f"range of {options.seeds} seeds (a guess has 50 %):",
        markdown_table(["initializer", *header], learned),
        bounds(rows),
        f"Every network makes {options.updates} updates of {options.batch_size} images of "
        f"{options.size} x {options.size} px at a learning rate of {options.learning_rate:g}, "
        f"momentum {options.momentum:g}, without normalization and dropout, and is judged at the "
        "end. Another learning rate may serve an initializer better. Clipped is the gradient's "
        f"norm over all layers, to {options.clip:g}.",
    )
    return title, answer(options, rows), heat_maps(options, rows, "gradient"), sections


def growth(rows: list[Row], **case: Any) -> np.ndarray:
    """Activations before training, of the last hidden layer as a multiple of the first's."""
    found = [row["activation_norm"][BEFORE] for row in chosen(rows, clip=None, **case)]
    norms = np.array(found, float)
    return norms[:, -2] / norms[:, 0]


def evenness(rows: list[Row], **case: Any) -> np.ndarray:
    """The smallest gradient norm of a layer before training as a multiple of the largest."""
    found = [row["gradient_norm"][BEFORE] for row in chosen(rows, clip=None, **case)]
    return np.array([min(norms) / max(norms) for norms in found])


def factor(factors: np.ndarray) -> str:
    """Factors as "0.12 (0.1 to 0.15)": geometric mean and range."""
    mean = np.exp(np.log(factors).mean()) if (factors > 0).all() else 0.0
    return f"{mean:.2g} ({factors.min():.2g} to {factors.max():.2g})"


def count_layers(rows: list[Row], depth: int) -> int:
    return len(chosen(rows, depth=depth)[0]["gradient_norm"][BEFORE])


def answer(options: Options, rows: list[Row]) -> str:
    """The sentences that the numbers make."""
    deepest, count = options.depths[-1], count_layers(rows, options.depths[-1])
    told = []
    for activation in options.activations:
        even = {
            name: evenness(rows, initializer=name, activation=activation, depth=deepest)
            for name in options.initializers
        }
        best, worst = (pick(even, key=lambda name: even[name].mean()) for pick in (max, min))
        told.append(
            f"under {activation} the layer with the smallest gradient has "
            f"{factor(even[best])} of the largest with {best}, the most even, and "
            f"{factor(even[worst])} with {worst}, the least"
        )
    sentences = [f"Before training, in {count} layers, {'; '.join(told)}."]
    versus = [
        f"under {activation} at depth {depth} {compared(*pair(rows, activation, depth))}"
        for activation in options.activations
        for depth in options.depths
    ]
    sentences.append(
        f"Right answers of {HE} against {GLOROT} after {options.updates} updates: "
        f"{'; '.join(versus)}."
    )
    sentences += [clipping(options, rows, activation) for activation in options.clipped]
    return " ".join(sentences)


def clipping(options: Options, rows: list[Row], activation: str) -> str:
    """For which initializers clipping is shown to change what the deepest networks learn."""
    case = {"activation": activation, "depth": options.depths[-1]}
    verbs = {1: "helps", -1: "harms", 0: "is not shown to change anything"}
    told: dict[str, list[str]] = {}
    for name in (GLOROT, HE):
        clipped, plain = (
            values(rows, initializer=name, clip=clip, **case) for clip in (options.clip, None)
        )
        sign = direction(clipped, plain)
        told.setdefault(verbs[int(sign)], []).append(f"{name} ({difference(clipped, plain)})")
    said = " and ".join(f"{verb} under {' and '.join(names)}" for verb, names in told.items())
    return (
        f"Clipping the gradient to {options.clip:g} in the {activation} networks of depth "
        f"{options.depths[-1]} {said}."
    )


def pair(rows: list[Row], activation: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of right answers under He's and under Glorot's initializer, seed by seed."""
    case = {"activation": activation, "depth": depth, "clip": None}
    return values(rows, initializer=HE, **case), values(rows, initializer=GLOROT, **case)


def bounds(rows: list[Row]) -> str:
    """How far apart layers move in networks that learn, and in the others."""
    learn, other = [], []
    for row in rows:
        ratios = np.array(row["update_ratio"][LAST], float)
        if np.isfinite(ratios).all() and ratios.max() > 0:
            (learn if row["accuracy"] > 0.6 else other).append(ratios.min() / ratios.max())
    told = [
        f"the slowest layer of {who} moves {min(those):.1g} to {max(those):.1g} times as far as "
        f"the fastest (n = {len(those)})"
        for who, those in (("those that learn, to more than 60 %,", learn), ("the others", other))
        if those
    ]
    return f"In the last update, relative to their weights: {'; '.join(told)}."


def geometric_mean(norms: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Of each layer over the seeds, float [layers]; NaN where one is zero or no number."""
    found = np.array(norms, float)
    logs = np.log(found, out=np.full_like(found, np.nan), where=found > 0)
    return np.exp(logs.mean(axis=0))


def heat_maps(options: Options, rows: Sequence[Row], quantity: str) -> Figure:
    """Layers x initializers, for each activation and moment: the deepest networks, unclipped."""
    depth = options.depths[-1]
    figure = Figure(figsize=(13, 3.1 + 3.6 * len(options.activations)), layout="constrained")
    axes = figure.subplots(len(options.activations), len(WHEN), squeeze=False, sharey=True)
    norms = {
        (activation, when): np.array(
            [
                geometric_mean(
                    [
                        row[f"{quantity}_norm"][when]
                        for row in chosen(
                            rows, depth=depth, activation=activation, clip=None, initializer=name
                        )
                    ]
                )
                for name in options.initializers
            ]
        ).T
        for activation in options.activations
        for when in WHEN
    }
    finite = np.concatenate([value[np.isfinite(value)] for value in norms.values()])
    finite = finite if finite.size else np.ones(1)  # a network of zeros has none
    scale = LogNorm(max(finite.min(), finite.max() * 1e-9), finite.max())
    names = layers(spec("small", depth=depth))
    for line, activation in zip(axes, options.activations, strict=True):
        for axis, when in zip(line, WHEN, strict=True):
            axis.set_facecolor("#c9ced6")
            image = axis.pcolormesh(norms[activation, when], norm=scale, cmap="viridis")
            axis.set_title(f"{activation}, {when}", fontsize=13)
            axis.set_xticks(np.arange(len(options.initializers)) + 0.5, options.initializers)
            axis.tick_params(axis="x", rotation=40, labelsize=10)
            axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=9)
    axes[0, 0].invert_yaxis()  # which all share
    what = {"gradient": "norm of the gradient", "activation": "root mean square of activations"}
    figure.colorbar(image, ax=axes, shrink=0.8).set_label(what[quantity], fontsize=12)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
