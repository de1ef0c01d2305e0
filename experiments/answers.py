"""What every experiment leaves behind: results.json, a figure, and a page of Markdown.

A row is one trained network: what was varied, by name, and what came out. Rows are written as they
come, so that an experiment that was killed goes on with those that are missing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.train.environment import environment

Row = dict[str, Any]


def collect(
    folder: Path,
    settings: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
    measure: Callable[..., Mapping[str, Any]],
) -> list[Row]:
    """The rows {**case, **measure(**case)} of all cases, in order; those on disk are not repeated.

    `settings` are all that the rows depend on besides their case. Raises ValueError where the
    folder holds rows of other settings.
    """
    return collect_all(
        folder, settings, cases, lambda missing: enumerate(measure(**case) for case in missing)
    )


def collect_all(
    folder: Path,
    settings: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
    measure: Callable[[list[Mapping[str, Any]]], Iterable[tuple[int, Mapping[str, Any]]]],
) -> list[Row]:
    """The same where `measure` is given all missing cases, and yields (which of them, outcome)."""
    path = folder / "results.json"
    settings = json.loads(json.dumps(settings))
    known: list[Row] = []
    if path.exists():
        results = json.loads(path.read_text())
        if results["settings"] != settings:
            raise ValueError(
                f"{path} was measured with other settings, {results['settings']}; "
                "give another --out, or delete it"
            )
        known = results["rows"]
    found = [next((row for row in known if case.items() <= row.items()), None) for case in cases]
    others = [row for row in known if row not in found]
    missing = [i for i, row in enumerate(found) if row is None]
    began = start = time.monotonic()
    for done, (which, outcome) in enumerate(measure([cases[i] for i in missing]), 1):
        now = time.monotonic()
        row = {**cases[missing[which]], **outcome, "seconds": round(now - start, 2)}
        found[missing[which]], start = row, now
        rows = [row for row in found if row is not None] + others
        _write(path, {"settings": settings, "environment": environment(), "rows": rows})
        left = timedelta(seconds=round((now - began) / done * (len(missing) - done)))
        told = ", ".join(f"{k} {_short(v)}" for k, v in row.items() if not isinstance(v, dict))
        print(f"{len(cases) - len(missing) + done}/{len(cases)}  {told}; {left} left")
    return [row for row in found if row is not None]


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of the rows that a folder holds already; {} where there are none."""
    path = folder / "results.json"
    return json.loads(path.read_text())["settings"] if path.exists() else {}


def chosen(rows: Iterable[Row], **case: Any) -> list[Row]:
    """The rows of a case."""
    return [row for row in rows if case.items() <= row.items()]


def values(rows: Iterable[Row], name: str = "accuracy", **case: Any) -> np.ndarray:
    """One outcome of the rows of a case, float64 [n], in their order."""
    return np.array([row[name] for row in chosen(rows, **case)], float)


def spread(shares: np.ndarray) -> str:
    """Shares as "81.2 % (79.0 to 83.1)": mean and range."""
    shares = 100 * np.asarray(shares)
    if not len(shares):
        return ""
    mean = f"{shares.mean():.1f} %"
    return mean if len(shares) == 1 else f"{mean} ({shares.min():.1f} to {shares.max():.1f})"


def difference(first: np.ndarray, second: np.ndarray) -> str:
    """Pairs of shares as "12.3 points more (8.0 to 15.1, n = 5)"."""
    points = 100 * (first - second)
    direction = "more" if points.mean() >= 0 else "fewer"
    points = points if direction == "more" else -points
    low, high = points.min(), points.max()
    return f"{points.mean():.1f} points {direction} ({low:.1f} to {high:.1f}, n = {len(points)})"


def direction(first: np.ndarray, second: np.ndarray) -> int:
    """1 where the first share is larger in every pair, -1 where it is smaller, 0 where that is not
    shown: by no single pair, nor by less than the 0.1 points that are told."""
    points = np.round(100 * (first - second), 1)
    signs = set(np.sign(points))
    return int(signs.pop()) if len(signs) == 1 and len(points) > 1 else 0


def compared(first: np.ndarray, second: np.ndarray) -> str:
    """`difference` where one is shown; else that none is, and what was seen."""
    if not len(first):
        return "no difference shown (nothing to compare)"
    if direction(first, second):
        return difference(first, second)
    points = np.round(100 * (first - second), 1)
    return (
        f"no difference shown ({points.mean():+.1f} points, "
        f"{points.min():.1f} to {points.max():.1f}, n = {len(points)})"
    )


@dataclass(frozen=True)
class Chance:
    """What guessing gets right, and from where on a share of `count` images is told from it."""

    share: float
    count: int

    @property
    def limit(self) -> float:
        """Two standard errors above it."""
        return self.share + 2 * math.sqrt(self.share * (1 - self.share) / self.count)


def survivors(shares: Mapping[int, float], count: int) -> str:
    """The spread of {seed: share} of those of `count` networks that did not diverge, in words."""
    if not shares:
        return "diverged"
    lost = count - len(shares)
    told = spread(np.array(list(shares.values())))
    return told + (f", {lost} of {count} diverged" if lost else "")


def shared(
    first: Mapping[int, float], second: Mapping[int, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The shares of two {seed: share}, float64 [n] each, of the seeds that both have."""
    seeds = sorted(set(first) & set(second))
    return tuple(np.array([each[seed] for seed in seeds], float) for each in (first, second))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> str:
    """`compared` for the seeds that both {seed: share} have; "" where there are none."""
    ours, theirs = shared(first, second)
    return compared(ours, theirs) if len(ours) else ""


def pairs(
    rows: Iterable[Row], name: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """One outcome of two cases, seed by seed, float64 [n] each: of the seeds that have both."""
    return shared(
        *({row["seed"]: row[name] for row in chosen(rows, **case)} for case in (first, second))
    )


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left."""
    rows = [header, [":--", *["--:"] * (len(header) - 1)], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plain(axis: Axes) -> None:
    """A faint grid, and no frame above or to the right."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def publish(folder: Path, title: str, answer: str, figure: Figure, sections: Sequence[str]) -> None:
    """Write README.md and figure.png beside results.json, and print the answer."""
    results = json.loads((folder / "results.json").read_text())
    facts, seconds = results["environment"], sum(row["seconds"] for row in results["rows"])
    figure.savefig(folder / "figure.png", dpi=110)
    cores = "1 core" if facts["cores"] == 1 else f"{facts['cores']} cores"
    how = (
        f"`{facts['command']}`: {len(results['rows'])} networks, "
        f"{timedelta(seconds=round(seconds))} in all, on {facts['cpu']}, {cores}, "
        f"jax {facts['versions']['jax']} on {facts['backend']}. Every row is in "
        "[results.json](results.json)."
    )
    page = [f"# {title}", answer, "![The answer as a figure](figure.png)", *sections, how]
    _write_text(folder / "README.md", "\n\n".join(page) + "\n")
    print(f"\n{answer}\n{folder / 'README.md'}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(path: Path, results: Mapping[str, Any]) -> None:
    head = {name: value for name, value in results.items() if name != "rows"}
    rows = ",\n".join(json.dumps(row) for row in results["rows"])
    text = json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n]}}\n'
    _write_text(path, text)


def _write_text(path: Path, text: str) -> None:
    """All or nothing: a kill leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
