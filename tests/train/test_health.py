"""When a run warns, of which layer, and that looking changes nothing."""

from __future__ import annotations

import csv
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import (
    AlexNet,
    TrainState,
    assemble,
    classification,
    init_state,
    optimizer,
    spec,
    training,
    watch,
)
from alexnet_jax.config import Config, Input, Model, Optimizer, Run
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.rows import blank
from alexnet_jax.leaves import digest
from alexnet_jax.recipes import recipe
from alexnet_jax.train.checkpoint import load_arrays
from alexnet_jax.train.health import examine, warnings

SANE = {"update_ratio": {"conv1": 1e-3, "fc6": 2e-3, "head": 5e-3}, "dead": {"conv1": 0.1}}


def test_nothing_is_said_within_bounds():
    assert warnings(SANE) == {}
    assert warnings({"update_ratio": {}, "dead": {}}) == {}
    assert warnings({"update_ratio": {"conv1": np.nan}, "dead": {"conv1": np.nan}}) == {}
    # The first update of a head of zeros: neither is it too fast, nor are the others slow.
    first = SANE["update_ratio"] | {"head": np.inf}
    assert warnings(SANE | {"update_ratio": first}) == {}


def test_a_warning_names_layer_figure_bound_and_what_to_try():
    ratios = {"conv1": 0.3, "fc6": 2.5, "head": 1e-3}
    (said,) = warnings(SANE | {"update_ratio": ratios}).values()
    for part in ("moved fc6 by 2.5 ", "up to 0.1)", "and 1 more layer. ", "--learning-rate"):
        assert part in said
    said = warnings(SANE | {"dead": {"conv1": 0.6, "conv2": 0.875}})["dead"]
    for part in ("88% of conv2's", "up to 50%)", "and 1 more layer:", "leaky_relu"):
        assert part in said


def test_a_layer_is_slow_against_the_fastest_alone():
    slow = {"conv1": 1e-9, "fc6": 1e-3, "head": 1e-2}
    said = warnings(SANE | {"update_ratio": slow})
    assert set(said) == {"slow"}
    for part in ("moved conv1 by 1e-09 ", "head by 0.01", "at least 1e-05", "--model.kernel-init"):
        assert part in said["slow"]
    # The end of a schedule, where nothing moves, is no vanishing gradient.
    later = {layer: ratio * 1e-3 for layer, ratio in slow.items()}
    assert warnings(SANE | {"update_ratio": later}) == {}
    assert warnings(SANE | {"update_ratio": dict.fromkeys(slow, 0.0)}) == {}


def test_figures_are_of_what_is_trained_and_of_relus(he_kernels):
    preprocessing = Preprocessing(32, 32, mean=(120.0,) * 3, std=(60.0,) * 3)
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8),
        "valid": np.arange(40) < 35,
    }

    def figures(activation, valid=batch["valid"]):
        shape = spec("small", num_classes=3, width=0.1, kernel_init="zeros", activation=activation)
        task, tx = classification(AlexNet(shape)), optimizer("sgd", learning_rate=0.1)
        state = init_state(seed=0, task=task, tx=tx, image_shape=(32, 32, 3))
        params = he_kernels(state.params)
        before = jax.tree.map(jnp.copy, params)
        before["backbone"]["conv1"] = {"kernel": None, "bias": None}  # frozen
        params["backbone"]["fc6"]["kernel"] *= 1.01
        params["backbone"]["conv3"]["bias"] -= 1e6  # kills it, and leaves conv4 its zero bias
        state = state.replace(params=params, opt_state=None)
        found = examine(
            before, state, batch | {"valid": valid}, task=task, preprocessing=preprocessing
        )
        return jax.tree.map(float, found)

    found = figures("relu")
    ratios = found["update_ratio"]
    assert "backbone/conv1" not in ratios
    assert ratios.pop("backbone/fc6") == pytest.approx(0.01, rel=1e-4)
    assert set(ratios.values()) == {0.0}
    dead = found["dead"]
    assert list(dead) == [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7"]
    assert dead["conv3"] == 1.0 and dead["conv4"] == 1.0 and dead["conv1"] < 0.5
    assert all(np.isnan(share) for share in figures("relu", np.arange(40) < 10)["dead"].values())
    assert figures("tanh")["dead"] == {}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, write_pictures):
    """Noise, dark and bright: train 2 x 8, validation 2 x 20."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)

    def noise(label):
        return rng.integers(0, 100, (32, 32, 3)) + 150 * label

    write_pictures(folder, {"train": 8, "val": 20}, ("dark", "bright"), noise)
    return str(folder)


def settings(pictures, run_dir):
    """Far too fast, but for conv1, which hardly moves."""
    return Config(
        data=pictures,
        run_dir=str(run_dir),
        epochs=3,
        batch_size=8,
        learning_rate=30.0,
        model=Model(width=0.1, kernel_init="lecun_uniform"),
        optimizer=Optimizer(clip=1.0, rules=("backbone/conv1/ lr_mult=1e-9",)),
        input=Input(size=32),
        run=Run(precision="exact"),
    )


@pytest.mark.slow
def test_a_run_warns_once_goes_on_and_ends_in_the_same_bits(
    pictures, tmp_path, capsys, monkeypatch
):
    def outcome(name):
        training.train(settings(pictures, tmp_path / name), "train")
        with open(tmp_path / name / "metrics.csv", encoding="utf-8", newline="") as file:
            rows = [
                {k: v for k, v in row.items() if not k.startswith("time/")}
                for row in csv.DictReader(file)
            ]
        return rows, digest(load_arrays(tmp_path / name / "checkpoints", 6)), capsys.readouterr()

    *looked, told = outcome("looked")
    assert len(looked[0]) == 3
    assert told.out.count("of its weights' norm (sane: up to 0.1)") == 1
    assert told.out.count("The last update moved backbone/conv1 by") == 1
    # Not to look is the reference.
    nothing = {"update_ratio": {}, "dead": {}}
    monkeypatch.setattr(watch, "examine", lambda *args, **settings: nothing)
    *did_not, told = outcome("did not")
    assert did_not == looked and "sane" not in told.out


@pytest.mark.parametrize(
    ("name", "classes"),
    [("street", 2), ("street-segmentation", 7), ("street-detection", 6), ("street-pose", 14)],
)
def test_every_task_can_be_looked_at(name, classes):
    config = recipe(name)
    preprocessing = assemble.make_preprocessing(config)
    task = assemble.make_task(config, assemble.make_spec(config, classes))
    shape = (preprocessing.size, preprocessing.size, 3)
    params, model_state = jax.eval_shape(lambda key: task.init(key, shape), jax.random.key(0))
    state = TrainState(0, params, model_state, None, None, 0)
    batch = blank(40, preprocessing.canvas, task.annotations)
    look = partial(examine, task=task, preprocessing=preprocessing)
    figures = jax.eval_shape(look, params, state, batch)
    net = task.net.spec
    layers = {tap for tap, _ in (*net.conv_layers(), *net.dense_layers())}
    assert set(figures["dead"]) == layers
    ratios = set(figures["update_ratio"])
    assert {f"backbone/{layer}" for layer in layers} < ratios
    assert any(layer.startswith("head") for layer in ratios)
