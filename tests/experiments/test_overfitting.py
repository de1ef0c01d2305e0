"""Remedies are chosen by validation, zeros are counted, and the answer is what the rows are."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import overfitting
import pytest
from overfitting_figure import BINS, NONE, STOPPING, TOGETHER

from alexnet_jax.sweep import Outcome

OPTIONS = overfitting.Options(seeds=2, images=50)


def row(remedy, seed, *, seen, test, strength=0.1, diverged_at=None, best=None):
    """A network whose scores change evenly up to its last evaluation; `best` is the test score
    where validation is best, at the second of three evaluations."""
    middle = test if best is None else best
    curve = {"step": [10, 20, 30]}
    for name, last in (("seen", seen), ("validation", test), ("test", test)):
        curve[f"{name}/top1"] = [0.5, middle if name != "seen" else 0.8, last]
        curve[f"{name}/loss"] = [0.7, 0.6, 0.9]
    last = {name: values[-1] for name, values in curve.items()}
    weights = {"weights/zero": 0.25, "weights/near_zero": 0.5, "weights/norm": 4.0}
    case = {"phase": "remedies", "remedy": remedy, "strength": strength, "seed": seed}
    histogram = {"weights": [1] * (len(BINS) - 1)}
    return {
        **case,
        "diverged_at": diverged_at,
        **last,
        **weights,
        "histogram": histogram,
        "curve": curve,
    }


def test_the_strength_that_is_best_in_validation_wins():
    def tried(strength, top1, loss, diverged_at=None):
        scores = {"validation/top1": top1, "validation/loss": loss, "diverged_at": diverged_at}
        return {"remedy": "dropout", "strength": strength, "seed": 0, **scores}

    rows = [tried(0.25, 0.6, 0.9), tried(0.5, 0.7, 0.9), tried(0.75, 0.7, 0.8)]
    assert overfitting.strongest(rows) == {"dropout": 0.75}  # of equals the one with less loss
    lost = {"remedy": "dropout", "strength": 0.9, "seed": 0, "diverged_at": 2}
    assert overfitting.strongest([lost, rows[0]]) == {"dropout": 0.25}
    assert overfitting.strongest([lost]) == {}


def test_all_together_is_a_share_of_each():
    best = {"dropout": 0.5, "elastic net": 0.001, "augmentation": "flip", "L2, coupled": 1.0}
    assert overfitting.together(best, 0.5) == {
        "model.dropout_rate": 0.25,
        "optimizer.l1": 0.0005,
        "optimizer.l2": 0.005,
        "augment": overfitting.AUGMENTED["flip"],
    }
    assert overfitting.together({"dropout": 0.5}, 1.0) == {"model.dropout_rate": 0.5}


def test_exact_and_near_zeros_are_counted_in_kernels_alone():
    kernel = jnp.array([[0.0, 0.0, -3e-5], [0.3, -0.4, 2e-4]])
    params = {"conv1": {"kernel": kernel, "bias": jnp.zeros(5)}, "norm1": {"scale": jnp.ones(2)}}

    class State:
        pass

    State.params = params
    found = overfitting.weights(Outcome(0, {}, [], State, None))
    assert found["weights/zero"] == pytest.approx(2 / 6)
    assert found["weights/near_zero"] == pytest.approx(3 / 6)
    assert found["weights/norm"] == pytest.approx(0.5)
    counts = np.array(found["histogram"]["weights"])
    assert counts.sum() == 4
    for size in (3e-5, 2e-4, 0.3, 0.4):
        assert counts[(np.log10(size) >= BINS[:-1]) & (np.log10(size) < BINS[1:])] == 1


def test_the_answer_is_what_the_rows_are():
    rows = [row(NONE, seed, seen=1.0, test=0.5 + seed / 10, best=0.55) for seed in (1, 2)]
    rows += [row("dropout", seed, seen=0.9, test=0.6 + seed / 10) for seed in (1, 2)]
    rows += [row("L2, coupled", seed, seen=0.9, test=t) for seed, t in ((1, 0.65), (2, 0.65))]
    rows += [row(TOGETHER, seed, seen=0.7, test=0.4) for seed in (1, 2)]
    told = overfitting.with_stopping(rows, patience=8)
    answer = overfitting.answer(OPTIONS, told)
    assert "right answer to 100.0 % (100.0 to 100.0) of its 50 training images" in answer
    assert "65.0 % (60.0 to 70.0) of the test, a gap of 35.0 points" in answer
    assert (
        "Best alone in the test is dropout: 10.0 points more (10.0 to 10.0, n = 2), at a gap of "
        "15.0 points." in answer
    )
    assert "Better on every seed than without: dropout; not shown" in answer
    assert "not shown to be either: early stopping, L2 coupled." in answer
    # early stopping restores the last evaluation, which validates best: 0.6 and 0.7
    assert [r["test/top1"] for r in told if r["remedy"] == STOPPING] == [0.6, 0.7]
    # all together validate best at the first evaluation, at 0.5
    assert answer.endswith(
        "All together get 15.0 points fewer (10.0 to 20.0, n = 2), at a gap of 0.0 points."
    )


def test_early_stopping_restores_the_test_score_of_the_best_validation():
    rows = [row(NONE, 1, seen=1.0, test=0.5, best=0.7)]
    stopped = overfitting.with_stopping(rows, patience=None)[1]
    assert stopped["remedy"] == STOPPING and stopped["step"] == 20
    assert stopped["test/top1"] == 0.7 and stopped["seen/top1"] == 0.8
    assert stopped["gap"] == pytest.approx(0.1)


def test_remedies_that_diverge_are_told_and_left_out():
    rows = [row(NONE, seed, seen=1.0, test=0.5) for seed in (1, 2)]
    lost = {"phase": "strengths", "remedy": "dropout", "strength": 0.5, "seed": 0, "diverged_at": 1}
    sections = overfitting.page(OPTIONS, overfitting.base_config(OPTIONS), [lost], rows, 40)[3]
    assert any("on every seed: dropout." in section for section in sections)
    every = [{**lost, "phase": "remedies", "remedy": NONE, "strength": 0, "curve": {}}]
    _, answer, _, _ = overfitting.page(OPTIONS, overfitting.base_config(OPTIONS), [lost], every, 40)
    assert answer.startswith("Every network without a remedy diverged")
