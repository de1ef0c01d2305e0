"""A case of a sweep is trained as the run of the same settings is."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.settings import changed
from alexnet_jax.sweep import sweep
from alexnet_jax.training import train


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_pictures):
    """Red against green, with noise: three classes would be a harder question."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)

    def tinted(channel):
        pixels = rng.integers(0, 256, (36, 36, 3))
        pixels[..., 1 - channel] = np.minimum(pixels[..., 1 - channel] + 25, 255)
        return pixels

    write_pictures(folder, {"train": 12, "val": 5}, ("green", "red"), tinted)
    return Config(
        data=str(folder),
        run_dir=str(folder / "run"),
        epochs=2,
        batch_size=8,
        patience=None,
        model=Model(width=0.25, dropout_rate=0.25, activation="elu"),
        optimizer=Optimizer(momentum=0.9),
        augment=Augment(flip=0.5),
        input=Input(size=32),
        run=Run(evaluate_every="16 examples", precision="exact"),
    )


CASES = [
    {"seed": 0, "learning_rate": 0.02},
    {"seed": 1, "learning_rate": 0.01, "optimizer.l2": 1e-3, "model.dropout_rate": 0.0},
    {"seed": 2, "learning_rate": 1e25},  # diverges
]


@pytest.fixture(scope="module")
def alone(config):
    return list(sweep(config, CASES, splits=("validation", "train"), together=False))


@pytest.mark.slow
def test_a_case_is_the_run_of_its_settings(config, alone):
    """Against metrics.csv of the run that has the second case's settings."""
    train(changed(config, CASES[1]), "the command")
    with open(f"{config.run_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in alone[1].rows] == [2, 4, 6] == [int(r["step"]) for r in rows]
    for row, written in zip(alone[1].rows, rows, strict=True):
        for name in ("train/loss", "train/penalty", "validation/loss", "validation/top1"):
            assert row[name] == pytest.approx(float(written[name]), rel=1e-6)
    assert alone[1].diverged_at is None and alone[1].case == CASES[1]


@pytest.mark.slow
def test_at_once_or_one_after_the_other_is_the_same(config, alone):
    both = list(sweep(config, CASES, splits=("validation", "train"), together=True))
    assert [o.case for o in both] == CASES
    assert 0 < both[2].diverged_at == alone[2].diverged_at <= 3
    for one, other in zip(alone, both, strict=True):
        assert len(one.rows) == len(other.rows) == (3 if one.diverged_at is None else 0)
        assert [row["step"] for row in one.rows] == [row["step"] for row in other.rows]
        for row, same in zip(one.rows, other.rows, strict=True):
            assert row == pytest.approx(same, rel=1e-4, abs=1e-6)
    assert alone[0].rows[-1]["seen/loss"] != alone[1].rows[-1]["seen/loss"]


def test_changes_by_name(config):
    case = {"optimizer.l2": 0.5, "optimizer.name": "adam", "seed": 3}
    made = changed(config, case)
    assert (made.optimizer.l2, made.optimizer.name, made.seed) == (0.5, "adam", 3)
    assert dataclasses.replace(made, optimizer=config.optimizer, seed=0) == config
    with pytest.raises(ValueError, match=r"'optimizer.l3'; did you mean 'l[12]'"):
        changed(config, {"optimizer.l3": 1.0})
    with pytest.raises(ValueError, match=r"no setting is called 'seed\.x'"):
        changed(config, {"seed.x": 1.0})


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"optimizer.name": "adamm"}, "did you mean 'adam'"),
        ({"model.kernel_init": "he"}, "kernel_init is 'he'; .* there are glorot_uniform"),
        ({"model.normalization": "batchnorm"}, "none, local_response, batch, layer"),
    ],
)
def test_an_unknown_name_lists_those_there_are(config, case, expected):
    with pytest.raises(ValueError, match=expected):
        sweep(config, [{}, case])  # before the first is trained


def test_what_a_sweep_cannot_do_is_refused(config):
    with pytest.raises(ValueError, match="no stages"):
        sweep(config, [{"transfer.freeze": ("pool5", "none after 2 epochs")}])
    with pytest.raises(ValueError, match=r"no setting is called 'optimiser\.l2'"):
        sweep(config, [{}, {"optimiser.l2": 1.0}])
