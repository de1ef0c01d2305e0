"""What the benchmarks share: taking turns, ratios with their spread, tables, places for tables.

What slows a shared machine for a minute slows everything in that minute. So whatever is compared
takes turns, and what counts is the ratio within a round; the median of the rounds is reported, with
the smallest and the largest.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[int], None]  # does that many steps, and returns when they are done
Turn = Callable[[int], float]  # does that many steps, and returns the seconds that they took
Columns = Sequence[tuple[str, str, str]]  # (heading, key of the row, format)

# The table of all kinds of rows: `ours`, in `unit`, beside something else where there is such.
BESIDE: Columns = (
    ("what", "what", ""),
    ("ours", "ours", ".4g"),
    ("beside", "against", ".4g"),
    ("unit", "unit", ""),
    ("ratio", "ratio", ".4g"),
    ("spread", "spread", ""),
    ("n", "rounds", ""),
    ("aim", "aim", ""),
)

PLACE = "<!-- measured: {name} -->\n(?:(?!<!-- measured:).)*?<!-- end -->"

# PyTorch's threads wait for each other by spinning, so it loses more than we do on a busy machine.
BUSY = "other programs are running: ratios to PyTorch will flatter us; measure on a quiet machine"


def warn_if_busy() -> float:
    """The load average of the last minute; says on stderr that it is too high to measure."""
    load = os.getloadavg()[0]
    if load > 0.3:
        print(f"{BUSY} (load average {load:.1f})", file=sys.stderr, flush=True)
    return load


def repeated(step: Callable, state: Any, batch: Any) -> Run:
    """A compiled step of jax, (state, batch) -> (state, metrics), again and again on one batch.

    The given state may be donated.
    """
    import jax

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def timed(run: Run) -> Turn:
    """A turn of `run`: one step that does not count, since after a wait caches have to fill again,
    then the steps.
    """

    def turn(steps: int) -> float:
        run(1)
        began = time.perf_counter()
        run(steps)
        return time.perf_counter() - began

    return turn


def take_turns(turns: Mapping[str, Turn], *, rounds: int, steps: int) -> dict[str, list[float]]:
    """{name: seconds of its turn in each round}. A round before them only compiles and warms up.

    Each goes first in turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took = turns[name](steps)
            if number >= 0:
                seconds[name].append(took)
    return seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Of ours / theirs, round by round: {"ratio": median, "ratio_min", "ratio_max", "spread"}."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "ratio": statistics.median(each),
        "ratio_min": min(each),
        "ratio_max": max(each),
        "spread": spread(each),
    }


def spread(values: Sequence[float]) -> str:
    """From the smallest to the largest, in words."""
    return f"{min(values):.4g} to {max(values):.4g}"


# ---- what is written ----------------------------------------------------------------------------


def heading(columns: Columns) -> str:
    """The two lines that begin a table in Markdown."""
    return f"| {' | '.join(name for name, _, _ in columns)} |\n|{' --- |' * len(columns)}"


def as_line(columns: Columns, row: Mapping[str, Any]) -> str:
    """A row of the table; what a row has no value for stays empty."""
    values = ((row.get(key), form) for _, key, form in columns)
    return f"| {' | '.join('' if v is None else format(v, form) for v, form in values)} |"


def table(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole table in Markdown, without a line's end after it."""
    return "\n".join([heading(columns), *(as_line(columns, row) for row in rows)])


def places(text: str) -> list[str]:
    """The names of the tables that a document has a place for.

    A place is a line `<!-- measured: NAME -->` and, further down, a line `<!-- end -->`. Raises
    ValueError where the second is missing.
    """
    names = re.findall(PLACE.format(name=r"(\w+)"), text, re.S)
    if len(names) != text.count("<!-- measured:"):
        raise ValueError(
            "a place that begins with `<!-- measured: NAME -->` has no line `<!-- end -->`: add it"
        )
    return names


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The document with each table in its place; tables without one are left out."""
    for name in set(places(text)) & set(tables):
        new = f"<!-- measured: {name} -->\n\n{tables[name]}\n\n<!-- end -->"
        text = re.sub(PLACE.format(name=name), lambda _, new=new: new, text, flags=re.S)
    return text


def write_json(path: Path | None, value: Any) -> None:
    """Write it, making the folder; where there is no path, nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
