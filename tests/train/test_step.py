"""The train step against plain JAX written out by hand, and what it promises about a batch."""

from __future__ import annotations

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer, with_hyper
from alexnet_jax.optim.rules import Rules
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, train_step

RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.normal(size=(8, 9, 9, 3)).astype(np.float32),
    "label": RNG.integers(0, 3, 8).astype(np.int32),
    "valid": np.array([1, 1, 1, 0, 1, 0, 0, 1], bool),
}


def tiny(dropout=("fc2",), normalization="none", **net) -> AlexNet:
    """A convolution, a dense layer and a head: all that a step has to deal with."""
    then = ("activation", "pool")
    return AlexNet(
        Spec(
            name="tiny",
            image_size=9,
            convs=(Conv(8, 3, then=then if normalization == "none" else ("normalization", *then)),),
            dense=(16,),
            num_classes=3,
            normalization=normalization,
            dropout=dropout,
        ),
        **net,
    )


MOMENTUM = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=0.01)


@cache  # so that tests share what is compiled
def start(net=tiny(), tx=MOMENTUM):  # noqa: B008  # a frozen value
    """(state, step): a fresh state, and the step compiled for it."""
    task = classification(net)
    state = init_state(seed=0, task=task, tx=tx, image_shape=(9, 9, 3))
    return state, jax.jit(partial(train_step, task=task, tx=tx), static_argnames="accumulate")


def largest_difference(a, b) -> float:
    """max|a - b| / max|b| over the leaves of two trees."""
    worst = [
        np.abs(np.float64(x) - np.float64(y)).max() / max(np.abs(np.float64(y)).max(), 1e-30)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return max(worst)


def by_hand(params, batch):
    """Mean cross-entropy of the tiny network over the valid rows, without this package."""
    conv, dense, head = params["backbone"]["conv1"], params["backbone"]["fc2"], params["head"]
    x = lax.conv_general_dilated(
        batch["image"], conv["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jnp.maximum(x + conv["bias"], 0)
    x = lax.reduce_window(x, -np.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    x = jnp.maximum(x.reshape(len(x), -1) @ dense["kernel"] + dense["bias"], 0)
    logits = x @ head["kernel"] + head["bias"]
    picked = jnp.take_along_axis(logits, batch["label"][:, None], 1)[:, 0]
    losses = jax.scipy.special.logsumexp(logits, axis=1) - picked
    return (losses * batch["valid"]).sum() / batch["valid"].sum(), logits


@pytest.mark.parametrize("form", ["coupled", "loss"])
def test_three_steps_are_sgd_with_momentum_and_l2_by_hand(form):
    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=0.01, l2_form=form)
    state, step = start(tiny(dropout=()), tx)
    params = state.params
    velocity = jax.tree.map(jnp.zeros_like, params)
    for i in range(3):
        batch = BATCH | {"image": BATCH["image"] + i}
        (loss, logits), gradient = jax.value_and_grad(by_hand, has_aux=True)(params, batch)
        decayed = jax.tree_util.tree_map_with_path(  # weights only: not the biases
            lambda path, g, w: g + 0.01 * w if path[-1].key == "kernel" else g, gradient, params
        )
        kernels = [
            w for p, w in jax.tree_util.tree_leaves_with_path(params) if p[-1].key == "kernel"
        ]
        penalty = 0.5 * 0.01 * sum((np.float64(w) ** 2).sum() for w in kernels)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, decayed)
        update = jax.tree.map(lambda v: -0.1 * v, velocity)
        params = jax.tree.map(jnp.add, params, update)

        state, metrics = step(state, batch)
        assert largest_difference(state.params, params) < 1e-5
        hits = (np.argmax(logits, 1) == batch["label"]) & batch["valid"]
        assert metrics["top1"] == (hits.sum(), 5)
        np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], loss, rtol=1e-5)
        assert metrics["loss"][1] == 5
        norm = optax.tree.norm
        expected = {
            "objective": loss + penalty,
            "penalty": penalty,
            "gradient_norm": norm(decayed if form == "loss" else gradient),
            "parameter_norm": norm(params),
            "update_norm": norm(update),
            "learning_rate": 0.1,
        }
        assert set(metrics) == {*expected, "loss", "top1"}
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    assert state.step == 3


@pytest.mark.parametrize(
    "settings", [{}, {"clip": 0.5}, {"l2_form": "loss"}, {"l1": 1e-4}, {"l1_form": "proximal"}]
)
def test_new_parameters_are_written_over_the_old_without_a_copy(settings):
    # Where anything could still read a donated array once it is overwritten, XLA copies it first.
    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=0.01, **settings)
    task = classification(tiny())
    state = init_state(seed=0, task=task, tx=tx, image_shape=(9, 9, 3))
    step = jax.jit(partial(train_step, task=task, tx=tx), donate_argnums=0)
    text = step.lower(state, BATCH).compile().as_text()
    copied = set(re.findall(r"= f32\[([\d,]+)\]\S* copy\(", text))
    kernels = {",".join(map(str, w.shape)) for w in jax.tree.leaves(state.params) if w.ndim == 2}
    assert kernels and not kernels & copied


def test_any_optax_optimizer_will_do():
    state, step = start(tiny(dropout=()), optax.sgd(0.1))
    gradient = jax.grad(lambda params: by_hand(params, BATCH)[0])(state.params)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, gradient)
    after, metrics = step(state, BATCH)
    assert largest_difference(after.params, expected) < 1e-5
    assert set(metrics) == {
        "loss", "top1", "objective", "penalty", "gradient_norm", "parameter_norm", "update_norm",
    }  # fmt: skip
    assert metrics["penalty"] == 0 and after.ema is None


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_a_padded_batch_is_the_batch_without_its_padding(normalization):
    state, step = start(tiny(normalization=normalization))
    small = {name: value[:5] for name, value in BATCH.items()} | {"valid": np.ones(5, bool)}
    padded = BATCH | {"valid": np.arange(8) < 5}
    padded["image"] = np.where(padded["valid"][:, None, None, None], padded["image"], 1e3)
    padded["label"] = np.where(padded["valid"], padded["label"], -1)
    (a, small_metrics), (b, padded_metrics) = step(state, small), step(state, padded)
    assert largest_difference((b.params, b.model_state), (a.params, a.model_state)) < 1e-5
    assert largest_difference(padded_metrics, small_metrics) < 1e-5


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_are_the_whole_whatever_rows_count_in_each(parts):
    """With dropout; parts hold unequal numbers of valid rows, and one of four holds one only."""
    state, step = start()
    counts = [BATCH["valid"][i::parts].sum() for i in range(parts)]
    assert len(set(counts)) > 1
    whole, whole_metrics = step(state, BATCH)
    split, split_metrics = step(state, BATCH, accumulate=parts)
    assert largest_difference(split.params, whole.params) < 1e-6
    assert largest_difference(split_metrics, whole_metrics) < 2e-6
    with pytest.raises(ValueError, match="batch of 8 does not split into 3"):
        step(state, BATCH, accumulate=3)


def test_frozen_layers_stay_to_the_bit_with_their_statistics_and_have_no_optimizer_state():
    rules = Rules(((r"^backbone/(conv1|norm1)/", {"frozen": True}),))
    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=0.1, ema=0.5, rules=rules)
    first, step = start(tiny(normalization="batch"), tx)
    state = first
    for _ in range(3):
        state, metrics = step(state, BATCH)
    frozen = {"conv1", "norm1"}
    for name, before in first.params["backbone"].items():
        for leaf, value in before.items():
            for tree in (state.params, state.ema):
                same = np.array_equal(tree["backbone"][name][leaf], value)
                assert same == (name in frozen), (name, leaf)
    statistics = jax.tree.map(np.array_equal, first.model_state, state.model_state)
    assert all(jax.tree.leaves(statistics))
    trainable = jax.tree.leaves((first.params["backbone"]["fc2"], first.params["head"]))
    momentum = jax.tree.leaves(state.opt_state.inner)
    assert sorted(m.shape for m in momentum if m.ndim) == sorted(w.shape for w in trainable)
    assert metrics["update_norm"] > 0


def test_frozen_layers_do_not_drop_out():
    """Dropout sits behind the frozen layer only, so a step is that of a network without any."""
    rules = Rules((("conv1", {"frozen": True}),))
    tx = optimizer("sgd", learning_rate=0.1, rules=rules)
    state, step = start(tiny(dropout=("pool1",)), tx)
    plain, plain_step = start(tiny(dropout=()), tx)
    after, _ = step(state, BATCH)
    expected, _ = plain_step(plain.replace(params=state.params), BATCH)
    assert largest_difference(after.params, expected.params) == 0


def test_the_moving_average_follows_its_formula_and_is_what_is_evaluated():
    tx = optimizer("sgd", learning_rate=0.1, ema=0.8)
    state, step = start(tiny(), tx)
    task = classification(tiny())
    expected = jax.tree.map(np.float64, state.params)
    for _ in range(3):
        state, _ = step(state, BATCH)
        expected = jax.tree.map(lambda e, w: 0.8 * e + 0.2 * np.float64(w), expected, state.params)
    assert largest_difference(state.ema, expected) < 1e-6
    sums = eval_step(state, BATCH, task=task)
    loss, _ = by_hand(state.ema, BATCH)
    np.testing.assert_allclose(sums["loss"][0] / 5, loss, rtol=1e-5)
    assert abs(by_hand(state.params, BATCH)[0] - loss) > 1e-3


def test_evaluation_drops_nothing_out_and_counts_valid_rows_only():
    state, _ = start()
    sums = eval_step(state, BATCH, task=classification(tiny()))
    loss, logits = by_hand(state.params, BATCH)
    np.testing.assert_allclose(sums["loss"], (loss * 5, 5), rtol=1e-5)
    hits = (np.argmax(logits, 1) == BATCH["label"]) & BATCH["valid"]
    assert sums["top1"] == (hits.sum(), 5)


def test_half_precision_computes_near_the_same_and_keeps_float32_parameters():
    state, step = start()
    _, half_step = start(tiny(dtype=jnp.bfloat16))
    _, exact = step(state, BATCH)
    after, half = half_step(state, BATCH)
    assert half["loss"][0].dtype == jnp.float32
    difference = abs(half["loss"][0] / exact["loss"][0] - 1)
    assert 0 < difference < 0.02
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_a_batch_without_a_valid_row_changes_nothing(normalization):
    state, step = start(tiny(normalization=normalization), optimizer("sgd", learning_rate=0.1))
    after, metrics = step(state, BATCH | {"valid": np.zeros(8, bool)})
    assert metrics["objective"] == 0 and metrics["loss"] == (0, 0)
    assert largest_difference(after.params, state.params) == 0
    assert largest_difference(after.model_state, state.model_state) == 0


def test_one_compilation_serves_all_steps_learning_rates_and_dropout_rates():
    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l1=1e-4)
    task = classification(tiny())
    traced = 0

    @jax.jit
    def step(state, batch):
        nonlocal traced
        traced += 1
        return train_step(state, batch, task=task, tx=tx)

    state = init_state(seed=0, task=task, tx=tx, image_shape=(9, 9, 3))
    for _ in range(3):
        state, _ = step(state, BATCH)
    state = state.replace(
        opt_state=with_hyper(state.opt_state, learning_rate=0.05, l1=0.0),
        model_state={"hyper": {"dropout_rate": jnp.float32(0.1)}},
    )
    _, metrics = step(state, BATCH)
    assert traced == 1
    assert metrics["learning_rate"] == np.float32(0.05) and metrics["penalty"] == 0


def test_the_dropout_rate_is_the_states():
    state, step = start()
    _, plain_step = start(tiny(dropout=()))
    none = state.replace(model_state={"hyper": {"dropout_rate": jnp.float32(0.0)}})
    a, _ = step(none, BATCH)
    b, _ = plain_step(state.replace(model_state={}), BATCH)
    assert largest_difference(a.params, b.params) < 1e-6
    half, _ = step(state, BATCH)
    assert largest_difference(half.params, b.params) > 1e-3


def test_dropout_differs_between_steps_and_seeds_and_repeats_with_them():
    first, step = start()

    def loss(state):
        return float(step(state, BATCH)[1]["loss"][0])

    later = first.replace(step=first.step + 1)
    other = first.replace(seed=first.seed + 1)
    assert loss(first) == loss(first)
    assert len({loss(first), loss(later), loss(other)}) == 3


def test_a_population_trains_in_one_program():
    """vmap over stacked states: each member ends as it does alone."""
    state, step = start()
    members = [
        state.replace(
            opt_state=with_hyper(state.opt_state, learning_rate=rate),
            model_state={"hyper": {"dropout_rate": jnp.float32(dropout)}},
        )
        for rate, dropout in ((0.1, 0.5), (0.01, 0.2), (0.3, 0.0))
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    together, _ = jax.vmap(step, in_axes=(0, None))(stacked, BATCH)
    for i, member in enumerate(members):
        alone, _ = step(member, BATCH)
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert largest_difference(mine.params, alone.params) < 1e-5


def test_a_rule_that_matches_nothing_is_refused_before_training():
    tx = optimizer("sgd", learning_rate=0.1, rules=Rules((("convolution9", {"lr_mult": 2.0}),)))
    with pytest.raises(ValueError, match="'convolution9' matches no parameter"):
        start(tx=tx)
