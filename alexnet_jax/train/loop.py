"""The training loop: one page.

Its order is what makes a killed run come back bit for bit: evaluate, update the stopper, write the
row, save, then test for the stop. Files, signals and screens are the caller's: they come in as
functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alexnet_jax.optim.chain import with_hyper
from alexnet_jax.optim.schedules import Plateau, plateau_update
from alexnet_jax.tasks.base import means
from alexnet_jax.train import early_stopping
from alexnet_jax.train.evaluate import HostSums, add, on_host
from alexnet_jax.train.state import TrainState

EPOCH_LIMIT, INTERRUPTED = "EPOCH_LIMIT", "INTERRUPTED"


@dataclass(frozen=True)
class Position:
    """Where a run stands: with the state's arrays, all that resuming needs.

    `running` are the training metrics' sums since the last evaluation.
    """

    state: TrainState
    step: int
    stopper: early_stopping.Stopper
    plateau: Plateau | None = None
    running: dict[str, tuple[Any, float]] = field(default_factory=dict)


# What ends training where it is no number: parameters can be lost by an update of a finite loss,
# and a metric such as top-1 is a number whatever they are.
WATCHED = {"objective": "loss", "parameter_norm": "parameters' norm"}


class NonFiniteLoss(FloatingPointError):
    """The training loss, or the parameters that it led to, are no longer numbers."""


def fit(
    at: Position,
    *,
    step: Callable[[TrainState, Any], tuple[TrainState, dict]],
    batches: Iterator[Any],
    evaluate: Callable[[TrainState], HostSums],
    monitor: str,
    total_steps: int,
    evaluate_at: Callable[[int], bool],
    record: Callable[[Position, dict[str, float]], None],
    save: Callable[[Position], None],
    interrupted: Callable[[], bool] = lambda: False,
    metrics: Callable[[HostSums], dict[str, float]] = means,
    counts: Callable[[HostSums], dict[str, int]] = lambda sums: {},
    score: Callable[[TrainState], dict[str, float]] = lambda state: {},
    in_flight: int = 2,
) -> tuple[Position, str]:
    """Train from `at` until something ends it; the last position, and why it is the last.

    `batches` yields the batches from the position's step on; `metrics` and `counts` are the task's
    and make a row of sums (counts of validation only), to which `score` adds what it finds in
    validation. `record` gets a row of metrics and `save` the position at every evaluation; `save`
    also when interrupted. At most `in_flight` steps are queued on the device before their metrics
    are read.

    Raises NonFiniteLoss, with the step and the learning rate, before anything of it is saved.
    """
    if reason := early_stopping.verdict(at.stopper):
        return at, reason.value
    pending: deque[tuple[int, dict]] = deque()
    latest: dict[str, float] = {}
    running = dict(at.running)

    def read(limit: int) -> None:
        """Take in metrics until at most `limit` steps are pending."""
        nonlocal running, latest
        while len(pending) > limit:
            number, measured = pending.popleft()
            latest, sums = parted(measured)
            for name, what in WATCHED.items():
                if not math.isfinite(value := latest.get(name, 0.0)):
                    rate = latest.get("learning_rate", float("nan"))
                    raise NonFiniteLoss(
                        f"the {what} is {value} at step {number} (learning rate {rate:g})"
                    )
            running = add(running, sums)

    state, number = at.state, at.step
    while number < total_steps:
        if interrupted():
            read(0)
            at = dataclasses.replace(at, state=state, step=number, running=running)
            save(at)
            return at, INTERRUPTED

        state, measured = step(state, next(batches))
        number += 1
        pending.append((number, measured))
        read(in_flight)
        if not (evaluate_at(number) or number == total_steps):
            continue

        read(0)
        sums = evaluate(state)
        row = named("train", metrics(running) | latest)
        row |= named("validation", metrics(sums) | counts(sums))
        row |= named("validation", score(state))
        if monitor not in row:
            raise ValueError(f"no metric is called {monitor!r}; there are {', '.join(row)}")

        stopper, reason = early_stopping.update(at.stopper, row[monitor], number)
        plateau = at.plateau
        if plateau is not None:
            plateau, scale = plateau_update(plateau, row[monitor])
            state = state.replace(opt_state=with_hyper(state.opt_state, lr_scale=scale))
        running = {}
        at = Position(state, number, stopper, plateau, running)
        record(at, row)
        if reason is early_stopping.Reason.NON_FINITE:
            return at, reason.value  # and not saved: the last checkpoint is a good one
        save(at)
        if reason:
            return at, reason.value
    return at, EPOCH_LIMIT


def parted(measured: dict) -> tuple[dict[str, float], dict]:
    """A step's metrics as (numbers of that step, sums to be added up over steps), on the host."""
    measured = on_host(measured)
    sums = {name: value for name, value in measured.items() if isinstance(value, tuple)}
    return {k: float(v) for k, v in measured.items() if k not in sums}, sums


def named(split: str, values: Mapping[str, float]) -> dict[str, float]:
    """{"SPLIT/NAME": value}, as a row of metrics has it."""
    return {f"{split}/{name}": value for name, value in values.items()}


def flat_at_chance(losses: list[float], chance: float, *, evaluations: int = 3) -> bool:
    """Whether the loss of the last evaluations is `chance`, that of guessing, within 1 %."""
    recent = losses[-evaluations:]
    return len(recent) == evaluations and all(abs(x - chance) < 0.01 * chance for x in recent)


def crosses(step: int, batch_size: int, every: int) -> bool:
    """Whether step number `step` completes another `every` examples."""
    return step * batch_size // every > (step - 1) * batch_size // every
