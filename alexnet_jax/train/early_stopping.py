"""Early stopping as a value: `stopper, why = update(stopper, metric)`; pure, and JSON both ways.

The notes' remedy against overfitting (Prechelt 1998, "Early stopping - but when?"): stop when the
validation metric has not improved for a while, and go back to where it was best. Nothing here knows
of checkpoints, loops or devices.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why training ends."""

    PATIENCE_EXHAUSTED = "PATIENCE_EXHAUSTED"
    THRESHOLD_REACHED = "THRESHOLD_REACHED"
    NON_FINITE = "NON_FINITE"


@dataclass(frozen=True)
class Stopper:
    """The rule and what it has seen.

    `mode` is "min" or "max". A metric is better when it beats `best` by more than `min_delta`, or
    is the first to reach `threshold`.
    After exactly `patience` evaluations in a row that are not better (None: never), training ends;
    also as soon as the metric reaches `threshold`, and at once on a metric that is not finite,
    unless `check_finite` is off, when that counts as an evaluation without improvement.
    `best_step` is the step given with the best metric.
    """

    mode: str = "min"
    patience: int | None = 5
    min_delta: float = 0.0
    threshold: float | None = None
    check_finite: bool = True
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    evaluations: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode is {self.mode!r}; expected 'min' or 'max'")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}; expected at least 1, or None for never")
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta is {self.min_delta}; expected at least 0")


def update(
    stopper: Stopper, metric: float, step: int | None = None
) -> tuple[Stopper, Reason | None]:
    """What the stopper is after one more evaluation, and why training should end, if it should.

    `step` is remembered if the metric is the best so far; by default evaluations are counted.
    """
    metric = float(metric)
    seen = stopper.evaluations + 1
    step = seen if step is None else int(step)
    if not math.isfinite(metric) and stopper.check_finite:
        return dataclasses.replace(stopper, evaluations=seen), Reason.NON_FINITE
    if _better(stopper, metric):
        stopper = dataclasses.replace(
            stopper, best=metric, best_step=step, waited=0, evaluations=seen
        )
    else:
        stopper = dataclasses.replace(stopper, waited=stopper.waited + 1, evaluations=seen)
    return stopper, verdict(stopper)


def verdict(stopper: Stopper) -> Reason | None:
    """Why training should not go on from here; None where it should.

    Asked at resume, so that more patience sets a stopped run going again.
    """
    if stopper.best is not None and _reaches(stopper, stopper.best):
        return Reason.THRESHOLD_REACHED
    if stopper.patience is not None and stopper.waited >= stopper.patience:
        return Reason.PATIENCE_EXHAUSTED
    return None


def _better(stopper: Stopper, metric: float) -> bool:
    if not math.isfinite(metric):
        return False
    if stopper.best is None:
        return True
    gain = metric - stopper.best if stopper.mode == "max" else stopper.best - metric
    first = _reaches(stopper, metric) and not _reaches(stopper, stopper.best)
    return gain > stopper.min_delta or first


def _reaches(stopper: Stopper, metric: float) -> bool:
    if stopper.threshold is None:
        return False
    return metric >= stopper.threshold if stopper.mode == "max" else metric <= stopper.threshold


def to_json(stopper: Stopper) -> dict:
    """A plain dict; Python's JSON keeps floats to the last bit."""
    return dataclasses.asdict(stopper)


def from_json(data: dict) -> Stopper:
    """The stopper that `to_json` wrote."""
    return Stopper(**data)
