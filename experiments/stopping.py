"""Early stopping asked afterwards: where a curve that was trained to its end would have stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alexnet_jax.train.early_stopping import Stopper, update


class Stop(NamedTuple):
    """Evaluations by their place in the curve: the `best`, which is restored, and the `last`, after
    which training ends. `early` is false where the curve ended first."""

    best: int
    last: int
    early: bool


def replay(metric: Sequence[float], *, mode: str, patience: int | None) -> Stop:
    """Where training would have ended by its own rule; `metric` has the values of evaluations."""
    stopper = Stopper(mode=mode, patience=patience)
    for place, value in enumerate(metric):
        stopper, why = update(stopper, value, place)
        if why is not None:
            break
    return Stop(stopper.best_step or 0, place, why is not None)
