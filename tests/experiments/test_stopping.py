"""What early stopping would have done is what its rule says, and its page what the curves say."""

from __future__ import annotations

import early_stopping
import numpy as np
import pytest
from stopping import Stop, replay


def test_a_replay_by_hand():
    loss = [1.0, 0.8, 0.9, 0.85, 0.7, 0.9, 0.95, 0.96]
    assert replay(loss, mode="min", patience=1) == Stop(1, 2, True)
    assert replay(loss, mode="min", patience=2) == Stop(1, 3, True)
    assert replay(loss, mode="min", patience=3) == Stop(4, 7, True)
    assert replay(loss, mode="min", patience=4) == Stop(4, 7, False)
    assert replay(loss, mode="min", patience=None) == Stop(4, 7, False)
    # an equal one is no better, and the first of equals is restored
    assert replay([0.5, 0.7, 0.7, 0.7], mode="max", patience=2) == Stop(1, 3, True)


def test_a_replay_is_the_first_place_that_is_far_enough_behind_the_best():
    rng = np.random.default_rng(0)
    for curve in rng.integers(0, 8, (50, 20)) / 8:
        for patience in (1, 2, 5):
            behind = [i - int(curve[: i + 1].argmax()) for i in range(20)]
            last = next((i for i, far in enumerate(behind) if far >= patience), 19)
            expected = Stop(int(curve[: last + 1].argmax()), last, behind[last] >= patience)
            assert replay(curve, mode="max", patience=patience) == expected


def row(seed, *, loss, top1=(0.5, 0.7, 0.6, 0.6), test=(0.4, 0.6, 0.5, 0.5), diverged_at=None):
    curve = {"step": [10, 20, 30, 40], "validation/loss": loss, "validation/top1": top1}
    curve |= {"test/loss": [0.9, 0.6, 0.8, 1.2], "test/top1": test}
    curve |= {"seen/loss": [0.5, 0.2, 0.1, 0.0], "seen/top1": [0.8, 0.9, 1.0, 1.0]}
    return {"seed": seed, "diverged_at": diverged_at, "curve": curve}


OPTIONS = early_stopping.Options(seeds=2, patience=(1, 2), shown=1, noise=(10,))


def test_the_page_says_what_the_curves_say():
    rows = [row(0, loss=[0.8, 0.5, 0.6, 1.0]), row(1, loss=[0.8, 0.4, 0.6, 1.2])]
    title, answer, drawn, sections = early_stopping.page(OPTIONS, rows, 40, 100)
    assert title.endswith("?") and drawn.axes
    assert (
        "lowest after 20 (20 to 20) of 40 updates and by the end 2.5 (2.0 to 3.0) times" in answer
    )
    assert "Validation accuracy is highest after 20 (20 to 20)." in answer
    assert (
        "Stopped by validation/top1 with patience 1, after 30 (30 to 30) updates, the restored "
        "network has 10.0 points more (10.0 to 10.0, n = 2) in the test than at the end, at a test "
        "loss of 0.60 against 1.20." in answer
    )
    table = sections[2].splitlines()
    assert table[2].startswith("| 1 | 30 (30 to 30) | 20 (20 to 20) | 60.0 % (60.0 to 60.0) |")
    assert table[2].endswith("| 2 of 2 |") and table[-1].endswith("| 0 of 2 |")


def test_what_is_not_there_is_not_shown():
    falling = [row(0, loss=[0.8, 0.7, 0.6, 0.5]), row(1, loss=[0.8, 0.4, 0.6, 1.2])]
    answer = early_stopping.page(OPTIONS, falling, 40, 100)[1]
    assert "that it rises from there on is not shown for every network" in answer
    mixed = [
        row(0, loss=[0.8, 0.5, 0.6, 1.0]),
        row(1, loss=[0.8, 0.5, 0.6, 1.0], test=[0.5, 0.5, 0.6, 0.6]),
    ]
    answer = early_stopping.page(OPTIONS, mixed, 40, 100)[1]
    assert "no difference shown (+0.0 points, -10.0 to 10.0, n = 2) in the test" in answer


def test_a_sweep_whose_runs_all_diverge_says_so():
    lost = [{"seed": seed, "diverged_at": 3, "curve": {}} for seed in range(2)]
    _, answer, _, sections = early_stopping.page(OPTIONS, lost, 40, 100)
    assert answer == "Every network diverged: there is no curve to stop on."
    assert "2 more diverged" in sections[0]


def test_noise_is_that_of_images_drawn_from_validation():
    """One of two evaluations of a network that is right on half of the images: the better of two
    fair coins is heads three times in four, while the network stays what it is."""
    flat = row(0, loss=[1.0] * 4, top1=[0.5, 0.5], test=[0.3, 0.3])
    for name in ("step", "test/loss"):
        flat["curve"][name] = flat["curve"][name][:2]
    coins = early_stopping.noisy([flat], 1, 100, patience=5)
    assert coins.told == pytest.approx(0.75, abs=0.1)  # 200 draws: 3 standard errors
    assert coins.true == pytest.approx(0.5) and coins.test == pytest.approx(0.3)
    assert coins.updates == pytest.approx(20)
    whole = early_stopping.noisy([row(0, loss=[1.0] * 4)], 100, 100, patience=2)
    assert whole.told == whole.true == pytest.approx(0.7)
    assert whole.test == pytest.approx(0.6) and whole.updates == pytest.approx(40)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="patience, noise and shown have to be at least 1"):
        early_stopping.Options(patience=(0, 1))
