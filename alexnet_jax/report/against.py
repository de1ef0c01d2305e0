"""Another run, read from its folder, to be shown beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alexnet_jax.train.run import METRICS, RunFolder


class OtherRun(NamedTuple):
    """A run by the name that it was given; `results` is its results.json, empty before its end."""

    name: str
    rows: Sequence[Mapping[str, float]]
    results: Mapping[str, Any] = {}


def read_run(path: str) -> OtherRun:
    """What the run in folder `path` has measured; nothing is computed.

    Raises FileNotFoundError where there is no run, ValueError where it has no evaluation yet or
    its files are not those of a run.
    """
    folder = Path(path).expanduser()
    what = f"transfer.against is {path!r}"
    expected = f"expected the folder of a run, such as runs/street, with a {METRICS}"
    if not (folder / METRICS).is_file():
        lacks = f"has no {METRICS}" if folder.is_dir() else "does not exist"
        raise FileNotFoundError(f"{what}, which {lacks}; {expected}: train that run first")
    run = RunFolder(folder)
    try:
        rows = run.read()
        results = run.read_json("results.json") if (folder / "results.json").exists() else {}
    except ValueError as error:
        raise ValueError(f"{what}, which cannot be read ({error}); {expected}") from error
    if not rows or "epoch" not in rows[0]:
        lacks = "column `epoch`" if rows else "evaluation in it yet"
        raise ValueError(f"{what}, whose {METRICS} has no {lacks}; {expected}")
    return OtherRun(path, rows, results)
