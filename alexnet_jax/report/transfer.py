"""The report's section on transfer: where the parameters came from, which of them were trained, and
what that gained over a run from scratch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.optim.rules import Row
from alexnet_jax.report import inline, plots
from alexnet_jax.report.against import OtherRun
from alexnet_jax.report.elements import commands, figure, section, table
from alexnet_jax.report.matrix import matrix

SHOWN = 20  # names of classes that are listed
LABELS = {
    "from": "parameters of",
    "data": "trained on",
    "spec": "network",
    "classes": "classes",
    "best": "its best",
    "notes": "notes",
}


@dataclass(frozen=True)
class TransferSummary:
    """What the section tells, besides the run's own curve.

    `source` is init.json, as `restored.Given.about` has it with what was `said`; empty for a run
    without given parameters. `stages` are (number of the first update, rule table) in order.
    `results` is this run's results.json. `commands` make a run to compare with, where `against`
    is None.
    """

    source: Mapping[str, Any]
    stages: Sequence[tuple[int, Sequence[Row]]]
    results: Mapping[str, Any]
    against: OtherRun | None = None
    commands: Mapping[str, str] = field(default_factory=dict)


class Layer(NamedTuple):
    """A layer's number of parameters, how many of them each stage freezes, and the multipliers of
    the learning rate that those have which are trained at some time."""

    name: str
    parameters: int
    frozen: tuple[int, ...]
    lr_mults: tuple[float, ...]


def layers(stages: Sequence[Sequence[Row]]) -> list[Layer]:
    """The layers of the rule tables of all stages, conv1 first and the head last."""
    rows: dict[str, list[tuple[Row, ...]]] = {}
    for row in zip(*stages, strict=True):
        rows.setdefault(row[0].name.split("/")[-2], []).append(row)

    def place(name: str) -> tuple[bool, list[int], str]:
        numbers = [int(digits) for digits in re.findall(r"\d+", name)]
        return not numbers, numbers, name  # conv1, norm1, conv2, ..., head

    return [
        Layer(
            name,
            sum(_size(row[0]) for row in rows[name]),
            tuple(
                sum(_size(row[stage]) for row in rows[name] if row[stage].frozen)
                for stage in range(len(stages))
            ),
            tuple(sorted({r.lr_mult for row in rows[name] for r in row if not r.frozen})),
        )
        for name in sorted(rows, key=place)
    ]


def transfer_section(
    transfer: TransferSummary, rows: Sequence[Mapping[str, float]], metric: str
) -> str:
    """The section as HTML. `rows` are the run's own metrics.csv, `metric` what is compared."""
    return section(
        "Transfer",
        _source(transfer.source),
        _trained(transfer),
        _curves(transfer, rows, metric),
        _matrices(transfer),
    )


def _source(source: Mapping[str, Any]) -> str:
    if not source:
        return "<p>No parameters were given: all began at their initialization.</p>\n"
    facts = [(LABELS[name], _fact(source[name])) for name in LABELS if source.get(name)]
    said, *notes = source.get("said", "").splitlines() or [""]
    parts = [table((), facts, texts=2)]
    parts += [f"<p>{escape(said)}.</p>\n"] if said else []
    parts += [f'<p class="warn">{escape(note)}</p>\n' for note in notes]
    return "".join(parts)


def _fact(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number:.5g}" for name, number in value.items())
    more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
    return f"{len(value)}: {', '.join(value[:SHOWN])}{more}"


def _trained(transfer: TransferSummary) -> str:
    found = layers([rows for _, rows in transfer.stages])
    header = ["layer", *(_stage(transfer, number) for number in range(len(transfer.stages)))]
    texts = len(header)
    header.append("parameters")
    multiplied = any(layer.lr_mults not in ((), (1.0,)) for layer in found)
    header += ["learning rate ×"] * multiplied
    lines = [
        [
            layer.name,
            *(_state(frozen, layer.parameters) for frozen in layer.frozen),
            f"{layer.parameters:,}",
            *[" and ".join(f"{mult:g}" for mult in layer.lr_mults)] * multiplied,
        ]
        for layer in found
    ]
    total = sum(layer.parameters for layer in found)
    frozen = [sum(counts) for counts in zip(*(layer.frozen for layer in found), strict=True)]
    lines.append(
        ["all", *(f"{n:,} of {total:,} frozen" for n in frozen), f"{total:,}", *[""] * multiplied]
    )
    return (
        "<h3>What was trained</h3>\n"
        f'<div class="layers">{table(header, lines, texts=texts)}</div>\n'
    )


def _stage(transfer: TransferSummary, number: int) -> str:
    """The heading of a stage's column."""
    if len(transfer.stages) == 1:
        return "in training"
    begin, last = transfer.stages[number][0], transfer.results["last_step"]
    return f"from step {begin} on" + (" (not reached)" if begin > last else "")


def _state(frozen: int, parameters: int) -> str:
    if frozen in (0, parameters):
        return "frozen" if frozen else "trained"
    return f"{frozen:,} of {parameters:,} frozen"


def _curves(transfer: TransferSummary, rows: Sequence[Mapping[str, float]], metric: str) -> str:
    title, column = "<h3>Against a run from scratch</h3>\n", f"validation/{metric}"
    other = transfer.against
    if other is None:
        return (
            f"{title}<p>There is no run to compare with. The first command trains one; the second "
            "draws this report anew with both, and evaluates nothing again.</p>\n"
            + commands(transfer.commands)
        )
    if not any(column in row for row in other.rows):
        return f'{title}<p class="warn">{escape(other.name)} has no {escape(column)}.</p>\n'
    curves = plots.comparison([("this run", rows), (other.name, other.rows)], column)
    return title + figure(inline.svg(curves), f"{column} of both runs", kind="full")


def _matrices(transfer: TransferSummary) -> str:
    other, own = transfer.against, transfer.results
    if other is None:
        return ""
    if "confusion" not in own:  # answers of this task are not taken for one another
        return ""
    if why := incomparable(own, other.results):
        return f'<p class="warn">No confusion matrix of {escape(other.name)}: {escape(why)}.</p>\n'
    pair = _matrix("This run", own["confusion"]) + _matrix(other.name, other.results["confusion"])
    if len(own["confusion"]["classes"]) > plots.COUNTED_CLASSES:
        return pair  # one below the other: each needs the width
    return f'<div class="columns">\n{pair}</div>\n'


def incomparable(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Why the matrices of two results.json are not of the same images; empty where they are."""
    if not other:
        return "that run is not finished"
    if "confusion" not in other:
        return "an earlier version finished that run; its own command adds the matrix"
    if other["confusion"]["classes"] != own["confusion"]["classes"]:
        return f"its classes are {_fact(other['confusion']['classes'])}"
    if other["confusion"]["split"] != own["confusion"]["split"]:
        return f"its matrix is of the {other['confusion']['split']} split"
    if other["data"] != own["data"]:
        return f"it was judged on other images, those of {other['data']['name']}"
    return ""


def _matrix(name: str, confusion: Mapping[str, Any]) -> str:
    counts = np.asarray(confusion["counts"])
    unit = confusion.get("unit", "examples")
    of = f" {unit}" if unit != "examples" else ""
    right = f"{name}: {int(np.trace(counts))} of {int(counts.sum())}{of} right."
    return matrix(counts, confusion["classes"], f"{right} Split: {confusion['split']}.", unit)


def _size(row: Row) -> int:
    return 0 if row.shape is None else math.prod(row.shape)
