#!/usr/bin/env python3
"""Does a pre-trained start help detection, segmentation and pose on photographs?

    python experiments/photographs.py --source convolutions.npz --detection VOC_FOLDER \\
        --segmentation CAMVID_FOLDER --pose LEEDS_FOLDER

Each task is learnt by its recipe for folders, from scratch and from the convolutions of a file of
weights, and judged beside answers that do not look at the picture (blind.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import blind
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from answers import (
    Row,
    chosen,
    collect,
    compared,
    markdown_table,
    pairs,
    plain,
    publish,
    spread,
    values,
)
from matplotlib.figure import Figure
from transferring import judged_on, trained

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Config, Input, Transfer
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.models.deep_pose import OUTPUTS, DeepPose
from alexnet_jax.models.spec import spec
from alexnet_jax.parts import Parts, make_parts, split_batches, split_figures
from alexnet_jax.recipes import recipe
from alexnet_jax.tasks.centers import FOUND
from alexnet_jax.tasks.pose import pose
from alexnet_jax.train.evaluate import evaluate, predictions
from alexnet_jax.transfer.initial import Given, given

SCRATCH, PRETRAINED = "from scratch", "pre-trained"
COLOURS = {SCRATCH: "#3f83d1", PRETRAINED: "#d97a2b"}
BLIND = "#7a8699"
GRID = 14  # parts of the image that the edges of the most frequent boxes are rounded to


class Kind(NamedTuple):
    """A task: its metric's name, and the blind answers that it is judged beside."""

    metric: str
    called: str
    blind: tuple[str, ...]


BOXES, MEAN_POSE = "most frequent boxes", "mean pose"
CLASS, CLASS_THERE = "most frequent class", "most frequent class of each place"
KINDS = {
    "detection": Kind("ap50", "AP50", (BOXES,)),
    "segmentation": Kind("mean_iou", "mean IoU", (CLASS, CLASS_THERE)),
    "pose": Kind("pck", "PCK@0.2", (MEAN_POSE,)),
}


@dataclass(frozen=True)
class Options:
    """From scratch or pre-trained: what do the three tasks reach on photographs?"""

    source: str
    """File of a classifier's weights, or of its convolutions alone; or run folder."""
    detection: str = ""
    """Folder in PASCAL VOC's or COCO's form; left out, the task is."""
    segmentation: str = ""
    """Folder in CamVid's form, likewise."""
    pose: str = ""
    """Folder in the form of Leeds Sports Pose, likewise."""
    seeds: int = 3
    """Initializations and orders of the examples."""
    epochs: tuple[float, float, float] = (16, 10, 36)
    """Of detection, segmentation and pose."""
    size: tuple[int, int, int] = (160, 160, 128)
    """Side of the network's input, in pixels, likewise."""
    learning_rate: float = 1e-3
    """Of a pre-trained start; from scratch it is the recipe's."""
    out: str = "runs/experiments/photographs"
    """The folder for results.json, figure.png and README.md."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or min(self.epochs) <= 0:
            raise ValueError("seeds and epochs have to be more than none")
        if not Path(self.source).expanduser().exists():
            raise FileNotFoundError(
                f"source {self.source!r} does not exist; give a file of weights (docs/weights.md) "
                "or a run folder"
            )
        if not self.tasks:
            raise ValueError(f"no data is given: --{', --'.join(KINDS)} name folders of yours")
        for task in self.tasks:
            if not Path(self.folder(task)).expanduser().is_dir():
                raise FileNotFoundError(f"{task} {self.folder(task)!r} is no folder; give yours")

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task in KINDS if self.folder(task))

    def folder(self, task: str) -> str:
        return getattr(self, task)


def main(options: Options) -> None:
    source = given(options.source)
    if not source.preprocessing:
        raise ValueError(f"{options.source} does not say how its images are to be prepared")

    @cache
    def parts_of(task: str, start: str) -> Parts:
        return make_parts(configured(options, source, task, start))

    def measure(task: str, start: str, seed: int) -> dict[str, Any]:
        known = start if start in COLOURS else SCRATCH
        parts = parts_of(task, known)
        judge = judged_on(parts)
        if start not in COLOURS:
            figures = judged_blind(parts, start, judge)
            return {"score": figures[KINDS[task].metric], "judged_on": judge, "figures": figures}
        begin = source if start == PRETRAINED else None
        state = trained(
            parts, parts.readers["train"], updates=parts.total_steps, seed=seed, source=begin
        )
        each = {
            split: split_figures(parts, state, split)
            for split in dict.fromkeys(("validation", judge))
        }
        return {
            "score": each[judge][KINDS[task].metric],
            "validation": each["validation"][KINDS[task].metric],
            "judged_on": judge,
            "images": {split: len(reader) for split, reader in parts.readers.items()},
            "epochs": parts.config.epochs,
            "updates": parts.total_steps,
            "figures": each[judge],
        }

    cases = [
        {"task": task, "start": start, "seed": 0}
        for task in options.tasks
        for start in KINDS[task].blind
    ]
    cases += [
        {"task": task, "start": start, "seed": seed}
        for seed in range(options.seeds)  # a whole table of each, should it be stopped
        for task in options.tasks
        for start in COLOURS
    ]
    folder = Path(options.out)
    settings = {k: v for k, v in asdict(options).items() if k not in ("out", "seeds")}
    rows = collect(folder, settings, cases, measure)
    publish(folder, *page(options, rows, source.net.spec.normalization))


def configured(options: Options, source: Given, task: str, start: str) -> Config:
    """The recipe for folders, of the source's network. A pre-trained one keeps its own form, that
    is, its own normalization, and learns at its own rate."""
    base = recipe(f"{task}-folder")
    net, p, number = source.net.spec, source.preprocessing, list(KINDS).index(task)
    side = options.size[number]
    config = replace(
        base,
        data=options.folder(task),
        spec=net.name,
        model=replace(base.model, width=net.width, depth=net.depth),
        epochs=options.epochs[number],
        patience=None,
        input=Input(canvas=side, size=side, mean=tuple(p["mean"]), std=tuple(p["std"])),
    )
    if start == SCRATCH:
        return config
    return replace(
        config,
        learning_rate=options.learning_rate,
        model=replace(config.model, normalization=net.normalization),
        transfer=Transfer(keep=("^head/",)),
    )


def judged_blind(parts: Parts, name: str, split: str) -> dict[str, float]:
    """The figures of a blind answer, learnt from the training split, by the task's own code."""
    task, classes = parts.task, len(parts.classes)

    def seen(batch: Mapping[str, Any]) -> dict[str, Any]:
        return preprocess(batch, parts.preprocessing)

    @jax.jit
    def truth(answer: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        return task.truth(seen(batch))

    known = predictions(truth, None, split_batches(parts, "train"))
    if name == BOXES:
        step = parts.preprocessing.size / GRID
        answer = blind.frequent_boxes(known["true_boxes"], known["true"], step=step, count=FOUND)

        def predict(answer: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
            return repeated(answer, len(batch["image"])) | truth(None, batch)

        answers = predictions(jax.jit(predict), answer, split_batches(parts, split))
        return task.score(answers, parts.classes)
    if name == MEAN_POSE:
        task = pose(DeepPose(spec("small", num_classes=OUTPUTS)))  # its outputs are joints
        outputs = blind.mean_pose(known["true"], known["visible"])
    else:
        common = blind.frequent_class if name == CLASS else blind.frequent_class_there
        outputs = np.eye(classes, dtype=np.float32)[common(known["true"], classes)]

    def sums(outputs: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        batch = seen(batch)
        return task.sums(repeated(outputs, len(batch["image"])), batch)

    return task.metrics(evaluate(jax.jit(sums), outputs, split_batches(parts, split)))


def repeated(answer: Any, count: int) -> Any:
    """Arrays [...] as [count, ...]."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *np.shape(x))), answer)


def page(options: Options, rows: list[Row], normalization: str) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "Does a pre-trained start help detection, segmentation and pose on photographs?"
    lines = [
        line(task, start, chosen(rows, task=task, start=start))
        for task in options.tasks
        for start in (*KINDS[task].blind, *COLOURS)
    ]
    sides = ", ".join(f"{t} at {options.size[list(KINDS).index(t)]} px" for t in options.tasks)
    header = ["task", "start", "n", "judged", "validation", "epochs", "time"]
    sizes = []
    for task in options.tasks:
        row = next(row for row in rows if row["task"] == task and row["start"] in COLOURS)
        images = ", ".join(f"{count} of {split}" for split, count in row["images"].items())
        sizes.append(f"{task} by {row['judged_on']} ({images})")
    sections = (
        f"Judged: {'; '.join(sizes)}. Mean and range:",
        markdown_table(header, lines),
        f"The network is that of {options.source} without its dense layers, trained for a fixed "
        "number of epochs and judged at their end: nothing in a run was chosen by looking at "
        "validation or test. From scratch it learns as the recipe for folders says; pre-trained, "
        f"it has its own normalization ({normalization}) in place of the recipe's, and a learning "
        f"rate of {options.learning_rate:g}. All are judged on what the network sees: the whole "
        f"picture for detection, else the square in the middle; {sides}. The time is the median of "
        "a run, evaluation included, in the first seed compiling. Blind answers are rows, too.",
    )
    return title, answer(options, rows), figure(options, rows), sections


def line(task: str, start: str, rows: list[Row]) -> list[str]:
    """Of the table."""
    told = [f"{task}, {KINDS[task].called}", start, str(len(rows)), spread(values(rows, "score"))]
    if start not in COLOURS:
        return [*told, "", "", ""]
    time = f"{np.median(values(rows, 'seconds')):.0f} s"
    return [*told, spread(values(rows, "validation")), f"{rows[0]['epochs']:g}", time]


def answer(options: Options, rows: list[Row]) -> str:
    """The sentences that the numbers make."""
    starts, looks = [], []
    for task in options.tasks:
        kind = KINDS[task]
        ours, theirs = ({"task": task, "start": start} for start in (PRETRAINED, SCRATCH))
        told = compared(*pairs(rows, "score", ours, theirs))
        reached = spread(values(rows, "score", **ours))
        starts.append(f"in {task} {kind.called} {reached}, {told}")
        means = {name: values(rows, "score", task=task, start=name)[0] for name in kind.blind}
        best = max(means, key=means.__getitem__)
        scratch = spread(values(rows, "score", **theirs))
        looks.append(f"in {task} {scratch} against {100 * means[best]:.1f} % by the {best}")
    return (
        f"With {options.source}, against a start from scratch: {'; '.join(starts)}. "
        f"From scratch, beside the best answer that does not look: {'; '.join(looks)}."
    )


def figure(options: Options, rows: list[Row]) -> Figure:
    """Bars: the means of each start, with ranges."""
    figure = Figure(figsize=(4.4 * len(options.tasks), 4.4), layout="constrained")
    for axis, task in zip(
        figure.subplots(1, len(options.tasks), squeeze=False)[0], options.tasks, strict=True
    ):
        kind = KINDS[task]
        starts = (*kind.blind, *COLOURS)
        for place, start in enumerate(starts):
            shares = 100 * values(rows, "score", task=task, start=start)
            mean = shares.mean()
            reach = [[mean - shares.min()], [shares.max() - mean]]
            axis.bar(place, mean, color=COLOURS.get(start, BLIND), width=0.7)
            if start in COLOURS:
                axis.errorbar(place, mean, yerr=reach, color="#333333", capsize=4)
            axis.text(place, shares.max() + 1, f"{mean:.1f}", ha="center", fontsize=11)
        axis.set_xticks(range(len(starts)), [textwrap.fill(start, 11) for start in starts])
        axis.set_title(f"{task}: {kind.called}, %", fontsize=12)
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        plain(axis)
    return figure


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
