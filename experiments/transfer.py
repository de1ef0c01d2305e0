#!/usr/bin/env python3
"""Does a network trained on data set A help where data set B has few labels? And how to use it?

    python experiments/transfer.py                                  # street/a to street/b
    python experiments/transfer.py --source alexnet.npz --data PATH --per-class 5 20 50

From scratch; a linear probe on its frozen features; new dense layers on them; fine-tuned; and
thawed in stages. Every network makes the same number of updates on the same labelled images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import tyro
from answers import Row, collect, compared, markdown_table, plain, publish, spread, values
from matplotlib.figure import Figure
from transferring import Transferring, base_config, features, judged_on, labels_of, train

from alexnet_jax.assemble import make_optimizer
from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Transfer
from alexnet_jax.parts import Parts, make_parts
from alexnet_jax.transfer.features import Features
from alexnet_jax.transfer.head import feature_shape, train_head
from alexnet_jax.transfer.initial import Given, given
from alexnet_jax.transfer.probe import answers, few_per_class, linear_probe

SCRATCH, PROBE, FROZEN = "from scratch", "linear probe", "frozen, new dense layers"
TUNED, STAGES = "fine-tuned", "thawed in stages"
ON_FEATURES = (PROBE, FROZEN)  # which takes seconds; the others train convolutions
COLOURS = {
    SCRATCH: "#7a8699",
    PROBE: "#8e6bbf",
    FROZEN: "#3f83d1",
    TUNED: "#d97a2b",
    STAGES: "#3a9a6b",
}


@dataclass(frozen=True)
class Options(Transferring):
    """From scratch, on frozen features or fine-tuned: what helps at how many labels?"""

    per_class: tuple[int, ...] = (5, 10, 20, 50, 0)
    """Labelled images of every class of B; 0 for all there are."""
    trained_per_class: tuple[int, ...] | None = None
    """Those of `per_class` at which convolutions are trained, which takes minutes where the rest
    takes seconds; left out, all."""
    tap: str = "pool5"
    """Up to which the source is frozen, where it is."""
    methods: tuple[str, ...] = tuple(COLOURS)
    """"from scratch", which the others are compared with, is one of them."""
    out: str = "runs/experiments/transfer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [name for name in self.methods if name not in COLOURS]:
            raise ValueError(f"no method is called {unknown[0]!r}; there are {', '.join(COLOURS)}")
        if SCRATCH not in self.methods or len(self.methods) < 2:
            raise ValueError(f"methods are {self.methods!r}; expected {SCRATCH!r} and others")
        trained = self.sizes(SCRATCH)
        if not trained or not set(trained) <= set(self.per_class):
            raise ValueError(
                f"trained_per_class is {trained}; expected some of per_class, {self.per_class}"
            )

    def sizes(self, method: str) -> tuple[int, ...]:
        """Labelled images a class at which a method is measured."""
        if method in ON_FEATURES or self.trained_per_class is None:
            return self.per_class
        return self.trained_per_class


def main(options: Options) -> None:
    source = given(options.source)
    base = base_config(options, source)
    options = replace(options, learning_rate=base.learning_rate)
    scratch = make_parts(base)
    labels, judge = labels_of(scratch), judged_on(scratch)

    @cache
    def parts_of(method: str) -> Parts:
        if method == SCRATCH:
            return scratch
        return make_parts(replace(base, transfer=transfer(options, source, method)))

    @cache
    def seen() -> dict:
        return features(scratch, source, options.tap)

    def measure(method: str, per_class: int, seed: int) -> dict[str, float]:
        rows = few_per_class(labels, per_class or len(labels), seed)
        if method == PROBE:
            share = probe(seen(), rows, judge)
        elif method == FROZEN:
            share = head(scratch, options, seen(), rows, seed, judge)
        else:
            begin = None if method == SCRATCH else source
            share = train(parts_of(method), rows, updates=options.updates, seed=seed, source=begin)
        return {"images": len(rows), "accuracy": share}

    folder = Path(options.out)
    cases = [
        {"method": method, "per_class": per_class, "seed": seed}
        for method in options.methods
        for per_class in options.sizes(method)
        for seed in range(1 if method == PROBE and not per_class else options.seeds)
    ]  # a probe on all images has nothing to draw
    free = ("out", "seeds", "methods", "per_class", "trained_per_class")
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    settings |= {"judged_on": judge, "classes": scratch.source.classes}
    rows = collect(folder, settings, cases, measure)
    publish(folder, *page(options, rows, judge, len(scratch.readers[judge])))


def transfer(options: Options, source: Given, method: str) -> Transfer:
    """What is kept and frozen of a network that begins with the source's parameters."""
    freeze: tuple[str, ...] = ()
    if method == STAGES:
        third = options.updates // 3
        freeze = (options.tap, f"pool2 after {third} steps", f"none after {2 * third} steps")
    convolutions_alone = not any(name.startswith("fc") for name in source.params["backbone"])
    return Transfer(keep=("^head/", *["fc"] * convolutions_alone), freeze=freeze)


def probe(seen: dict, rows: np.ndarray, judge: str) -> float:
    """Ridge regression on features, its strength chosen by leaving one out."""
    train, test = seen["train"], seen[judge]
    fitted = linear_probe(train.values[rows], train.labels[rows], train.labels.max() + 1)
    return float((answers(fitted, test.values) == test.labels).mean())


def head(
    parts: Parts, options: Options, seen: dict, rows: np.ndarray, seed: int, judge: str
) -> float:
    """New dense layers, trained on features."""
    train, test, net = seen["train"], seen[judge], parts.task.net
    state, _ = train_head(
        Features(train.values[rows], train.labels[rows]),
        net=net,
        tap=options.tap,
        tx=make_optimizer(parts.config, total_steps=options.updates, examples=len(rows)),
        updates=options.updates,
        batch_size=options.batch_size,
        seed=seed,
    )
    shape = feature_shape(net.spec, options.tap, test.values.shape[1])
    logits = net.clone(behind=options.tap).apply(
        {"params": state.params, **state.model_state}, test.values.reshape(-1, *shape)
    )
    return float((np.asarray(logits).argmax(axis=1) == test.labels).mean())


def page(options: Options, rows: list[Row], judge: str, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = f"Does {options.source} help on {options.data}, where labels are few?"
    table = [
        [
            str(per_class or "all"),
            *(spread(values(rows, method=m, per_class=per_class)) for m in options.methods),
        ]
        for per_class in options.per_class
    ]
    sections = (
        f"Right answers on the {count} images of {judge}"
        + (" (there is no test split; nothing was chosen on it)" if judge != "test" else "")
        + f", mean and range of {options.seeds} draws of labelled images:",
        markdown_table(["images a class", *options.methods], table),
        f"Every network makes {options.updates} updates of {options.batch_size} images, from a "
        f"learning rate of {options.learning_rate:g} by a cosine to zero, and is judged at the "
        f"end. Frozen is everything up to {options.tap}; the probe is ridge regression, its "
        "strength chosen by leaving one out.",
    )
    return title, answer(options, rows), figure(options, rows, judge), sections


def answer(options: Options, rows: list[Row]) -> str:
    """The sentence that the numbers make."""
    ways = [method for method in options.methods if method != SCRATCH]
    sizes = options.sizes(SCRATCH)
    few = min(n for n in sizes if n) if any(sizes) else 0
    told = []
    for per_class in dict.fromkeys((few, sizes[-1])):
        means = {m: values(rows, method=m, per_class=per_class).mean() for m in ways}
        best = max(means, key=means.__getitem__)
        gain = compared(
            values(rows, method=best, per_class=per_class),
            values(rows, method=SCRATCH, per_class=per_class),
        )
        at = f"{per_class} images a class" if per_class else "all images"
        told.append(f"at {at} the best way is {best}: {gain}")
    told = [f"Against a network from scratch, {'; '.join(told)}."]
    if {PROBE, TUNED} <= set(options.methods):
        per_class = max(n for n in sizes if n) if any(sizes) else 0
        tuned, probe = (values(rows, method=m, per_class=per_class) for m in (TUNED, PROBE))
        at = f"At {per_class} images a class" if per_class else "With all images"
        told.append(f"{at}, fine-tuning against the linear probe: {compared(tuned, probe)}.")
    return " ".join(told)


def figure(options: Options, rows: list[Row], judge: str) -> Figure:
    """Right answers over the number of images a class: means, and ranges as bands."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axis = figure.subplots()
    for method in options.methods:
        points = []
        for per_class in options.sizes(method):
            shares = 100 * values(rows, method=method, per_class=per_class)
            images = values(rows, "images", method=method, per_class=per_class).mean()
            points.append((images, shares.mean(), shares.min(), shares.max()))
        images, mean, low, high = np.array(sorted(points)).T
        axis.plot(images, mean, "o-", color=COLOURS[method], lw=2.2, label=method)
        axis.fill_between(images, low, high, color=COLOURS[method], alpha=0.15, lw=0)
    axis.set_xscale("log")
    ticks = sorted({round(row["images"]) for row in rows})
    axis.set_xticks(ticks, map(str, ticks), minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlabel(f"labelled images of {options.data}, all classes together", fontsize=12)
    axis.set_ylabel(f"right answers in {judge}, %", fontsize=12)
    plain(axis)
    axis.legend(frameon=False, fontsize=12)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
