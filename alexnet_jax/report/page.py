"""One run as one HTML file that opens anywhere, without a network: `page(RunSummary) -> str`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.report import inline, plots
from alexnet_jax.report.elements import bullets, commands, figure, flat, section, table
from alexnet_jax.report.examples import Example, examples_section, per_class_section
from alexnet_jax.report.matrix import matrix
from alexnet_jax.report.style import CSS
from alexnet_jax.report.transfer import TransferSummary, transfer_section

SHOWN_MISTAKES, SHOWN_ROWS, SHOWN_NAMES = 24, 200, 50  # keep the file below 2 MB

# What begins so is told in per cent.
SHARES = ("top", "mean_iou", "pixel_accuracy", "ap", "pck", "pdj", "pcp")

REASONS = {
    "PATIENCE_EXHAUSTED": "no improvement of {monitor}{patience}",
    "THRESHOLD_REACHED": "{monitor} reached its threshold",
    "NON_FINITE": "{monitor} or the training loss was not finite",
    "INTERRUPTED": "interrupted; the same command goes on from here",
}


class Mistake(NamedTuple):
    """A wrong answer: the image uint8 [H, W, 3], class indices, the probability of the answer."""

    image: np.ndarray
    true: int
    predicted: int
    probability: float
    name: str


@dataclass(frozen=True)
class RunSummary:
    """All that the report tells; nothing is read from files or computed by a model.

    `rows` are those of metrics.csv. `results` has the best checkpoint's metrics a split, such as
    {"test": {"loss": .., "top1": .., "correct": .., "count": ..}}; `confusion` int [K, K] (true,
    predicted), `per_class`, `precision_at_recall`, `mistakes` (worst first) and `examples` are
    those of `split`, as the task brings them (tasks/base.py, `findings`); `unit` is what the matrix
    counts, `metric` the task's main one, `key` {task: classes in the order of their colours}, the
    task being "" where there is one. `stop_reason` is an early stopping reason, "INTERRUPTED",
    "COMPLETED" (all epochs done), or any text. `conv1` is the first kernel [h, w, 3, n],
    `parameters` the rule table as text. `transfer` is there where the run began with given
    parameters, froze some, or is compared with another.
    """

    title: str
    monitor: str
    stop_reason: str
    last_step: int
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]] = ()
    epochs: float | None = None
    patience: int | None = None
    best_step: int | None = None
    best_epoch: float | None = None
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metric: str = "top1"
    unit: str = "examples"
    classes: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    mistakes: Sequence[Mistake] = ()
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    precision_at_recall: Mapping[str, Sequence[float] | None] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    key: Mapping[str, Sequence[str]] = field(default_factory=dict)
    conv1: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    bad_images: tuple[str, ...] = ()
    parameters: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    transfer: TransferSummary | None = None

    @property
    def split(self) -> str:
        """The split that judges the run: test where there is one."""
        return "test" if "test" in self.results else "validation"


def page(run: RunSummary) -> str:
    """The report as a complete HTML document. Every text of the run is escaped."""
    sections = (
        _results(run), _curves(run), _transfer(run), _per_class(run), _examples(run),
        _confusion(run), _mistakes(run), _filters(run), _notes(run), _commands(run), _setup(run),
    )  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(run.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(run.title)}</h1>\n<p class="lead">{escape(sentence(run))}</p>\n'
        f"{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def sentence(run: RunSummary) -> str:
    """How the run ended and how good it is, as one would tell a colleague."""
    over = run.epochs is None or (run.rows and run.rows[-1]["epoch"] >= run.epochs + 1)
    of = "" if over else f" of {run.epochs:g}"  # fewer may be asked for than are done already
    where = f"epoch {run.rows[-1]['epoch']:g}{of}" if run.rows else f"step {run.last_step}"
    patience = "" if run.patience is None else f" for {_plural(run.patience, 'evaluation')}"
    if run.stop_reason == "COMPLETED":
        ending = f"Trained to the end, {where}."
    else:
        reason = REASONS.get(run.stop_reason, run.stop_reason)
        reason = reason.replace("{monitor}", run.monitor).replace("{patience}", patience)
        ending = f"Stopped after {where}: {reason}."
    if not run.rows:
        return f"{ending} No evaluation was made."
    if run.best_step is None:
        return f"{ending} No checkpoint is the best one: {run.monitor} was never finite."
    epoch = f"step {run.best_step}" if run.best_epoch is None else f"epoch {run.best_epoch:g}"
    result = run.results.get(run.split)
    if not result:
        return f"{ending} The best checkpoint is that of {epoch}."
    split = f"the {run.split} split"
    split += "" if run.split == "test" else " (validation, used for stopping: no test split)"
    metric = _metric(run)
    if counted := _counted(result):
        share, (correct, count) = 100 * counted[0] / counted[1], counted
        gets = f"gets {share:.1f} % of {split} right ({correct} of {count})"
    else:
        gets = f"reaches {metric} {_show(result.get(metric, math.nan), metric)} on {split}"
    return f"{ending} The best checkpoint ({epoch}) {gets}."


def interval(correct: int, count: int) -> tuple[float, float]:
    """95 % interval of a share after Wilson (1927): holds for few examples and near 0 and 1."""
    z = 1.959964
    share, weight = correct / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / weight
    reach = z / weight * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _results(run: RunSummary) -> str:
    if not run.results:
        return ""
    names = list(dict.fromkeys(name for result in run.results.values() for name in result))
    with_interval = any(_counted(result) for result in run.results.values())
    rows = []
    for split, result in run.results.items():
        note = " (used for stopping)" if split == "validation" else ""
        cells = [split + note, *(_show(result.get(name), name) for name in names)]
        if with_interval:
            counted = _counted(result)
            low, high = interval(*counted) if counted else (math.nan, math.nan)
            cells.append(f"{100 * low:.1f} to {100 * high:.1f} %" if counted else "")
        rows.append(cells)
    header = ["split", *names] + ["correct, 95 % interval"] * with_interval
    step = "" if run.best_step is None else f" (step {run.best_step})"
    text = f"The best checkpoint{step}, evaluated on whole splits; each example counts once."
    return section("Results", table(header, rows, text))


def _curves(run: RunSummary) -> str:
    if not run.rows:
        return ""
    stopped = None if run.stop_reason == "COMPLETED" else run.stop_reason
    curves = plots.learning_curves(run.rows, _metric(run), run.best_epoch, stopped)
    shown = run.rows[-SHOWN_ROWS:]
    names = list(dict.fromkeys(name for row in shown for name in row))
    numbers = table(names, [[_show(row.get(name)) for name in names] for row in shown])
    last = f"the last {len(shown)} of " if len(shown) < len(run.rows) else ""
    return section(
        "Learning curves",
        figure(inline.svg(curves), f"Loss and {_metric(run)} over the epochs", kind="full"),
        f"<details><summary>Numbers: {last}{_plural(len(run.rows), 'evaluation')}</summary>\n"
        f"{numbers}</details>\n",
    )


def _transfer(run: RunSummary) -> str:
    return "" if run.transfer is None else transfer_section(run.transfer, run.rows, _metric(run))


def _confusion(run: RunSummary) -> str:
    if run.confusion is None or not len(run.classes):
        return ""
    parts = [matrix(run.confusion, run.classes, f"Split: {run.split}.", run.unit)]
    absent = [
        name for name, row in zip(run.classes, np.asarray(run.confusion), strict=True)
        if not row.sum()
    ]  # fmt: skip
    if absent:
        unit = run.unit.removesuffix("s")
        parts.append(f'<p class="warn">No {unit} of: {escape(_some(absent))}.</p>\n')
    return section("Which classes are taken for which", *parts)


def _per_class(run: RunSummary) -> str:
    if not run.per_class:
        return ""
    return per_class_section(run.per_class, run.split, run.precision_at_recall)


def _examples(run: RunSummary) -> str:
    return examples_section(run.examples, run.key, run.split) if run.examples else ""


def _mistakes(run: RunSummary) -> str:
    if not run.mistakes:
        return ""
    items = []
    for mistake in run.mistakes[:SHOWN_MISTAKES]:
        true, predicted = run.classes[mistake.true], run.classes[mistake.predicted]
        pixels = ' class="pixels"' if max(mistake.image.shape[:2]) <= 64 else ""
        name = escape(mistake.name).replace("/", "/<wbr>")
        items.append(
            f'<figure><img{pixels} src="{inline.thumbnail(mistake.image)}" alt="{escape(true)}">'
            f"<figcaption>{escape(true)} → <b>{escape(predicted)}</b> ({mistake.probability:.2f})"
            f"<small>{name}</small></figcaption></figure>\n"
        )
    text = f"Surest first: true → <b>predicted</b> (its probability). Split: {run.split}."
    return section(
        "Worst mistakes",
        f'<p class="soft">{text}</p>\n<div class="mistakes">\n',
        *items,
        "</div>\n",
    )


def _filters(run: RunSummary) -> str:
    if run.conv1 is None:
        return ""
    height, width, _, number = run.conv1.shape
    caption = f"{number} kernels of {height} × {width}, each stretched to its own range."
    source = inline.data_uri(inline.png(plots.filters(run.conv1)))
    image = f'<img src="{source}" alt="First-layer kernels">'
    return section("What the first layer looks for", figure(image, caption=caption))


def _notes(run: RunSummary) -> str:
    parts = [bullets(run.notes)] if run.notes else []
    if run.bad_images:
        count = _plural(len(run.bad_images), "image")
        parts.append(f'<p class="warn">{count} could not be read and did not count:</p>\n')
        parts.append(bullets(run.bad_images[:SHOWN_NAMES]))
        if len(run.bad_images) > SHOWN_NAMES:
            parts.append(f"<p>and {len(run.bad_images) - SHOWN_NAMES} more</p>\n")
    return section("Notes", *parts) if parts else ""


def _commands(run: RunSummary) -> str:
    return section("How to go on", commands(run.commands)) if run.commands else ""


def _setup(run: RunSummary) -> str:
    tables = [
        f"<div><h3>{title}</h3>\n{table((), flat(facts), texts=2)}</div>\n"
        for title, facts in (("Configuration", run.config), ("Environment", run.environment))
        if facts
    ]
    parts = ['<div class="columns">\n', *tables, "</div>\n"] if tables else []
    if run.parameters:
        parts.append(f"<h3>Parameters</h3>\n<pre>{escape(run.parameters)}</pre>\n")
    return section("Setup", *parts) if parts else ""


def _metric(run: RunSummary) -> str:
    """What is drawn next to the loss: the monitored metric, the task's where that is the loss."""
    name = run.monitor.partition("/")[2]
    return run.metric if name == "loss" else name


def _counted(result: Mapping[str, float]) -> tuple[int, int] | None:
    correct, count = result.get("correct"), result.get("count")
    return None if correct is None or not count else (int(correct), int(count))


def _show(value: float | None, name: str = "") -> str:
    if value is None:
        return ""
    if name.rpartition("/")[2].startswith(SHARES) and math.isfinite(value):
        return f"{100 * value:.2f} %"
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")
