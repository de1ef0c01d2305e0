"""What a network begins with: parameters of a run or a file, and what is said of the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.detector import Detector, without_dense
from alexnet_jax.models.fcn import FCN
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.restored import load
from alexnet_jax.tasks.classification import classification
from alexnet_jax.tasks.detection import detection
from alexnet_jax.tasks.segmentation import segmentation
from alexnet_jax.train.checkpoint import load_arrays
from alexnet_jax.train.state import init_state
from alexnet_jax.transfer.initial import initial_state
from alexnet_jax.weights import of_run, write

RUN = Path(__file__).parents[1] / "train" / "format_1" / "run"


@pytest.fixture(scope="module")
def restored():
    return load(RUN)


@pytest.fixture(scope="module")
def arrays():
    return load_arrays(RUN / "checkpoints", 2)


def fresh(restored, **changes):
    """A state as another network begins with, all of it 9."""
    task = classification(AlexNet(dataclasses.replace(restored.task.net.spec, **changes)))
    tx = optimizer("sgd", learning_rate=0.1, ema=0.5)
    shapes = jax.eval_shape(lambda: init_state(seed=0, task=task, tx=tx, image_shape=(40, 40, 3)))
    return jax.tree.map(lambda x: jnp.full(x.shape, 9, x.dtype), shapes)


def test_an_equal_network_takes_all_parameters(restored, arrays):
    """The averaged ones, which are those that were evaluated."""
    state, said = initial_state(str(RUN), fresh(restored))
    jax.tree.map(np.testing.assert_array_equal, state.params, arrays["ema"])
    jax.tree.map(np.testing.assert_array_equal, state.ema, arrays["ema"])
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, state.params, arrays["params"])
    # A frozen backbone runs on these statistics.
    stats = arrays["model_state"]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, state.model_state["batch_stats"], stats)
    assert state.model_state["hyper"]["dropout_rate"] == 9  # a setting of the new run
    assert state.step == 9 and np.all(state.opt_state.count == 9)
    jax.jit(lambda x: x, donate_argnums=0)(state)  # holds no buffer twice
    assert str(RUN / "checkpoints" / "2") in said
    assert "head" not in said


def test_with_other_classes_the_head_stays(restored, arrays):
    given = str(RUN / "checkpoints" / "2")
    state, said = initial_state(given, fresh(restored, num_classes=5))
    for tree in (state.params, state.ema):
        jax.tree.map(np.testing.assert_array_equal, tree["backbone"], arrays["ema"]["backbone"])
        assert tree["head"]["kernel"].shape == (8, 5)
        assert np.all(tree["head"]["kernel"] == 9)
    assert "the head, of another number of classes, stays" in said


def test_a_classifiers_run_begins_a_segmentation(restored, arrays):
    """Its dense layer, reshaped, and its statistics; the scores of pixels stay as they are."""
    task = segmentation(FCN(dataclasses.replace(restored.task.net.spec, num_classes=3)))
    tx = optimizer("sgd", learning_rate=0.1)
    shapes = jax.eval_shape(lambda: init_state(seed=0, task=task, tx=tx, image_shape=(40, 40, 3)))
    nine = jax.tree.map(lambda x: jnp.full(x.shape, 9, x.dtype), shapes)
    state, said = initial_state(str(RUN), nine)
    given, own = arrays["ema"]["backbone"], state.params["backbone"]
    dense = given["fc6"]["kernel"]
    assert own["fc6"]["kernel"].shape == (*own["fc6"]["kernel"].shape[:3], dense.shape[1])
    np.testing.assert_array_equal(np.reshape(own["fc6"]["kernel"], dense.shape), dense)
    for layer in ("conv1", "fc7"):
        jax.tree.map(np.testing.assert_array_equal, own[layer], given[layer])
    stats = arrays["model_state"]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, state.model_state["batch_stats"], stats)
    assert all(np.all(leaf == 9) for leaf in jax.tree.leaves(state.params["head"]))
    assert said.endswith("; the head, of another task or form, stays at its initialization")


def test_a_classifiers_run_begins_a_detection(restored, arrays):
    """Its convolutions and their statistics; dense layers are left out, and it is said."""
    task = detection(Detector(without_dense(restored.task.net.spec)))
    tx = optimizer("sgd", learning_rate=0.1)
    shapes = jax.eval_shape(lambda: init_state(seed=0, task=task, tx=tx, image_shape=(40, 40, 3)))
    nine = jax.tree.map(lambda x: jnp.full(x.shape, 9, x.dtype), shapes)
    state, said = initial_state(str(RUN), nine)
    stats = arrays["model_state"]["batch_stats"]["backbone"]
    dense = {"fc6", "fc7", "norm6", "norm7"}
    for given, own in (
        (arrays["ema"]["backbone"], state.params["backbone"]),
        (stats, state.model_state["batch_stats"]["backbone"]),
    ):
        assert set(own) == set(given) - dense
        for layer, values in own.items():
            jax.tree.map(np.testing.assert_array_equal, values, given[layer])
    for part in ("neck", "boxes", "head"):
        assert all(np.all(leaf == 9) for leaf in jax.tree.leaves(state.params[part]))
    assert "; left out fc6" in said and "mix1" in said.partition("at their initialization stay")[2]


def test_a_head_follows_its_classes(restored, arrays):
    """The format-1 run's classes, turned round: each column still answers for its own class."""
    have = restored.classes
    assert len(have) >= 2
    source, turned = str(RUN), tuple(reversed(have))
    state, said = initial_state(source, fresh(restored), (), None, turned)
    for kind in ("kernel", "bias"):
        head = arrays["ema"]["head"][kind]
        np.testing.assert_array_equal(state.params["head"][kind], head[..., ::-1])
        np.testing.assert_array_equal(state.ema["head"][kind], head[..., ::-1])
    assert "classes were put into this data set's order" in said

    others = tuple(f"other {name}" for name in have)
    state, said = initial_state(source, fresh(restored), (), None, others)
    assert np.all(state.params["head"]["kernel"] == 9)
    assert f"the head, for the classes {', '.join(have)}, stays at its initialization" in said

    state, said = initial_state(source, fresh(restored), (), None, have)
    np.testing.assert_array_equal(state.params["head"]["kernel"], arrays["ema"]["head"]["kernel"])
    assert "head" not in said


def test_a_file_of_weights_gives_them_as_a_run_does(restored, arrays, tmp_path):
    path = str(tmp_path / "net.npz")
    write(of_run(restored), path)
    state, said = initial_state(path, fresh(restored), (), restored.preprocessing)
    jax.tree.map(np.testing.assert_array_equal, state.params, arrays["ema"])
    stats = arrays["model_state"]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, state.model_state["batch_stats"], stats)
    assert said == f"Parameters from {path}"

    brighter = dataclasses.replace(restored.preprocessing, mean=(1.0, 2.0, 3.0))
    state, said = initial_state(path, fresh(restored), ("fc", "norm2"), brighter)
    backbone, stats = state.params["backbone"], state.model_state["batch_stats"]["backbone"]
    assert np.all(backbone["fc7"]["kernel"] == 9) and np.all(stats["norm2"]["mean"] == 9)
    np.testing.assert_array_equal(
        backbone["conv1"]["kernel"], arrays["ema"]["backbone"]["conv1"]["kernel"]
    )
    assert "at their initialization stay fc6, fc7, norm2" in said and "left out" not in said
    assert "this run has [1.0, 2.0, 3.0]: --input.mean changes it" in said


def test_all_that_stays_or_is_left_out_is_told(restored):
    smaller = fresh(restored, num_classes=5, dense=(8,), dropout=())
    _, said = initial_state(str(RUN), smaller, ("fc7", "conv2"))
    assert "the head, of another number of classes, stays" in said
    assert "; at their initialization stay conv2; left out fc7" in said


def test_another_network_is_refused_with_a_list(restored):
    with pytest.raises(ValueError) as refusal:
        initial_state(str(RUN), fresh(restored, dense=(8, 16)))
    message = str(refusal.value)
    for line in (
        "- backbone/fc7/kernel (8, 8)",
        "+ backbone/fc7/kernel (8, 16)",
        "- backbone/fc7/bias (8,)",
    ):
        assert line in message
    assert "conv1" not in message
    with pytest.raises(ValueError, match="- backbone/norm1/scale"):
        initial_state(str(RUN), fresh(restored, normalization="none"))
