#!/usr/bin/env python3
"""How transferable is each layer? Yosinski et al. 2014, arXiv:1411.1792, on a data set of your own.

    python experiments/transferability.py                           # street/a to street/b

The layers up to a cut come from a network trained on A, the others are fresh; the first part stays
frozen, or is trained along. Cut by cut, that tells where features stop being general.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tyro
from answers import Row, collect, compared, markdown_table, plain, publish, spread, values
from matplotlib.figure import Figure
from transferring import Transferring, base_config, judged_on, labels_of, train

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Transfer
from alexnet_jax.models.spec import Spec, layers_behind
from alexnet_jax.parts import make_parts
from alexnet_jax.transfer.initial import given
from alexnet_jax.transfer.probe import few_per_class

SCRATCH, FROZEN, TUNED = "from scratch", "frozen", "trained along"
COLOURS = {FROZEN: "#3f83d1", TUNED: "#d97a2b"}


@dataclass(frozen=True)
class Options(Transferring):
    """How transferable is each layer?"""

    seeds: int = 3
    per_class: int = 50
    """Labelled images of every class of B; 0 for all there are."""
    cuts: tuple[str, ...] = ("pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7")
    out: str = "runs/experiments/transferability"


def main(options: Options) -> None:
    source = given(options.source)
    base = base_config(options, source)
    options = replace(options, learning_rate=base.learning_rate)
    scratch = make_parts(base)
    labels, judge = labels_of(scratch), judged_on(scratch)
    made = {SCRATCH: scratch}  # of the case at hand: its compiled steps serve all seeds

    def measure(first_part: str, cut: str, seed: int) -> dict[str, float]:
        rows = few_per_class(labels, options.per_class or len(labels), seed)
        begin = None if first_part == SCRATCH else source
        name = first_part + cut
        if name not in made:
            made.clear()
            freeze = (cut,) if first_part == FROZEN else ()
            keep = behind(scratch.task.net.spec, cut)
            made[name] = make_parts(replace(base, transfer=Transfer(keep=keep, freeze=freeze)))
        share = train(made[name], rows, updates=options.updates, seed=seed, source=begin)
        return {"accuracy": share}

    cases = [
        {"first_part": first_part, "cut": cut, "seed": seed}
        for first_part, cut in [(SCRATCH, ""), *((p, c) for c in options.cuts for p in COLOURS)]
        for seed in range(options.seeds)
    ]
    free = ("out", "seeds", "cuts")
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    settings |= {"judged_on": judge, "classes": scratch.source.classes}
    rows = collect(Path(options.out), settings, cases, measure)
    count = len(scratch.readers[judge])
    publish(Path(options.out), *page(options, rows, judge, count))


def behind(spec: Spec, cut: str) -> tuple[str, ...]:
    """Expressions for the parameters of all layers behind the cut, with norms and the head."""
    convs, dense = layers_behind(spec, cut)
    layers = [name for name, _ in (*convs, *dense)]
    norms = [name.replace("conv", "norm").replace("fc", "norm") for name in layers]
    return (f"^(head|backbone/({'|'.join([*layers, *norms])}))/",) if layers else ("^head/",)


def page(options: Options, rows: list[Row], judge: str, count: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = f"How far up does {options.source} serve {options.data}?"
    scratch = values(rows, first_part=SCRATCH)
    lines = [
        [f"up to {cut}", *(spread(values(rows, first_part=part, cut=cut)) for part in COLOURS)]
        for cut in options.cuts
    ]
    images = f"{options.per_class} images a class" if options.per_class else "all images"
    sections = (
        f"Right answers on the {count} images of {judge}, trained on {images}: mean and range of "
        f"{options.seeds} draws. From scratch: {spread(scratch)}.",
        markdown_table(["transferred", *COLOURS], lines),
        f"Every network makes {options.updates} updates of {options.batch_size} images, from a "
        f"learning rate of {options.learning_rate:g} by a cosine to zero, and is judged at the "
        "end.",
    )
    return title, answer(options, rows), figure(options, rows, judge), sections


def answer(options: Options, rows: list[Row]) -> str:
    """The sentence that the numbers make."""

    def shares(part: str, cut: str):
        return values(rows, first_part=part, cut=cut)

    scratch = shares(SCRATCH, "")
    best = {
        part: max(options.cuts, key=lambda cut, part=part: shares(part, cut).mean())
        for part in COLOURS
    }
    told = [
        f"{part}, the layers up to {cut} are worth most: {compared(shares(part, cut), scratch)}"
        for part, cut in best.items()
    ]
    last = options.cuts[-1]
    gap = compared(shares(TUNED, last), shares(FROZEN, last))
    return (
        f"Against a network from scratch, {'; '.join(told)}. With everything up to {last} "
        f"transferred, training it along against leaving it frozen: {gap}."
    )


def figure(options: Options, rows: list[Row], judge: str) -> Figure:
    """Right answers over the cut: means, with each draw as a dot; the line is from scratch."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axis = figure.subplots()
    scratch = 100 * values(rows, first_part=SCRATCH)
    axis.axhline(scratch.mean(), color="#7a8699", lw=2.2, label="from scratch")
    axis.axhspan(scratch.min(), scratch.max(), color="#7a8699", alpha=0.15, lw=0)
    for part, colour in COLOURS.items():
        shares = [100 * values(rows, first_part=part, cut=cut) for cut in options.cuts]
        places = range(len(options.cuts))
        axis.plot(places, [s.mean() for s in shares], "o-", color=colour, lw=2.2, label=part)
        for place, each in zip(places, shares, strict=True):
            axis.plot([place] * len(each), each, ".", color=colour, alpha=0.5)
    axis.set_xticks(range(len(options.cuts)), options.cuts)
    axis.set_xlabel("transferred up to", fontsize=12)
    axis.set_ylabel(f"right answers in {judge}, %", fontsize=12)
    plain(axis)
    axis.legend(frameon=False, fontsize=12)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
