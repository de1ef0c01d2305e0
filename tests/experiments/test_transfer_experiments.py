"""The experiments on transfer, end to end: a tiny source, a few pictures, few updates."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import transfer
import transferability
from PIL import Image

from alexnet_jax.config import Config, Input, Model, Optimizer, Run
from alexnet_jax.models.spec import spec
from alexnet_jax.training import train


def pictures(folder, names, seed):
    """Four training and two validation pictures of each class: noise of its own brightness."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(names):
        for i in range(6):
            pixels = rng.integers(0, 100, (36, 36, 3)) + 150 * label // (len(names) - 1)
            place = folder / ("train" if i < 4 else "val") / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run on two classes."""
    folder = tmp_path_factory.mktemp("source")
    config = Config(
        data=pictures(folder / "A", ("dark", "bright"), 0),
        run_dir=str(folder / "run"),
        epochs=1,
        batch_size=4,
        model=Model(width=0.1, kernel_init="lecun_uniform"),
        optimizer=Optimizer(momentum=0.9),
        input=Input(canvas=36, size=32),
        run=Run(precision="exact"),  # which compiles in less time
    )
    train(config, "train")
    return config.run_dir


@pytest.fixture
def options(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = pictures(tmp_path / "B", ("night", "dusk", "day"), 1)
    shared = {"source": source, "data": data, "seeds": 2, "updates": 4, "batch_size": 4}
    return shared | {"out": str(tmp_path / "out")}


@pytest.mark.slow
def test_every_way_to_transfer_is_measured_and_told(options, tmp_path):
    asked = transfer.Options(**options, per_class=(2, 0))
    transfer.main(asked)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    # two draws of two sizes of five methods; a probe on all images has one draw
    assert len(rows) == 2 * 2 * 5 - 1
    for row in rows:
        assert row["images"] == (6 if row["per_class"] else 12)
        assert row["accuracy"] * 6 == pytest.approx(round(row["accuracy"] * 6))  # of six pictures
    page = (tmp_path / "out" / "README.md").read_text()
    assert "there is no test split; nothing was chosen on it" in page
    few = {
        method: np.mean([r["accuracy"] for r in rows if r["method"] == method and r["per_class"]])
        for method in transfer.COLOURS
    }
    ways = {method: share for method, share in few.items() if method != "from scratch"}
    gain = 100 * (max(ways.values()) - few["from scratch"])
    told = re.search(r"at 2 images a class the best way is [^:]*: \D*([\d.]+) points", page)
    assert float(told[1]) == pytest.approx(abs(gain), abs=0.06)


@pytest.mark.slow
def test_each_cut_is_measured_frozen_and_trained_along(options, tmp_path):
    asked = transferability.Options(**options, per_class=2, cuts=("pool5",))
    transferability.main(asked)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    cases = {(row["first_part"], row["cut"]) for row in rows}
    assert cases == {("from scratch", "")} | {
        (part, cut) for part in ("frozen", "trained along") for cut in ("pool5",)
    }
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| up to pool5 |" in page


def test_what_lies_behind_a_cut_stays_fresh():
    (pattern,) = transferability.behind(spec("small"), "conv4")
    fresh = ("head/kernel", "backbone/conv5/bias", "backbone/norm5/scale", "backbone/fc6/kernel")
    assert all(re.search(pattern, name) for name in fresh)
    assert not any(re.search(pattern, f"backbone/conv{i}/kernel") for i in range(1, 5))
    assert transferability.behind(spec("small"), "fc7") == ("^head/",)


def test_the_answer_follows_from_the_rows():
    """Two draws at 5 images, two at 50; the means and differences by hand."""
    shares = {
        ("from scratch", 5): (0.30, 0.40),
        ("linear probe", 5): (0.50, 0.50),
        ("fine-tuned", 5): (0.60, 0.50),
        ("from scratch", 50): (0.60, 0.60),
        ("linear probe", 50): (0.90, 0.80),
        ("fine-tuned", 50): (0.80, 0.82),
    }
    rows = [
        {"method": method, "per_class": per_class, "seed": seed, "accuracy": share}
        for (method, per_class), pair in shares.items()
        for seed, share in enumerate(pair)
    ]
    methods = ("from scratch", "linear probe", "fine-tuned")
    told = transfer.answer(transfer.Options(per_class=(5, 50), methods=methods), rows)
    assert told == (
        "Against a network from scratch, at 5 images a class the best way is fine-tuned: "
        "20.0 points more (10.0 to 30.0, n = 2); at 50 images a class the best way is linear "
        "probe: 25.0 points more (20.0 to 30.0, n = 2). At 50 images a class, fine-tuning against "
        "the linear probe: no difference shown (-4.0 points, -10.0 to 2.0, n = 2)."
    )


def test_the_answer_compares_where_networks_were_trained():
    """A probe at three sizes beside networks trained at one: the sentence is about that one."""
    shares = {("from scratch", 20): 0.5, ("fine-tuned", 20): 0.75} | {
        ("linear probe", per_class): 0.7 for per_class in (5, 20, 0)
    }
    rows = [
        {"method": method, "per_class": per_class, "seed": 0, "images": 9, "accuracy": share}
        for (method, per_class), share in shares.items()
    ]
    methods = ("from scratch", "linear probe", "fine-tuned")
    sizes = {"per_class": (5, 20, 0), "trained_per_class": (20,)}
    asked = transfer.Options(**sizes, methods=methods, learning_rate=0.01)
    _, told, _, (_, table, _) = transfer.page(asked, rows, "test", 8)
    assert told == (
        "Against a network from scratch, at 20 images a class the best way is fine-tuned: "
        "no difference shown (+25.0 points, 25.0 to 25.0, n = 1). At 20 images a class, "
        "fine-tuning against the linear probe: no difference shown (+5.0 points, 5.0 to 5.0, "
        "n = 1)."
    )
    assert "| 5 |  | 70.0 % |  |" in table and "| 20 | 50.0 % | 70.0 % | 75.0 % |" in table


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no method is called 'magic'; there are from scratch"):
        transfer.Options(methods=("magic",))
    with pytest.raises(ValueError, match="at least 1"):
        transfer.Options(seeds=0)
    with pytest.raises(ValueError, match="expected 'from scratch' and others"):
        transfer.Options(methods=("fine-tuned",))
    with pytest.raises(ValueError, match=r"is \(7,\); expected some of per_class, \(5, 10"):
        transfer.Options(trained_per_class=(7,))
