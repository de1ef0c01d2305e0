"""Stages of unfreezing: which one makes an update, and what it takes over from the one before."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from alexnet_jax import AlexNet, Rules, classification, init_state, optimizer, spec, train_step
from alexnet_jax.transfer.freeze import freeze_rules
from alexnet_jax.transfer.stages import Stage, enter, plan, stage_of

parse = partial(plan, batch_size=10, num_examples=100)


def test_a_plan_is_read_from_lines():
    assert parse(()) == (Stage(0, None),)
    assert parse(("pool5",)) == (Stage(0, "pool5"),)
    lines = ("fc7", "pool5 after 5 steps", "pool2 after 2 epochs", "none after 300 examples")
    assert parse(lines) == (
        Stage(0, "fc7"),
        Stage(5, "pool5"),
        Stage(20, "pool2"),
        Stage(30, None),
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("pool5 after 2 epochs",),
        ("pool5", "none"),
        ("pool5", "pool2 after 4 epochs", "none after 2 epochs"),
    ],
)
def test_stages_that_do_not_follow_each_other_are_refused(lines):
    with pytest.raises(ValueError, match="the first stage has to begin at once"):
        parse(lines)


def test_a_duration_of_another_form_is_refused():
    with pytest.raises(ValueError, match="2 weeks"):
        parse(("pool5", "none after 2 weeks"))


def test_the_stage_is_a_function_of_the_update():
    made_by = [stage_of((0, 5, 20), update) for update in (0, 1, 5, 6, 20, 21, 1000)]
    assert made_by == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_the_next_stage_takes_over_what_was_trained_and_begins_the_rest_afresh(method):
    net = spec("small", num_classes=3, dense=(8, 8), width=0.25)
    task = classification(AlexNet(net, exact=True))
    settings = {"momentum": 0.9} if method == "sgd" else {}

    def tx(tap):
        return optimizer(
            method, learning_rate=0.01, rules=Rules(freeze_rules(net, tap)), **settings
        )

    head, thawed = tx("pool5"), tx("pool2")
    state = init_state(seed=0, task=task, tx=head, image_shape=(32, 32, 3))
    batch = {
        "image": np.random.default_rng(0).normal(size=(6, 32, 32, 3)).astype(np.float32),
        "label": np.arange(6) % 3,
    }
    for _ in range(2):
        state, _ = jax.jit(partial(train_step, task=task, tx=head))(state, batch)
    after = enter(state, thawed)
    trainable = {**after.params, "backbone": without(after.params["backbone"], "conv1", "conv2")}
    fresh = thawed.init(trainable)
    assert jax.tree.structure(after.opt_state) == jax.tree.structure(fresh)
    assert after.opt_state.count == 2
    old, new = (dict(named(s.opt_state.inner)) for s in (state, after))
    assert set(old) < set(new)
    for name, value in new.items():
        if name in old:
            np.testing.assert_array_equal(value, old[name])
        else:
            assert "conv" in name and not np.any(value)
    next_one, _ = jax.jit(partial(train_step, task=task, tx=thawed))(after, batch)
    before, then = state.params["backbone"], next_one.params["backbone"]
    assert np.array_equal(before["conv2"]["kernel"], then["conv2"]["kernel"])
    assert not np.array_equal(before["conv3"]["kernel"], then["conv3"]["kernel"])


def named(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf


def without(layers, *names):
    """The layers with the arrays of some of them absent."""
    return {k: dict.fromkeys(v) if k in names else v for k, v in layers.items()}
