"""Cross-entropy, smoothing and accuracies against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.tasks.base import Context
from alexnet_jax.tasks.classification import classification

RNG = np.random.default_rng(0)
CLASSES = 7
NET = AlexNet(
    Spec(
        name="tiny",
        image_size=8,
        convs=(Conv(4, 3, then=("activation", "pool")),),
        dense=(8,),
        num_classes=CLASSES,
        dropout=(),
    )
)
IMAGES = RNG.uniform(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 6, 3, 3, 1, 5], np.int32)
VALID = np.array([1, 1, 0, 1, 1, 0], bool)


@pytest.fixture(scope="module")
def params():
    task = classification(NET)
    return jax.jit(lambda key: task.init(key, (8, 8, 3)))(jax.random.key(0))[0]


def log_softmax(logits):
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def loss_of(task, params, batch, train):
    terms, logits, _ = task.losses(params, {}, batch, Context(train=train))
    (total, weight) = terms["loss"]
    assert weight == task.weights(batch)["loss"]
    return float(total), float(weight), log_softmax(logits)


def test_loss_is_the_sum_of_cross_entropies_over_valid_rows(params):
    batch = {"image": IMAGES, "label": LABELS, "valid": VALID}
    total, weight, log_p = loss_of(classification(NET), params, batch, train=True)
    assert weight == 4
    assert total == pytest.approx(-log_p[np.arange(6), LABELS][VALID].sum(), rel=1e-5)


def test_all_rows_count_where_the_batch_does_not_say(params):
    batch = {"image": IMAGES, "label": LABELS}
    total, weight, log_p = loss_of(classification(NET), params, batch, train=False)
    assert weight == 6
    assert total == pytest.approx(-log_p[np.arange(6), LABELS].sum(), rel=1e-5)


def test_smoothing_mixes_in_the_uniform_distribution_in_training_only(params):
    task = classification(NET, label_smoothing=0.1)
    batch = {"image": IMAGES, "label": LABELS}
    total, _, log_p = loss_of(task, params, batch, train=True)
    sharp = -log_p[np.arange(6), LABELS].sum()
    uniform = -log_p.mean(-1).sum()
    assert total == pytest.approx(0.9 * sharp + 0.1 * uniform, rel=1e-5)
    assert loss_of(task, params, batch, train=False)[0] == pytest.approx(sharp, rel=1e-5)


def test_mixed_targets_are_learnt_in_training_and_ignored_in_evaluation(params):
    target = RNG.dirichlet(np.ones(CLASSES), 6).astype(np.float32)
    batch = {"image": IMAGES, "label": LABELS, "target": target}
    total, _, log_p = loss_of(classification(NET), params, batch, train=True)
    assert total == pytest.approx(-(target * log_p).sum(), rel=1e-5)
    evaluated = loss_of(classification(NET), params, batch, train=False)[0]
    assert evaluated == pytest.approx(-log_p[np.arange(6), LABELS].sum(), rel=1e-5)


def test_rows_that_do_not_count_may_hold_anything(params):
    task = classification(NET)
    junk = IMAGES.copy()
    junk[~VALID] = np.nan
    batch = {"image": junk, "label": np.where(VALID, LABELS, -1), "valid": VALID}
    total, _, _ = loss_of(task, params, batch, train=False)
    clean = {"image": IMAGES, "label": LABELS, "valid": VALID}
    assert total == pytest.approx(loss_of(task, params, clean, train=False)[0], rel=1e-6)


def test_accuracies_are_counts_of_hits():
    logits = RNG.normal(size=(200, 12)).astype(np.float32)
    labels = RNG.integers(0, 12, 200).astype(np.int32)
    valid = RNG.random(200) < 0.7
    batch = {"image": np.zeros((200, 1)), "label": labels, "valid": valid}
    sums = classification(NET).sums(jnp.asarray(logits), batch)
    order = np.argsort(-logits, axis=1)
    hits = order == labels[:, None]
    assert sums["top1"] == (hits[valid, 0].sum(), valid.sum())
    assert sums["top5"] == (hits[valid, :5].sum(), valid.sum())


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_of_five_classes_or_fewer_says_nothing(classes):
    batch = {"image": np.zeros((3, 1)), "label": np.zeros(3, np.int32)}
    assert set(classification(NET).sums(jnp.zeros((3, classes)), batch)) == {"top1"}


def test_decoded_answers_are_probabilities_and_the_likeliest_label():
    logits = RNG.normal(size=(5, CLASSES)).astype(np.float32)
    answer = classification(NET).decode(jnp.asarray(logits))
    np.testing.assert_allclose(answer["probability"], np.exp(log_softmax(logits)), rtol=1e-5)
    np.testing.assert_array_equal(answer["label"], logits.argmax(1))
    assert answer["label"].dtype == jnp.int32


def test_a_task_is_hashable_and_says_what_to_watch():
    assert hash(classification(NET)) == hash(classification(NET))
    assert classification(NET).monitor == ("top1", "max")
