"""The loop with plain Python in place of networks: its order, its ends, and going on after any."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random

import jax.numpy as jnp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.schedules import Plateau
from alexnet_jax.tasks.classification import Classification
from alexnet_jax.tasks.detection import Detection
from alexnet_jax.train import early_stopping
from alexnet_jax.train.early_stopping import Stopper
from alexnet_jax.train.loop import (
    EPOCH_LIMIT,
    INTERRUPTED,
    NonFiniteLoss,
    Position,
    crosses,
    fit,
    flat_at_chance,
)
from alexnet_jax.train.state import TrainState

EVERY = 3


def loss_at(step: int) -> float:
    return random.Random(step).uniform(0, 2)  # sums of these depend on their order


def state_at(step: int = 0, opt_state: object = None) -> TrainState:
    return TrainState(step, {}, {}, opt_state, None, 0)


class Run:
    """One process's part of a run: what was called, in order, and what lies on the disk after."""

    def __init__(self, metrics=None, losses=loss_at, saved=None, rows=(), patience=None):
        self.metrics = {} if metrics is None else metrics
        self.losses, self.patience = losses, patience
        self.norms: dict[int, float] = {}
        self.saved, self.rows = saved, list(rows)
        self.calls: list[str] = []

    def fit(self, total=12, at=None, **changes):
        if at is None:
            at = Position(state_at(), 0, Stopper("max", patience=self.patience))
        start = at.step
        given = {
            "step": self.step,
            "batches": itertools.count(start + 1),
            "evaluate": self.evaluate,
            "monitor": "validation/top1",
            "total_steps": total,
            "evaluate_at": lambda n: n % EVERY == 0,
            "record": self.record,
            "save": self.save,
            "counts": lambda sums: dict(zip(("correct", "count"), sums["top1"], strict=True)),
        }
        return fit(at, **{**given, **changes})

    def step(self, state, batch):
        number = state.step + 1
        assert batch == number  # the stream goes on where the state stands
        self.calls.append(f"step {number}")
        loss = self.losses(number)
        metrics = {"loss": (loss, 1.0), "objective": loss, "learning_rate": 0.25}
        if self.norms:
            metrics["parameter_norm"] = self.norms.get(number, 1.0)
        return state.replace(step=number), metrics

    def evaluate(self, state):
        self.calls.append(f"evaluate {state.step}")
        return {"top1": (self.metrics.get(state.step, 50), 100)}

    def record(self, at, row):
        self.calls.append(f"record {at.step}")
        self.rows.append({"step": at.step, **row})

    def save(self, at):
        self.calls.append(f"save {at.step}")
        host = {
            "step": at.step,
            "stopper": early_stopping.to_json(at.stopper),
            "plateau": dataclasses.asdict(at.plateau) if at.plateau else None,
            "running": at.running,
        }
        self.saved = json.dumps(host)


def position(saved: str) -> Position:
    host = json.loads(saved)
    return Position(
        state_at(host["step"]),
        host["step"],
        early_stopping.from_json(host["stopper"]),
        Plateau(**host["plateau"]) if host["plateau"] else None,
        {name: tuple(pair) for name, pair in host["running"].items()},
    )


def test_evaluates_records_saves_and_then_tests_for_the_stop():
    run = Run(metrics={3: 60, 6: 60}, patience=1)
    at, reason = run.fit()
    assert reason == "PATIENCE_EXHAUSTED"
    assert run.calls == [
        *("step 1", "step 2", "step 3", "evaluate 3", "record 3", "save 3"),
        *("step 4", "step 5", "step 6", "evaluate 6", "record 6", "save 6"),
    ]
    assert (at.step, at.stopper.best_step) == (6, 3)
    assert run.rows[0] == {
        "step": 3,
        "train/loss": pytest.approx((loss_at(1) + loss_at(2) + loss_at(3)) / 3, rel=1e-15),
        "train/objective": loss_at(3),
        "train/learning_rate": 0.25,
        "validation/top1": 0.6,
        "validation/correct": 60,
        "validation/count": 100,
    }


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_stops_after_exactly_so_many_evaluations_without_a_better_one(patience):
    run = Run(metrics={3: 50, 6: 70, 9: 70, 12: 60}, patience=patience)
    at, reason = run.fit(total=99)
    assert reason == "PATIENCE_EXHAUSTED"
    assert at.step == 6 + EVERY * patience
    assert at.stopper.best_step == 6
    again, reason = run.fit(total=99, at=at)  # a stopped run stays so
    assert (again, reason) == (at, "PATIENCE_EXHAUSTED")


def test_the_end_is_evaluated_wherever_it_falls():
    run = Run()
    at, reason = run.fit(total=4)
    assert reason == EPOCH_LIMIT
    assert run.calls[-4:] == ["step 4", "evaluate 4", "record 4", "save 4"]
    assert run.rows[-1]["train/loss"] == loss_at(4)
    assert run.fit(total=4, at=at) == (at, EPOCH_LIMIT)


@pytest.mark.parametrize("in_flight", [0, 2, 50])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_it_before_anything_is_saved(bad, in_flight):
    run = Run(losses=lambda step: bad if step == 5 else 1.0)
    with pytest.raises(NonFiniteLoss, match=r"at step 5 \(learning rate 0.25\)"):
        run.fit(in_flight=in_flight)
    assert [c for c in run.calls if c.startswith(("record", "save"))] == ["record 3", "save 3"]
    stopped = Run(losses=lambda step: bad)
    with pytest.raises(NonFiniteLoss, match="step 1 "):
        stopped.fit(interrupted=lambda: "step 2" in stopped.calls)
    assert stopped.saved is None


def test_parameters_that_are_no_numbers_are_never_saved():
    """The update of a finite loss made them so, and top-1 is still a number."""
    run = Run()
    run.norms = {6: math.nan}
    with pytest.raises(NonFiniteLoss, match="parameters' norm is nan at step 6 "):
        run.fit()
    assert [c for c in run.calls if c.startswith(("record", "save"))] == ["record 3", "save 3"]


def test_at_most_so_many_steps_are_in_flight():
    """A step's numbers are looked at when at most `in_flight` later ones have been started."""
    for in_flight in (0, 1, 2):
        run = Run(losses=lambda step: math.nan)
        with pytest.raises(NonFiniteLoss):
            run.fit(total=3, in_flight=in_flight)
        assert run.calls == [f"step {n}" for n in range(1, in_flight + 2)]


def test_a_validation_metric_that_is_no_number_is_recorded_and_not_saved():
    run = Run()
    losses = {3: 0.5, 6: math.nan}
    at, reason = run.fit(
        monitor="validation/loss",
        evaluate=lambda state: {"loss": (losses[state.step], 1)},
        counts=lambda sums: {},
    )
    assert reason == "NON_FINITE"
    assert run.calls[-4:] == ["step 4", "step 5", "step 6", "record 6"]
    assert math.isnan(run.rows[-1]["validation/loss"])
    assert position(run.saved).step == 3
    assert at.stopper.best_step == 3


def test_an_unknown_monitor_names_those_there_are():
    with pytest.raises(ValueError, match=r"'validation/f1'; there are .*validation/top1"):
        Run().fit(monitor="validation/f1")


@settings(max_examples=80, deadline=None)
@given(st.sets(st.integers(0, 12)), st.integers(0, 3))
@example({0, 1, 2, 3, 12}, 2)
def test_interrupted_anywhere_it_ends_in_the_same_rows(stops, in_flight):
    """The host's part goes through JSON, as in a checkpoint."""
    metrics = {3: 50, 6: 70, 9: 60, 12: 65}
    alone = Run(metrics)
    end, why = alone.fit(total=13, in_flight=in_flight)

    rows, saved = [], None
    for stop in [*sorted(stops), None]:
        run = Run(metrics, saved=saved, rows=rows)
        at = None if saved is None else position(saved)
        done = f"step {stop}" if stop else "nothing"
        back, reason = run.fit(
            total=13,
            at=at,
            in_flight=in_flight,
            interrupted=lambda: stop == 0 or done in run.calls,  # noqa: B023
        )
        if stop is not None:
            assert (reason, back.step) == (INTERRUPTED, stop)
            assert run.calls[-1] == f"save {stop}"
        rows, saved = run.rows, run.saved
    assert rows == alone.rows
    assert (back, reason) == (end, why)
    assert saved == alone.saved


def test_the_rate_falls_on_a_plateau_and_remembers_it():
    tx = optimizer("sgd", learning_rate=0.5)
    start = state_at(opt_state=tx.init({"w": jnp.zeros(2)}))
    run = Run(metrics={3: 70, 6: 70, 9: 60, 12: 50, 15: 40})
    plateau = Plateau(factor=0.5, patience=2, mode="max")
    at, _ = run.fit(total=15, at=Position(start, 0, Stopper("max", patience=None), plateau))
    # Two evaluations without a better one at 6 and 9, and again at 12 and 15.
    assert float(at.state.opt_state.hyper["lr_scale"]) == 0.25
    assert float(tx.learning_rate(at.state.opt_state)) == 0.125
    assert position(run.saved).plateau == at.plateau
    assert at.plateau.scale == 0.25


@pytest.mark.parametrize(
    ("losses", "classes", "flat"),
    [
        ([0.7, 0.693, 0.69], 2, True),
        ([5.0, 0.7, 0.693, 0.69], 2, True),
        ([0.693, 0.693], 2, False),  # too early to tell
        ([0.693, 0.693, 0.68], 2, False),
        ([2.3026, 2.3026, 2.3026], 10, True),
        ([2.3026, 2.3026, 2.3026], 2, False),
        ([math.nan] * 3, 2, False),
    ],
)
def test_flat_at_chance(losses, classes, flat):
    assert flat_at_chance(losses, Classification.loss_of_guessing(classes)) is flat
    # Other losses have no such number: detection's may stay at ln(2) and be learning.
    assert not flat_at_chance(losses, Detection.loss_of_guessing(classes))


@given(st.integers(1, 50), st.integers(1, 200))
def test_evaluations_fall_where_examples_are_counted_one_by_one(batch_size, every):
    """A step evaluates if a multiple of `every` is among the examples that it brings."""
    for step in range(1, 40):
        examples = range((step - 1) * batch_size + 1, step * batch_size + 1)
        assert crosses(step, batch_size, every) == any(n % every == 0 for n in examples)
