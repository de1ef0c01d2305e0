#!/usr/bin/env python3
"""What does sharing a backbone cost or gain, with two tasks on one network?

    python experiments/multi_task.py                # detection, segmentation, and both at once

Every network makes as many updates on the same batches, with the settings of the recipe
`street-multi`; the losses of both tasks are added as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from answers import Row, chosen, compared, markdown_table, plain, publish, shared, spread, values
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweeping import Sweeping, run_sweep, trained

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Config, Input
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.parts import Parts, make_parts, sample_batch
from alexnet_jax.recipes import recipe
from alexnet_jax.sweep import Outcome

BOTH = "detection+segmentation"
MEASURES = {"detection": ("AP50", "ap50"), "segmentation": ("mean IoU", "mean_iou")}
TASKS = (*MEASURES, BOTH)
COLOURS = {"detection": "#d97a2b", "segmentation": "#3a9a6b", BOTH: "#3f83d1"}
COSTS = ("parameters", "update_ms", "forward_ms")
TIMES = 15  # passes and updates that are timed


@dataclass(frozen=True)
class Options(Sweeping):
    """What does sharing a backbone cost or gain?"""

    data: str = "street/scenes"
    size: int | None = None
    """Side of the pictures in pixels; none for the spec's own."""
    updates: int = 1500
    """At most; fewer where this machine would need longer than `minutes`."""
    minutes: float = 20.0
    batch_size: int = 16
    learning_rate: float = 3e-3
    out: str = "runs/experiments/multi_task"


def main(options: Options) -> None:
    base = base_config(options)
    cases = [{"task": task, "seed": seed} for task in TASKS for seed in range(options.seeds)]
    known: dict[str, Parts] = {}

    def observe(outcome: Outcome) -> dict[str, float]:
        task = outcome.case["task"]
        if task not in known:
            known[task] = make_parts(replace(base, task=task))
        return {} if outcome.diverged_at else costs(known[task], outcome.state)

    how: dict[str, Any] = {"splits": ("test",), "evaluations": 2, "observe": observe}
    rows, updates = run_sweep(options, base, cases, changes, **how)
    publish(Path(options.out), *page(options, rows, updates))


def base_config(options: Options) -> Config:
    """The recipe, trained to the end: with both tasks, the most that a network here has to do."""
    name, size = options.network
    return replace(
        recipe("street-multi"),
        data=options.data,
        spec=name,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        patience=None,
        input=Input(size=size, examples=options.images),
    )


def changes(task: str, seed: int) -> dict[str, Any]:
    return {"task": task, "seed": seed}


def costs(parts: Parts, state: Any) -> dict[str, float]:
    """Parameters, and the milliseconds that a pass and an update take with one batch."""
    batch = sample_batch(parts, "train", parts.config.batch_size)
    images = preprocess(batch, parts.preprocessing)["image"]
    forward = jax.jit(parts.task.net.apply)
    variables = {"params": state.params, **state.model_state}
    kept = [jax.tree.map(jnp.copy, state)]  # a step is given its state for good

    def update() -> Any:
        kept[0], measured = parts.stages[0].step(kept[0], batch)
        return measured

    return {
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "forward_ms": milliseconds(lambda: forward(variables, images)),
        "update_ms": milliseconds(update),
    }


def milliseconds(run: Callable[[], Any]) -> float:
    """The median of some runs, after one that compiles; on a CPU those of all cores together, which
    tell little of what else the machine does."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    jax.block_until_ready(run())
    times = []
    for _ in range(TIMES):
        start = clock()
        jax.block_until_ready(run())
        times.append(1e3 * (clock() - start))
    return round(float(np.median(times)), 3)


def shares(rows: Sequence[Row], task: str, among: str) -> dict[int, float]:
    """{seed: a task's measure in the test}, of the networks for `among`."""
    name = MEASURES[task][1]
    name = f"test/{name}" if among == task else f"test/{task}/{name}"
    return {row["seed"]: row[name] for row in chosen(trained(rows), task=among)}


def gain(rows: Sequence[Row], task: str) -> str:
    """The task's measure in the shared network against that in its own, seed by seed."""
    return compared(*shared(shares(rows, task, BOTH), shares(rows, task, task)))


def mean(rows: Sequence[Row], name: str, task: str) -> float:
    return float(values(trained(rows), name, task=task).mean())


def told(numbers: np.ndarray) -> str:
    """Milliseconds, as "12.3 (12.0 to 12.9)"."""
    text = f"{numbers.mean():.1f}"
    return text + (f" ({numbers.min():.1f} to {numbers.max():.1f})" if len(numbers) > 1 else "")


def page(options: Options, rows: list[Row], updates: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "What does sharing a backbone cost or gain?"
    lost = len(rows) - len(trained(rows))
    if not all(chosen(trained(rows), task=task) for task in TASKS):
        answer = "Nothing is shown: of one of the networks that are compared every one diverged."
        return title, answer, Figure(), ()
    lines = []
    for among in TASKS:
        found = [shares(rows, t, among) if t in among.split("+") else {} for t in MEASURES]
        times = [told(values(trained(rows), x, task=among)) for x in COSTS[1:]]
        lines.append([
            among.replace("+", " and "),
            *(spread(np.array(list(seeds.values()))) for seeds in found),
            f"{mean(rows, 'parameters', among):,.0f}",
            *times,
        ])  # fmt: skip
    two = [sum(mean(rows, name, task) for task in MEASURES) for name in COSTS]
    lines.append(["one network each", "", "", f"{two[0]:,.0f}", f"{two[1]:.1f}", f"{two[2]:.1f}"])
    measures = [name for name, _ in MEASURES.values()]
    header = ["network for", *measures, "parameters", "update, ms", "forward, ms"]
    sections = (
        f"In the test after the last update, mean and range of {options.seeds} initializations"
        + (f", of which {lost} networks diverged" if lost else "")
        + f"; milliseconds of an update and of a forward pass, {options.batch_size} pictures each "
        f"(medians of {TIMES}; on a CPU its own time, not the clock's). The last line adds up the "
        "first two:",
        markdown_table(header, lines),
        "The shared network against one of the same seed for the task alone:",
        markdown_table(
            ["task", "measure", "the shared one has"],
            [[task, name, gain(rows, task)] for task, (name, _) in MEASURES.items()],
        ),
        f"Every network makes {updates} updates of {options.batch_size} pictures of "
        f"{options.data}, in the same order for a seed: AdamW at {options.learning_rate:g}, batch "
        "normalization, and heads as the recipe `street-multi` has them. Both losses count once. "
        "Nothing is chosen by looking at the test. Training is short: it compares, and does not "
        "show what each can reach.",
    )
    return title, answer_of(rows), figure(rows), sections


def answer_of(rows: Sequence[Row]) -> str:
    """The sentences that the numbers make."""
    changed = "; ".join(f"{name} {gain(rows, task)}" for task, (name, _) in MEASURES.items())
    both, two = (
        [sum(mean(rows, name, task) for task in tasks) for name in COSTS]
        for tasks in ((BOTH,), MEASURES)
    )
    size, update, forward = (
        f"{100 * one / sum_:.0f} %" for one, sum_ in zip(both, two, strict=True)
    )
    return (
        f"One network for both tasks against one for each, after as many updates: {changed}. It "
        f"has {size} of the parameters of the two, an update takes {update} of the time of theirs, "
        f"a forward pass {forward}."
    )


def figure(rows: Sequence[Row]) -> Figure:
    """Each measure alone and shared, seed by seed; and what a pass takes."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    *measures, times = figure.subplots(1, 3)
    for axis, (task, (name, _)) in zip(measures, MEASURES.items(), strict=True):
        alone, both = (shares(rows, task, among) for among in (task, BOTH))
        pairs = zip(*shared(alone, both), strict=True)
        for pair in pairs:
            axis.plot([0, 1], 100 * np.array(pair), "-", color="#7a8699", lw=1.4, alpha=0.7)
        for place, found in enumerate((alone, both)):
            colour = COLOURS[(task, BOTH)[place]]
            axis.plot([place] * len(found), 100 * np.array([*found.values()]), "o", color=colour,
                      ms=9)  # fmt: skip
        axis.set_xticks([0, 1], [f"{task} alone", "shared"], fontsize=12)
        axis.set_xlim(-0.4, 1.4)
        axis.set_title(f"{name} in the test, %", fontsize=13)
        plain(axis)
    stacked(times, rows)
    return figure


def stacked(axis: Axes, rows: Sequence[Row]) -> None:
    """Milliseconds of a forward pass: the two networks on top of each other, and the shared one."""
    below = 0.0
    for task in MEASURES:
        height = mean(rows, "forward_ms", task)
        axis.bar(0, height, 0.55, bottom=below, color=COLOURS[task], label=task)
        below += height
    axis.bar(1, mean(rows, "forward_ms", BOTH), 0.55, color=COLOURS[BOTH], label="both at once")
    axis.set_xticks([0, 1], ["one network each", "shared"], fontsize=12)
    axis.set_title("forward pass, ms", fontsize=13)
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])
    axis.legend(frameon=False, fontsize=11, loc="upper right")
    plain(axis)


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
