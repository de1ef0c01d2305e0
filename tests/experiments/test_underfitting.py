"""What capacity and a better start are worth is what the rows say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import underfitting
from test_transfer_experiments import pictures
from underfitting_figure import COLD, LONG, WARM

from alexnet_jax.models.spec import multiply_adds, spec

OPTIONS = underfitting.Options(seeds=2)


def net(width, depth, seed, *, seen, test, diverged_at=None):
    size = {"parameters": round(1000 * width), "multiply_adds": round(5000 * width * depth)}
    scores = {"seen/top1": seen, "test/top1": test, "diverged_at": diverged_at}
    return {"width": width, "depth": depth, "seed": seed, **size, **scores}


def begun(start, seed, curve):
    steps = [10, 20, 30]
    scores = {"test/top1": curve[-1], "train/top1": 0.9, "diverged_at": None}
    return {"start": start, "seed": seed, "curve": {"step": steps, "test/top1": curve}, **scores}


ROWS = [
    net(width, depth, seed, seen=seen + 0.1 * seed, test=test)
    for width, depth, seen, test in ((0.1, 1, 0.6, 0.55), (1.0, 1, 0.7, 0.6), (1.0, 2, 0.6, 0.6))
    for seed in (0, 1)
]
STARTS = [
    begun(start, seed, curve)
    for start, curve in ((COLD, [0.3, 0.4, 0.5]), (WARM, [0.4, 0.55, 0.6]), (LONG, [0.4, 0.5, 0.6]))
    for seed in (0, 1)
]


def test_the_answer_is_what_the_rows_are():
    title, answer, drawn, sections = underfitting.page(
        OPTIONS, underfitting.base_config(OPTIONS), ROWS, STARTS, 30
    )
    assert title.endswith("?") and len(drawn.axes) == 3
    assert (
        "At width 0.1 (100 parameters) the network gives the right answer to 65.0 % (60.0 to 70.0) "
        "of its own training images and to 55.0 % (55.0 to 55.0) of the test. Width 1 (1,000 "
        "parameters) has 10.0 points more (10.0 to 10.0, n = 2) in training and 5.0 points more"
    ) in answer
    assert "Depth 2 against depth 1: 10.0 points fewer (10.0 to 10.0, n = 2) in training" in answer
    assert "no difference shown (+0.0 points, 0.0 to 0.0, n = 2) in test" in answer
    assert (
        "after 30 updates, a pre-trained start has 10.0 points more (10.0 to 10.0, n = 2) than a "
        "cold one, whose 50.0 % it reaches by update 20."
    ) in answer
    assert answer.endswith("it has no difference shown (+0.0 points, 0.0 to 0.0, n = 2).")
    assert "| width 1, depth 2 | 1,000 | 10,000 |" in sections[1]


def test_networks_that_diverge_are_told_and_left_out():
    config = underfitting.base_config(OPTIONS)
    rows = [{**row, "diverged_at": 2 if row["depth"] == 2 else None} for row in ROWS]
    _, answer, _, sections = underfitting.page(OPTIONS, config, rows, STARTS, 30)
    assert sections[-1] == "2 networks diverged and are left out: width 1, depth 2."
    assert "Depth" not in answer
    every = [{**row, "diverged_at": 1} for row in ROWS]
    _, answer, _, _ = underfitting.page(OPTIONS, config, every, [], 30)
    assert answer == "Every network diverged: there is nothing to compare."


def test_multiply_adds_at_another_size():
    """Of `small` at 32 pixels, by hand: 16x16, 7x7 after the first pool, 3x3 after the second."""
    convs = 16 * 16 * 25 * 3 * 32 + 7 * 7 * 25 * 32 * 64
    convs += 3 * 3 * 9 * (64 * 96 + 96 * 96 + 96 * 64)
    assert multiply_adds(spec("small"), 32) == convs + 64 * 256 + 256 * 256 + 2560


def test_data_that_cannot_be_reported_on_are_refused_before_anything_is_trained(tmp_path):
    data = pictures(tmp_path / "A", ("dark", "bright"), 0)
    with pytest.raises(ValueError, match=r"has no test images, .* it has train, validation"):
        underfitting.main(underfitting.Options(data=data, batch_size=4, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_experiment_is_completed_and_its_source_is_what_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = []
    for name, classes in (("A", ("dark", "bright")), ("B", ("night", "dusk", "day"))):
        folder = pictures(tmp_path / name, classes, len(name))
        (tmp_path / name / "test").symlink_to(tmp_path / name / "val")
        folders.append(folder)
    options = underfitting.Options(
        data=folders[0],
        other=folders[1],
        seeds=1,
        updates=40,
        batch_size=4,
        widths=(0.1,),
        depths=(1,),
        out=str(tmp_path / "out"),
    )
    underfitting.main(options)
    path = tmp_path / "out" / "results.json"
    whole = json.loads(path.read_text())
    cases = {row.get("start", row.get("width")) for row in whole["rows"]}
    assert cases == {0.1, 1.0, COLD, WARM, LONG} and len(whole["rows"]) == 5
    counts = {row["width"]: row["parameters"] for row in whole["rows"] if "width" in row}
    assert counts[0.1] < counts[1.0]
    long, cold = (next(r for r in whole["rows"] if r.get("start") == s) for s in (LONG, COLD))
    assert long["curve"]["step"][-1] == 2 * cold["curve"]["step"][-1] == 80
    (tmp_path / "out" / "README.md").unlink()

    kept = [row for row in whole["rows"] if row.get("start") != WARM]
    path.write_text(json.dumps({**whole, "rows": kept}))
    underfitting.main(options)
    again = json.loads(path.read_text())["rows"]
    warm = [next(r for r in rows if r.get("start") == WARM) for rows in (whole["rows"], again)]
    assert np.allclose(warm[0]["curve"]["test/loss"], warm[1]["curve"]["test/loss"], atol=1e-4)
    assert len(again) == 5 and (tmp_path / "out" / "README.md").exists()
