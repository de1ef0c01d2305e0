#!/usr/bin/env python3
"""Which initializer keeps a deep plain network's gradients from vanishing or exploding?

    python experiments/gradients.py                     # depth multipliers 1 and 4, ReLU and tanh

AlexNets without normalization, their convolutions after the second repeated, under each initializer
(Glorot and Bengio 2010; He et al. 2015; ...): norms of activations and gradients layer by layer
before training, after one update and after all; what is learned in equal updates, each network at
the best of its own learning rates (swept on one seed); and what clipping the gradient changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from answers import (
    Chance,
    Row,
    chosen,
    collect,
    markdown_table,
    publish,
    spread,
    values,
)
from gradients_answer import GLOROT, HE, answer, bounds, evenness, factor, growth
from gradients_figure import heat_maps
from observing import layers, observed
from sweeping import Sweeping, best_rate, edge, end_loss, settings_for, updates_of
from transferring import judged_on

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.models.initializers import NAMES
from alexnet_jax.models.spec import ACTIVATIONS, spec
from alexnet_jax.parts import Parts, make_parts


@dataclass(frozen=True)
class Options(Sweeping):
    """Initializers of deep plain networks: what vanishes, what explodes, what learns?"""

    depths: tuple[int, ...] = (1, 4)
    """Depth multipliers, ascending; the figures are of the last."""
    activations: tuple[str, ...] = ("relu", "tanh")
    initializers: tuple[str, ...] = (
        *("gaussian_2012", "lecun_normal", "glorot_uniform", GLOROT),
        *("he_uniform", HE, "orthogonal"),
    )
    learning_rate: tyro.conf.Suppress[float] = 0.0
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates of the sweep; each is constant."""
    clip: float = 1.0
    """Largest norm of the gradient, where it is clipped."""
    clipped: tuple[str, ...] = ("relu",)
    """Activations of the deepest networks that are trained once more with clipping. These and the
    shallower ones are under Glorot's and He's normal initializers alone."""
    updates: int = 300
    """At most; fewer where this machine would need longer than `minutes`."""
    minutes: float = 12.0
    momentum: float = 0.9
    width: float = 0.5
    out: str = "runs/experiments/gradients"

    def __post_init__(self) -> None:
        super().__post_init__()
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
        if not self.rates or min(self.rates) <= 0 or min(self.depths) < 1:
            raise ValueError("rates have to be given and more than 0, depths at least 1")


def main(options: Options) -> None:
    folder, networks = Path(options.out), networks_of(options)
    deepest = parts_of(options, options.depths[-1], options.activations[0], None)
    judge, classes = judged_on(deepest), deepest.source.classes
    swept = [net | {"rate": rate, "seed": 0} for net in networks for rate in options.rates]
    count = len(swept) + (options.seeds - 1) * len(networks)
    updates = updates_of(options, deepest, count)
    made: dict[tuple, Parts] = {}  # of the case at hand: its steps serve all initializers and rates

    def measure(
        depth: int, activation: str, clip: float | None, initializer: str, rate: float, seed: int
    ) -> dict[str, Any]:
        name = (depth, activation, clip)
        if name not in made:
            made.clear()
            made[name] = parts_of(options, *name)
        return observed(made[name], initializer, rate, seed, updates, judge)

    free = ("depths", "activations", "initializers", "rates", "clipped")
    settings = settings_for(options, updates, free) | {"judged_on": judge}
    rows = collect(folder, settings, swept, measure)
    again = [
        net | {"rate": rate, "seed": seed}
        for net in networks
        if (rate := best_rate(chosen(rows, **net))) is not None
        for seed in range(1, options.seeds)
    ]
    rows += collect(folder, settings, again, measure)
    best = at_best(rows, networks)
    heat_maps(*drawn(options, best, "activation")).savefig(folder / "activation.png", dpi=110)
    chance = Chance(1 / len(classes), len(deepest.readers[judge]))
    publish(folder, *page(options, rows, updates, judge, chance))


def networks_of(options: Options) -> list[dict[str, Any]]:
    """Depth, activation, clip and initializer of each network."""
    return [
        {"depth": depth, "activation": activation, "clip": clip, "initializer": name}
        for depth, activation, clip in columns(options)
        for name in (options.initializers if for_all(options, depth, clip) else (GLOROT, HE))
    ]


def columns(options: Options) -> list[tuple[int, str, float | None]]:
    """(depth, activation, clip) of each."""
    plain = [(depth, name, None) for name in options.activations for depth in options.depths]
    return [*plain, *((options.depths[-1], name, options.clip) for name in options.clipped)]


def for_all(options: Options, depth: int, clip: float | None) -> bool:
    """Whether it is one of the networks that all initializers are compared in."""
    return depth == options.depths[-1] and clip is None


def at_best(rows: Sequence[Row], networks: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of each network at its own best rate."""
    return [
        row for net in networks for row in chosen(rows, **net, rate=best_rate(chosen(rows, **net)))
    ]


def parts_of(options: Options, depth: int, activation: str, clip: float | None) -> Parts:
    """A plain network of some depth, and its steps."""
    return make_parts(config(options, depth, activation, clip))


def config(options: Options, depth: int, activation: str, clip: float | None) -> Config:
    name, size = options.network
    return Config(
        data=options.data,
        spec=name,
        batch_size=options.batch_size,
        patience=None,
        model=Model(
            width=None if options.full else options.width,
            depth=depth,
            activation=activation,
            normalization="none",
            dropout_rate=0.0,
        ),
        optimizer=Optimizer(momentum=options.momentum, clip=clip),
        augment=Augment(flip=0.5),
        input=Input(canvas=size, size=size, examples=options.images),
        run=Run(precision="exact"),  # which compiles in less time
    )


def drawn(options: Options, best: Sequence[Row], quantity: str) -> tuple:
    """What `heat_maps` needs for a quantity: of the deepest networks, unclipped."""
    deep = chosen(best, depth=options.depths[-1], clip=None)
    return deep, quantity, layers_of(options), options.activations, options.initializers


def layers_of(options: Options) -> list[str]:
    """Names of the layers of the deepest networks."""
    return layers(spec(options.network[0], depth=options.depths[-1]))


def page(options: Options, rows: list[Row], updates: int, judge: str, chance: Chance) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Which initializer keeps gradients from vanishing and exploding?"
    deepest, nets = options.depths[-1], columns(options)
    best = at_best(rows, networks_of(options))
    header = [f"{act}, depth {depth}{', clipped' if clip else ''}" for depth, act, clip in nets]
    learned = [
        [name]
        + [at_rate(best, initializer=name, depth=d, activation=a, clip=c) for d, a, c in nets]
        for name in options.initializers
    ]
    signals = [
        [name]
        + [
            factor(measure(best, initializer=name, activation=act, depth=deepest))
            for act in options.activations
            for measure in (growth, evenness)
        ]
        for name in options.initializers
    ]
    what = ("activation, last to first", "gradient, least to most")
    sections = (
        "The columns are networks that differ in nothing but the initializer and its learning "
        f"rate, the rows their layers from the image on ({len(layers_of(options))} in all); the "
        "colour is the norm of each layer's gradient on the first training batch, the geometric "
        f"mean of {options.seeds} seeds. Grey: zero, or no number any more, in one of them at "
        "least. The activations:",
        "![Root mean square of each layer's activations](activation.png)",
        "Before training: the activations of the last hidden layer as a multiple of the first's, "
        "and the gradient of the layer that has the smallest as a multiple of the largest "
        f"(geometric mean and range of {options.seeds} seeds):",
        markdown_table(
            ["initializer", *(f"{act}: {name}" for act in options.activations for name in what)],
            signals,
        ),
        f"The best learning rate, and right answers with it on the {chance.count} images of "
        f"{judge} after {updates} updates, mean and range of {options.seeds} seeds (a guess has "
        f"{100 * chance.share:.0f} %):",
        markdown_table(["initializer", *header], learned),
        "The sweep that chose the rates: loss in validation at the end, on the first seed:",
        markdown_table(
            ["network", "initializer", *(f"{r:g}" for r in options.rates)],
            sweep_lines(options, rows),
        ),
        edges(options, best, chance),
        bounds(best),
        f"{options.told}{'' if options.full else f', of width {options.width:g}'}: every network "
        f"makes {updates} updates of {options.batch_size} images at a constant learning rate, "
        f"momentum {options.momentum:g}, without normalization and dropout, and is judged at the "
        "end."
        + (
            f" Clipped is the gradient's norm over all layers, to {options.clip:g}."
            if options.clipped
            else ""
        ),
    )
    figure = heat_maps(*drawn(options, best, "gradient"))
    return title, answer(options, best, updates, chance), figure, tuple(s for s in sections if s)


def at_rate(best: Sequence[Row], **net: Any) -> str:
    """The best rate of a network and what is right with it: "0.01: 69.8 % (68.1 to 72.2)"."""
    found = chosen(best, **net)
    return f"{found[0]['rate']:g}: {spread(values(found))}" if found else "diverged"


def sweep_lines(options: Options, rows: Sequence[Row]) -> list[list[str]]:
    """Of each network, the loss in validation at every rate."""
    lines = []
    for net in networks_of(options):
        found = {row["rate"]: end_loss(row) for row in chosen(rows, **net, seed=0)}
        losses = [found[rate] for rate in options.rates]
        clip = ", clipped" if net["clip"] else ""
        lines.append([
            f"{net['activation']}, depth {net['depth']}{clip}",
            net["initializer"],
            *(f"{loss:.3f}" if math.isfinite(loss) else "diverged" for loss in losses),
        ])  # fmt: skip
    return lines


def edges(options: Options, best: Sequence[Row], chance: Chance) -> str:
    """Which networks that learn have the smallest or largest rate that was tried, or ""."""
    at = []
    for net in networks_of(options):
        found = chosen(best, **net)
        which = edge(found[0]["rate"], options.rates) if found else ""
        if which and values(found).min() > chance.limit:
            clip = ", clipped" if net["clip"] else ""
            at.append(
                f"{which} for {net['initializer']} under {net['activation']} at depth "
                f"{net['depth']}{clip}"
            )
    told = "A best rate may lie outside the sweep where the network learns"
    return f"{told}: it is the {'; '.join(at)}." if at else ""


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
