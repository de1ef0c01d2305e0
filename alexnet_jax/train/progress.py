"""How far a run is: a bar with the time left on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any


def describe(step: int, total: int, started_at: int, seconds: float, text: str) -> str:
    """`step 300/1000 (30.0 %), 25.0 steps/s, 0:00:28 left; text`.

    The rate is that of the steps since `started_at` (a resumed run's first step), which took
    `seconds`; without any the rate and the time left are left out.
    """
    parts = [f"step {step}/{total} ({100 * step / max(total, 1):.1f} %)"]
    if step > started_at and seconds > 0:
        rate = (step - started_at) / seconds
        parts.append(f"{rate:.3g} steps/s")
        parts.append(f"{timedelta(seconds=round((total - step) / rate))} left")
    return ", ".join(parts) + (f"; {text}" if text else "")


class Progress:
    """Shows `update(step, text)` up to `total`; a context manager.

    With `enabled` false nothing is shown. Where the output is no terminal, or rich is missing,
    it prints a plain line, at most one every `every` seconds: logs stay readable.
    """

    def __init__(
        self, total: int, enabled: bool = True, *, start: int = 0, every: float = 30.0
    ) -> None:
        self.total, self.enabled, self.start, self.every = total, enabled, start, every
        self._began = self._shown = time.monotonic()
        self._bar: Any = _bar() if enabled and sys.stdout.isatty() else None
        if self._bar is not None:
            self._row = self._bar.add_task("", total=total, completed=start)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, text: str = "") -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._row, completed=step, description=text)
        elif self.enabled and now - self._shown >= self.every:
            self._shown = now
            print(describe(step, self.total, self.start, now - self._began, text), flush=True)


def _bar() -> Any | None:
    try:
        from rich import progress
    except ImportError:
        return None
    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}", markup=False),
    )
