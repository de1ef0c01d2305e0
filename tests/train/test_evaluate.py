"""Exact evaluation: every example once, whatever the batches; ten views; predictions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks.base import means
from alexnet_jax.tasks.classification import classification, confusion
from alexnet_jax.train.evaluate import evaluate, predictions, ten_view_step
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, predict_step

NET = AlexNet(
    Spec(
        name="tiny",
        image_size=9,
        convs=(Conv(8, 3, then=("activation", "pool")),),
        dense=(16,),
        num_classes=7,
        dropout=("fc2",),
    )
)
TASK = classification(NET)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(65, 9, 9, 3)).astype(np.float32)
LABELS = RNG.integers(0, 7, 65).astype(np.int32)


@pytest.fixture(scope="module")
def state():
    tx = optimizer("sgd", learning_rate=0.1)
    return init_state(seed=0, task=TASK, tx=tx, image_shape=(9, 9, 3))


def batches(count: int, size: int):
    """All of `count` examples, the last batch padded with junk that does not count."""
    for start in range(0, count, size):
        index = np.arange(start, start + size)
        valid = index < count
        image = np.where(valid[:, None, None, None], IMAGES[index % 65], 1e3).astype(np.float32)
        label = np.where(valid, LABELS[index % 65], 3)
        yield {"image": image, "label": label, "valid": valid, "index": index}


EVALUATE = jax.jit(partial(eval_step, task=TASK))


@pytest.mark.parametrize("count", [61, 63, 64, 65])
@pytest.mark.parametrize("size", [1, 16, 128])
def test_every_example_counts_once(state, count, size):
    sums = evaluate(EVALUATE, state, batches(count, size))
    logits = np.float64(NET.apply({"params": state.params}, IMAGES[:count]))
    labels = LABELS[:count]
    assert sums["top1"] == ((logits.argmax(1) == labels).sum(), count)
    five = np.argsort(-logits, 1)[:, :5]
    assert sums["top5"] == ((five == labels[:, None]).any(1).sum(), count)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(count), labels]
    assert sums["loss"] == (pytest.approx(losses.sum(), rel=1e-5), count)
    assert means(sums)["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_nothing_counted_has_no_mean():
    assert np.isnan(means({"top1": (0.0, 0)})["top1"])
    assert evaluate(None, None, []) == {}


def test_sums_are_added_in_double_precision():
    """16,777,217 cannot be reached by adding ones in float32."""
    sums = iter([2.0**24, 1.0, 1.0])

    def step(state, batch):
        value = jnp.float32(next(sums))
        return {"loss": (value, value)}

    assert evaluate(step, None, range(3)) == {"loss": (2.0**24 + 2, 2**24 + 2)}


def test_weights_need_not_be_whole():
    """Pixels of a class that hardly counts, say, as segmentation's `class_weights` have it."""
    sums = evaluate(lambda state, batch: {"loss": (batch * 0.25, batch * 0.125)}, None, [1.0, 2.0])
    assert sums == {"loss": (0.75, 0.375)}


def test_ten_views_average_probabilities_of_corners_centre_and_mirrors(state):
    canvas = RNG.integers(0, 256, (12, 13, 13, 3), np.uint8)
    batch = {"image": canvas, "label": LABELS[:12], "valid": np.arange(12) < 10}
    p = Preprocessing(canvas=13, size=9, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
    total = np.zeros((12, 7))
    for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
        crop = (np.float32(canvas[:, y : y + 9, x : x + 9]) - p.mean) / p.std
        for view in (crop, crop[:, :, ::-1]):
            logits = np.float64(NET.apply({"params": state.params}, np.float32(view)))
            total += np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-total, 1)
    hits = (order == LABELS[:12, None])[:10]
    sums = jax.jit(partial(ten_view_step, task=TASK, preprocessing=p))(state, batch)
    assert sums["top1"] == (hits[:, 0].sum(), 10)
    assert sums["top5"] == (hits[:, :5].sum(), 10)


def test_predictions_are_of_the_valid_rows_in_order(state):
    step = jax.jit(
        lambda state, batch: predict_step(state, batch["image"], task=TASK) | TASK.truth(batch)
    )
    found = predictions(step, state, batches(61, 16))
    logits = NET.apply({"params": state.params}, IMAGES[:61])
    np.testing.assert_allclose(found["probability"], jax.nn.softmax(logits), atol=1e-6)
    np.testing.assert_array_equal(found["label"], np.argmax(logits, 1))
    np.testing.assert_array_equal(found["true"], LABELS[:61])
    np.testing.assert_array_equal(found["index"], np.arange(61))
    matrix = confusion(found["true"], found["label"], 7)
    for true in range(7):
        for guess in range(7):
            assert matrix[true, guess] == ((LABELS[:61] == true) & (found["label"] == guess)).sum()
