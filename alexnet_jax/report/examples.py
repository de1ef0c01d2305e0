"""What a task draws of its answers, beside the truth; and its figures class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from alexnet_jax.report import inline
from alexnet_jax.report.elements import section, table
from alexnet_jax.tasks.palette import palette

SIDE = 160  # pixels of a picture: three in a row, and the file stays small


class Example(NamedTuple):
    """An image with truth and answer drawn over it, uint8 [H, W, 3] each; `rank` is "best" or
    "worst", `said` how good the answer is, `task` whose it is where there are several."""

    image: np.ndarray
    truth: np.ndarray
    answer: np.ndarray
    rank: str
    said: str
    name: str
    task: str = ""


def per_class_section(
    per_class: Mapping[str, Mapping[str, float | None]],
    split: str,
    curves: Mapping[str, Sequence[float] | None],
) -> str:
    """A row a class; shares in per cent, whole numbers as they are. `curves` are each class's
    precision at so many values of recall, evenly from 0 to 1."""
    names = list(dict.fromkeys(name for figures in per_class.values() for name in figures))
    rows = [
        [kind, *(_show(figures.get(name)) for name in names)] for kind, figures in per_class.items()
    ]
    parts = [table(["class", *names], rows, f"Split: {split}.")]
    known = {kind: curve for kind, curve in curves.items() if curve}
    if known:
        count = len(next(iter(known.values())))
        header = ["class", *(f"{i / (count - 1):.0%}" for i in range(count))]
        shown = [[kind, *map(_show, curve)] for kind, curve in known.items()]
        parts.append(table(header, shown, "Precision at so much recall."))
    return section("Class by class", *parts)


def examples_section(
    examples: Sequence[Example], key: Mapping[str, Sequence[str]], split: str
) -> str:
    """The best and the worst answers: image, truth and answer in a row; and what colours mean,
    `key` {task: classes}."""
    parts = [f'<p class="soft">Image, truth, answer. Split: {escape(split)}.</p>\n']
    for task, classes in key.items():
        shown = [example for example in examples if example.task == task]
        parts.append(_key(classes) if shown else "")
        for rank in dict.fromkeys(example.rank for example in shown):
            title = " ".join(filter(None, (task, rank))).capitalize()
            parts.append(f'<h3>{escape(title)}</h3>\n<div class="examples">\n')
            parts += [_figure(example) for example in shown if example.rank == rank]
            parts.append("</div>\n")
    return section("Best and worst answers", *parts)


def _figure(example: Example) -> str:
    pixels = ' class="pixels"' if max(example.image.shape[:2]) <= 64 else ""
    images = "".join(
        f'<img{pixels} src="{inline.thumbnail(picture, SIDE)}" alt="{what}">'
        for what, picture in (
            ("image", example.image), ("truth", example.truth), ("answer", example.answer)
        )
    )  # fmt: skip
    name = escape(example.name).replace("/", "/<wbr>")
    return (
        f"<figure><div>{images}</div>"
        f"<figcaption>{escape(example.said)}<small>{name}</small></figcaption></figure>\n"
    )


def _key(classes: Sequence[str]) -> str:
    colours = palette()
    items = "".join(
        f'<span><i style="background:rgb({r},{g},{b})"></i>{escape(name)}</span> '
        for name, (r, g, b) in zip(classes, colours, strict=False)
    )
    return f'<p class="key">{items}</p>\n'


def _show(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.1%}"
