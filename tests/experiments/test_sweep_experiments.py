"""What the experiments on optimizers, batch size and normalization say of rows made by hand."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import batch_size
import gradients
import multi_task
import normalization
import numpy as np
import optimizers
import pytest
import rounding
import sweeping
from answers import Chance
from matplotlib.figure import Figure
from PIL import Image


def ended(validation, *, test=None, loss=0.5, diverged_at=None, steps=(100, 200), **case):
    """A row; its curve rises to the end in equal steps."""
    if diverged_at is not None:
        return {**case, "diverged_at": diverged_at, "curve": {}}
    shares = [validation * (i + 1) / len(steps) for i in range(len(steps))]
    curve = {"step": list(steps), "validation/top1": shares, "train/loss": [1.0] * len(steps)}
    last = {"validation/top1": validation, "validation/loss": loss, "step": steps[-1]}
    more = {} if test is None else {"test/top1": test}
    return {**case, "diverged_at": None, **last, **more, "curve": curve}


# ---- optimizers ----------------------------------------------------------------------------------

SOME = optimizers.Options(methods=("momentum", "Adam", "Lion"), factors=(1.0, 10.0), seeds=2)


def optimizer_rows():
    """Adam is best at ten times its rate, diverging once; momentum at its own; Lion diverges."""

    def row(method, rate, seed, share, **more):
        return ended(share, test=share, method=method, rate=rate, seed=seed, **more)

    return [
        row("momentum", 0.03, 0, 0.70, loss=0.55),
        row("momentum", 0.3, 0, 0.50, diverged_at=7),
        row("Adam", 0.001, 0, 0.72, loss=0.60),
        row("Adam", 0.01, 0, 0.78, loss=0.52),
        row("Lion", 0.0003, 0, 0.5, diverged_at=3),
        row("Lion", 0.003, 0, 0.5, loss=math.nan),
        row("momentum", 0.03, 1, 0.66),
        row("Adam", 0.01, 1, 0.5, diverged_at=90),
    ]


def best_rate_of(rows, method):
    return sweeping.best_rate([row for row in rows if row["method"] == method])


def test_the_best_rate_is_that_of_the_least_loss_among_those_that_end_finite():
    rows = optimizer_rows()
    assert best_rate_of(rows, "momentum") == 0.03
    assert best_rate_of(rows, "Adam") == 0.01
    assert best_rate_of(rows, "Lion") is None
    # another seed has no say
    rows.append(ended(0.9, test=0.9, loss=0.1, method="momentum", rate=0.3, seed=1))
    assert best_rate_of(rows, "momentum") == 0.03


def test_rates_are_multiples_of_the_usual_one():
    assert optimizers.rates("momentum", (0.1, 1.0, 3.0)) == [0.003, 0.03, 0.09]


def test_optimizers_are_told_with_those_that_diverged():
    title, answer, figure, sections = optimizers.page(SOME, optimizer_rows(), 200, "test")
    assert title.endswith("?") and isinstance(figure, Figure)
    assert answer.startswith(
        "Adam gets most answers right at its best learning rate: 78.0 %, 1 of 2 diverged; "
        "against momentum, no difference shown (+8.0 points, 8.0 to 8.0, n = 1)."
    )
    assert answer.endswith("Every learning rate of Lion diverged.")
    # momentum's finite rates lie 0 points apart, Adam's 6: the median is 3; the tops 8
    assert "costs 3.0 points in the median (0.0 to 6.0, 2 methods)" in answer
    assert "matters no more than the choice" in answer and "lie within 8.0 points (" in answer
    page = "\n".join(sections)
    assert "| momentum | 0.03 | 68.0 % (66.0 to 70.0) |  |" in page
    assert "| Lion |  | diverged at every rate |  |" in page
    assert "| momentum | 0.03 | 0.550 | diverged at 7 |" in page
    assert "Adam's is the largest that was tried" in page


def test_optimizers_that_all_diverge_say_so():
    options = optimizers.Options(methods=("SGD",), factors=(1.0,), seeds=1)
    rows = [ended(0.5, diverged_at=2, method="SGD", rate=0.1, seed=0)]
    _, answer, _, _ = optimizers.page(options, rows, 200, "test")
    assert answer == "Nothing is shown. Every learning rate of SGD diverged."


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="no method is called 'Adan'; there are SGD, momentum"):
        optimizers.Options(methods=("Adan",))
    with pytest.raises(ValueError, match="factors"):
        optimizers.Options(factors=())


# ---- batch size ----------------------------------------------------------------------------------

TWO = batch_size.Options(batches=(32, 64), seeds=2, target=0.7, learning_rate=0.02)


def batch_rows(scaled):
    """32 reaches 70 % at the end; 64 at a constant rate never, at a scaled one as `scaled` says."""

    def row(batch, rate, seed, share, **more):
        return ended(share, batch=batch, rate=rate, seed=seed, **more)

    return [
        row(32, 0.02, 0, 0.72),
        row(32, 0.02, 1, 0.74, steps=(50, 100, 150, 200, 250)),
        row(64, 0.02, 0, 0.60, steps=(50, 100)),
        row(64, 0.02, 1, 0.62, steps=(50, 100)),
        *(row(64, 0.04, seed, share, steps=(50, 100)) for seed, share in enumerate(scaled)),
    ]


def test_the_target_is_reached_at_the_first_evaluation_that_is_as_good():
    row = {"curve": {"step": [10, 20, 30], "validation/top1": [0.6, 0.7, 0.9]}}
    assert batch_size.reached(row, 0.7) == 20
    assert batch_size.reached(row, 0.95) is None
    assert batch_size.reached({"curve": {}}, 0.5) is None


def test_batch_sizes_are_told_with_updates_and_images_to_the_target():
    _, answer, figure, sections = batch_size.page(TWO, batch_rows((0.75, 0.71)), 250)
    assert isinstance(figure, Figure)
    page = "\n".join(sections)
    counts = "225 (200 to 250) | 7,200 (6,400 to 8,000)"
    assert f"| 32 | 0.02 | 73.0 % (72.0 to 74.0) | {counts} |" in page
    assert "| 64 | 0.02 | 61.0 % (60.0 to 62.0) | not reached | not reached |" in page
    counts = "100 (100 to 100) | 6,400 (6,400 to 6,400)"
    assert f"| 64 | 0.04 | 73.0 % (71.0 to 75.0) | {counts} |" in page
    assert "| 64 | 12.0 points more (9.0 to 15.0, n = 2) |" in page
    assert "a batch of 32 gets most right, 73.0 % (72.0 to 74.0)." in answer
    assert "Scaling the rate with the batch gains at 64." in answer
    assert (
        "Of the batches that reach 70 % from every start at the scaled rate, 64 takes the fewest "
        "updates, 100 (100 to 100), and the fewest images, 6,400 (6,400 to 6,400)." in answer
    )


def test_a_scaled_rate_that_loses_diverges_or_shows_nothing_is_told():
    told = {
        (0.5, 0.55): "loses at 64",
        (0.75, 0.5): "shows no difference at 64",
    }
    for scaled, words in told.items():
        assert words in batch_size.scaling(TWO, batch_rows(scaled))
    diverged = batch_rows(())
    diverged += [ended(0.5, diverged_at=4, batch=64, rate=0.04, seed=s) for s in (0, 1)]
    _, answer, _, sections = batch_size.page(TWO, diverged, 250)
    assert "loses at 64" in answer
    assert "| 64 | 0.04 | diverged | not reached | not reached |" in "\n".join(sections)


def test_batch_sizes_that_all_diverge_say_so():
    rows = [
        ended(0.5, diverged_at=2, batch=batch, rate=rate, seed=seed)
        for batch, rate in ((32, 0.02), (64, 0.02), (64, 0.04))
        for seed in (0, 1)
    ]
    _, answer, _, _ = batch_size.page(TWO, rows, 250)
    assert answer.startswith("Nothing is shown")


def test_batches_without_the_base_are_refused():
    with pytest.raises(ValueError, match="expected 32 and others"):
        batch_size.Options(batches=(8, 16))
    with pytest.raises(ValueError, match="share"):
        batch_size.Options(target=70)


# ---- normalization -------------------------------------------------------------------------------

CHANCE = Chance(0.5, 800)
BOTH = normalization.Options(
    normalizations=("none", "batch"), rates=(0.03, 1.0), learning_rate=0.03, seeds=2
)


def normalization_rows(none=(0.6, 0.64)):
    def row(name, position, rate, seed, share, **more):
        case = {"normalization": name, "position": position, "rate": rate, "seed": seed}
        return ended(share, **case, **more)

    return [
        *(row("none", "", 0.03, seed, share) for seed, share in enumerate(none)),
        row("none", "", 1.0, 0, 0.5, diverged_at=5),
        row("none", "", 1.0, 1, 0.58),
        row("batch", "before", 0.03, 0, 0.66),
        row("batch", "before", 0.03, 1, 0.70),
        row("batch", "before", 1.0, 0, 0.7),
        row("batch", "before", 1.0, 1, 0.68),
        row("batch", "after", 0.03, 0, 0.67),
        row("batch", "after", 0.03, 1, 0.65),
        row("batch", "after", 1.0, 0, 0.53),
        row("batch", "after", 1.0, 1, 0.7),
    ]


def test_chance_is_left_behind_by_two_standard_errors():
    assert CHANCE.limit == pytest.approx(0.5 + 2 * 0.0176777, abs=1e-6)


def test_normalizations_are_told_with_the_largest_rate_that_each_survives():
    _, answer, figure, sections = normalization.page(BOTH, normalization_rows(), 200, CHANCE)
    assert isinstance(figure, Figure)
    assert answer == (
        "At a rate of 0.03, batch before ReLU gets most right, 68.0 % (66.0 to 70.0); "
        "against none, 6.0 points more (6.0 to 6.0, n = 2). The largest rate at which all 2 starts "
        "learn is 1, the top of the ladder, for batch before ReLU; 0.03 for none and batch after "
        "ReLU."
    )
    page = "\n".join(sections)
    # 53 % of 800 images are within two standard errors of guessing: one of two starts learned.
    gain = "4.0 points more (1.0 to 7.0, n = 2)"
    assert f"| batch after ReLU | 66.0 % (65.0 to 67.0) | {gain} | 0.03 |" in page
    assert "| none | 62.0 % (60.0 to 64.0) | 58.0 %, 1 of 2 diverged |" in page
    assert "| batch | no difference shown (+2.0 points, -1.0 to 5.0, n = 2) |" in page


def test_a_rate_that_learns_above_one_that_does_not_is_no_limit():
    options = normalization.Options(
        normalizations=("none",), rates=(0.003, 0.03, 0.1, 0.3), learning_rate=0.03, seeds=1
    )
    none = normalization.Kind("none", "")

    def limit(*shares):
        rows = [
            ended(share, normalization="none", position="", rate=rate, seed=0)
            for rate, share in zip(options.rates, shares, strict=True)
        ]
        return normalization.largest(options, rows, none, CHANCE)

    assert limit(0.5, 0.7, 0.5, 0.6) == 0.03  # too slow at first, and lucky at the end
    assert limit(0.6, 0.7, 0.7, 0.7) == 0.3
    assert limit(0.5, 0.5, 0.5, 0.5) is None


def test_normalizations_that_all_fail_say_so():
    options = normalization.Options(
        normalizations=("none",), rates=(0.03,), learning_rate=0.03, seeds=1
    )
    rows = [
        ended(0.5, diverged_at=9, normalization="none", position="", rate=0.03, seed=0),
    ]
    _, answer, _, _ = normalization.page(options, rows, 200, CHANCE)
    assert answer == ("At a rate of 0.03 every network diverged. No network learns at any rate.")


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="no normalization is called 'instance'; there are none"):
        normalization.Options(normalizations=("instance",))
    with pytest.raises(ValueError, match=r"expected 0\.5, the common one"):
        normalization.Options(learning_rate=0.5)


# ---- at full size --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        lambda: optimizers.base_config(optimizers.Options(full=True)),
        lambda: multi_task.base_config(multi_task.Options(full=True)),
        lambda: rounding.config(rounding.Options(full=True), 100),
        lambda: gradients.config(gradients.Options(full=True), 4, "relu", None),
    ],
)
def test_full_is_the_lectures_network_on_its_own_pictures(config):
    made = config()
    assert (made.spec, made.input.size, made.model.width) == ("notes_224", 224, None)


def test_full_makes_ten_times_the_updates_however_long_a_step_takes(monkeypatch):
    def batches(*_):
        while True:
            yield None

    monkeypatch.setattr(sweeping, "train_batches", batches)
    monkeypatch.setattr(sweeping.time, "monotonic", itertools.count(0.0, 1.0).__next__)
    step = SimpleNamespace(step=lambda state, batch: (0, 0))
    parts = SimpleNamespace(create=lambda: 0, stages=[step])
    options = optimizers.Options(updates=300, minutes=10)
    assert sweeping.fitting(options, parts, 5) == 120  # 600 s for 5 networks, a second a step
    assert sweeping.fitting(optimizers.Options(updates=300, full=True), parts, 5) == 3000


# ---- end to end ----------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Noise, dark or bright: eight pictures to train on and four of validation, no test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "pictures" / ("train" if i < 8 else "val") / ("dark", "bright")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (32, 32, 3)) + 150 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return {"data": str(tmp_path / "pictures"), "updates": 40, "out": str(tmp_path / "out")}


def rows_of(asked):
    return json.loads(Path(asked["out"], "results.json").read_text())["rows"]


def page_of(asked):
    return Path(asked["out"], "README.md").read_text()


@pytest.mark.slow
def test_a_sweep_of_optimizers_trains_its_best_from_other_starts(asked):
    options = optimizers.Options(
        **asked, batch_size=4, methods=("SGD",), factors=(0.1, 1e9), seeds=2
    )
    optimizers.main(options)
    found = sorted(rows_of(asked), key=lambda row: (row["seed"], row["rate"]))
    first, diverged, again = found
    assert (first["rate"], first["seed"]) == (0.01, 0) and first["diverged_at"] is None
    assert diverged["rate"] == 1e8 and diverged["diverged_at"] >= 1
    assert (again["rate"], again["seed"]) == (0.01, 1)
    assert "which was chosen there, since there is no test" in page_of(asked)
    optimizers.main(options)  # draws the page anew
    assert sorted(rows_of(asked), key=lambda row: (row["seed"], row["rate"])) == found


@pytest.mark.slow
def test_batches_of_all_sizes_see_as_many_images(asked):
    batch_size.main(batch_size.Options(**asked, batch_size=4, batches=(2, 4, 8), seeds=1))
    found = {(row["batch"], row["rate"]): row["step"] for row in rows_of(asked)}
    assert found == {(2, 0.02): 80, (2, 0.01): 80, (4, 0.02): 40, (8, 0.02): 20, (8, 0.04): 20}
    assert "Every network sees 160 images" in page_of(asked)


@pytest.mark.slow
def test_normalizations_stand_before_and_after(asked):
    options = normalization.Options(
        **asked, batch_size=4, seeds=2, normalizations=("batch",), rates=(0.01, 0.3)
    )
    normalization.main(options)
    cases = [(row["position"], row["rate"], row["seed"]) for row in rows_of(asked)]
    ladder = [(0.01, 0), (0.01, 1), (0.3, 0), (0.3, 1)]
    assert cases == [(where, *case) for where in ("before", "after") for case in ladder]
    losses = [row["curve"]["train/loss"][0] for row in rows_of(asked)]
    assert losses[0] != losses[4]  # the position is not ignored
