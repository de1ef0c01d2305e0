import json
import math
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.optim.schedules import Plateau, Schedule, build, plateau_update, steps

DATA = {"batch_size": 128, "num_examples": 50_000}


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (0, 0),
        (5000, 5000),
        ("5000 steps", 5000),
        ("1 step", 1),
        ("1 epoch", 391),  # 390.625
        ("30 epochs", 11719),  # 11718.75: not 30 * 391
        ("0.5 epochs", 196),
        ("1e6 examples", 7813),
        ("128 examples", 1),
        ("129 examples", 2),
    ],
)
def test_durations_in_steps(duration, expected):
    assert steps(duration, **DATA) == expected


def test_durations_are_exact():
    # 0.07 * 50000 / 100 = 35.000000000000004 in floating point
    assert steps("0.07 epochs", batch_size=100, num_examples=50_000) == 35


@pytest.mark.parametrize(
    "duration",
    ["5000", "epochs", "5 days", "3 epochs 2 steps", "30epochs", "-1 steps", -1, "nan steps", ""],
)
def test_bad_durations_are_refused(duration):
    with pytest.raises(ValueError, match="one number and one unit of steps, epochs or examples"):
        steps(duration, **DATA)


def factors(schedule, at, total_steps=100):
    function = jax.jit(build(schedule, total_steps=total_steps, batch_size=1, num_examples=10))
    return [float(function(jnp.int32(step))) for step in at]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), {0: 1, 99: 1}),
        (
            Schedule("step", milestones=("3 epochs", 60), factor=0.5),
            {0: 1, 29: 1, 30: 0.5, 59: 0.5, 60: 0.25, 200: 0.25},
        ),
        (Schedule("cosine"), {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0, 150: 0}),
        (Schedule("cosine", final=0.2), {0: 1, 50: 0.6, 100: 0.2}),
        (Schedule("linear", duration=50, final=0.5), {0: 1, 25: 0.75, 50: 0.5, 99: 0.5}),
        (Schedule("exponential", final=0.01), {0: 1, 25: 0.01**0.25, 50: 0.1, 100: 0.01}),
        (Schedule(warmup=4), {0: 0.2, 1: 0.4, 3: 0.8, 4: 1, 50: 1}),
        (Schedule("linear", warmup="2 epochs"), {0: 1 / 21, 20: 1, 60: 0.5, 100: 0}),
        (Schedule("step", warmup=1, milestones=(2,)), {0: 0.5, 1: 1, 2: 0.1}),
    ],
)
def test_factors_by_hand(schedule, expected):
    np.testing.assert_allclose(
        factors(schedule, expected), list(expected.values()), rtol=1e-5, atol=1e-7
    )


def test_cosine_is_that_of_optax():
    ours = build(Schedule("cosine", warmup=9, final=0.1), total_steps=100, **DATA)
    theirs = optax.warmup_cosine_decay_schedule(0.1, 1.0, 9, 100, end_value=0.1)
    at = jnp.arange(120)
    np.testing.assert_allclose(jax.vmap(ours)(at), jax.vmap(theirs)(at), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cos"}, "known are constant, step, cosine"),
        ({"name": "step"}, "needs milestones"),
        ({"name": "cosine", "milestones": (3,)}, "no other takes them"),
        ({"name": "cosine", "factor": 0.5}, "Only 'step' has a factor"),
        ({"name": "constant", "final": 0.5}, "no final factor"),
        ({"name": "exponential"}, "above 0 for 'exponential'"),
        ({"name": "linear", "final": 2.0}, r"\[0, 1\]"),
        ({"name": "step", "milestones": (3,), "factor": 0.0}, r"\(0, 1\]"),
    ],
)
def test_bad_schedules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule("step", milestones=(60, 30)), "must ascend"),
        (Schedule("step", milestones=(5,), warmup=10), "follow the warm-up of 10"),
        (Schedule("cosine", warmup=100), "before its warm-up"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        build(schedule, total_steps=100, **DATA)


def test_which_schedules_change_when_training_for_longer():
    assert Schedule("cosine").depends_on_total
    for schedule in (
        Schedule(),
        Schedule("cosine", duration=50),
        Schedule("step", milestones=(9,)),
    ):
        assert not schedule.depends_on_total
        assert factors(schedule, range(60), 100) == factors(schedule, range(60), 200)


def test_plateau_reduces_after_exactly_patience_evaluations_without_improvement():
    state, scales = Plateau(factor=0.5, patience=2, min_delta=0.1, min_scale=0.2), []
    for metric in [1.0, 0.8, 0.75, math.nan, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]:
        state = Plateau(**json.loads(json.dumps(asdict(state), allow_nan=False)))
        state, scale = plateau_update(state, metric)
        scales.append(scale)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert state.best == 0.6


def test_plateau_of_a_metric_to_maximize():
    state = Plateau(factor=0.1, patience=1, mode="max")
    for metric, expected in [(math.nan, 0.1), (0.5, 0.1), (0.6, 0.1), (0.6, 0.01)]:
        state, scale = plateau_update(state, metric)
        assert scale == pytest.approx(expected)


def test_bad_plateaus_are_refused():
    for settings in ({"factor": 1.0}, {"patience": 0}, {"min_delta": -1.0}, {"mode": "lowest"}):
        with pytest.raises(ValueError):
            Plateau(**settings)
