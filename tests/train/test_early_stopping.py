"""Early stopping against a plain rescan of the whole sequence, through any number of restarts."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alexnet_jax.train.early_stopping import Reason, Stopper, from_json, to_json, update, verdict

# A coarse grid, so that ties, gains of exactly min_delta and hits on the threshold are frequent.
METRIC = st.one_of(
    st.integers(0, 8).map(lambda i: i / 4),
    st.floats(0, 2),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
RULE = st.builds(
    Stopper,
    mode=st.sampled_from(["min", "max"]),
    patience=st.one_of(st.none(), st.integers(1, 4)),
    min_delta=st.sampled_from([0.0, 0.25, 0.3]),
    threshold=st.sampled_from([None, 0.25, 1.75]),
    check_finite=st.booleans(),
)


def rescan(rule: Stopper, metrics: list[float]):
    """(evaluations made, reason, best, best_step), from the sequence alone."""
    sign = 1 if rule.mode == "max" else -1
    best = None  # place of the best so far
    for place, metric in enumerate(metrics):
        if not np.isfinite(metric):
            if rule.check_finite:
                return place + 1, Reason.NON_FINITE, best
        else:
            reached = rule.threshold is not None and sign * (metric - rule.threshold) >= 0
            if best is None or reached or sign * (metric - metrics[best]) > rule.min_delta:
                best = place
            if reached:
                return place + 1, Reason.THRESHOLD_REACHED, best
        waited = place - (-1 if best is None else best)
        if rule.patience is not None and waited >= rule.patience:
            return place + 1, Reason.PATIENCE_EXHAUSTED, best
    return len(metrics), None, best


@settings(max_examples=400, deadline=None)
@given(RULE, st.lists(METRIC, max_size=12), st.sets(st.integers(0, 12)))
@example(Stopper("max", min_delta=0.3, threshold=1.75), [1.5, 1.75], set())
def test_stops_where_a_rescan_says_whatever_the_restarts(rule, metrics, restarts):
    stopper, why, made = rule, None, 0
    for place, metric in enumerate(metrics):
        if place in restarts:
            again = from_json(json.loads(json.dumps(to_json(stopper), allow_nan=False)))
            assert again == stopper
            stopper = again
        stopper, why = update(stopper, metric, step=100 * place)
        made += 1
        if why is not None:
            break
    evaluations, reason, best = rescan(rule, metrics)
    assert (made, why) == (evaluations, reason)
    assert stopper.evaluations == made
    assert stopper.best == (None if best is None else metrics[best])
    assert stopper.best_step == (None if best is None else 100 * best)


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize(("mode", "worse"), [("min", 1.5), ("max", 0.5)])
def test_stops_after_exactly_patience_evaluations_without_improvement(patience, mode, worse):
    stopper, why = update(Stopper(mode=mode, patience=patience), 1.0)
    made = 0
    while why is None:
        stopper, why = update(stopper, worse)
        made += 1
    assert made == patience and why == Reason.PATIENCE_EXHAUSTED
    assert (stopper.best, stopper.best_step) == (1.0, 1)


def test_a_gain_of_exactly_min_delta_is_none():
    stopper, _ = update(Stopper("max", patience=1, min_delta=0.25), 0.5)
    assert update(stopper, 0.75)[1] == Reason.PATIENCE_EXHAUSTED
    assert update(stopper, 0.7501)[1] is None


def test_nan_stops_at_once_and_is_never_best():
    stopper, why = update(Stopper("min"), math.nan)
    assert why == Reason.NON_FINITE and stopper.best is None
    stopper, _ = update(Stopper("max"), 0.25)
    for value in (math.nan, math.inf):
        after, why = update(stopper, value)
        assert why == Reason.NON_FINITE and after.best == 0.25


def test_unchecked_nan_counts_as_no_improvement():
    stopper = Stopper("min", patience=2, check_finite=False)
    stopper, why = update(stopper, math.nan)
    assert why is None and stopper.best is None
    stopper, why = update(stopper, -math.inf)
    assert why == Reason.PATIENCE_EXHAUSTED and stopper.best is None


def test_more_patience_sets_a_stopped_run_going_again():
    stopper = Stopper("min", patience=2)
    for metric in (1.0, 2.0, 3.0):
        stopper, why = update(stopper, metric)
    assert why == verdict(stopper) == Reason.PATIENCE_EXHAUSTED
    revived = dataclasses.replace(stopper, patience=4)
    assert verdict(revived) is None
    revived, why = update(revived, 4.0)
    assert why is None
    assert update(revived, 5.0)[1] == Reason.PATIENCE_EXHAUSTED


def test_a_metric_that_reaches_the_threshold_by_less_than_min_delta_still_does():
    stopper, _ = update(Stopper("max", min_delta=0.01, threshold=0.9), 0.895)
    stopper, why = update(stopper, 0.9, step=7)
    assert why == verdict(stopper) == Reason.THRESHOLD_REACHED
    assert (stopper.best, stopper.best_step) == (0.9, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "lowest"}, "'min' or 'max'"),
        ({"patience": 0}, "at least 1"),
        ({"min_delta": -0.1}, "at least 0"),
        ({"min_delta": math.nan}, "at least 0"),
    ],
)
def test_impossible_rules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Stopper(**settings)
