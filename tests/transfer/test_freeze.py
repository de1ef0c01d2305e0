"""Frozen means frozen, to the bit, and cheap."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from alexnet_jax import AlexNet, Rules, classification, init_state, optimizer, spec, train_step
from alexnet_jax.transfer.freeze import freeze_rules, layers_up_to

CONVS = tuple(f"{kind}{i}" for i in range(1, 6) for kind in ("conv", "norm"))


def test_layers_up_to_a_tap():
    net = spec("notes_224")
    assert layers_up_to(net, "conv2") == ("conv1", "norm1", "conv2", "norm2")
    assert layers_up_to(net, "pool2") == layers_up_to(net, "conv2")
    assert layers_up_to(net, "pool5") == CONVS
    assert layers_up_to(net, "fc6") == (*CONVS, "fc6", "norm6")
    assert "conv3_2" in layers_up_to(spec("small", depth=2), "conv4")
    with pytest.raises(ValueError, match=r"no tap 'pool4'; there are conv1, pool1"):
        freeze_rules(net, "pool4")
    with pytest.raises(ValueError, match="nothing to train"):
        freeze_rules(net, "logits")
    assert freeze_rules(net, None) == ()


def test_frozen_parameters_and_statistics_keep_their_bits_and_the_rest_learns():
    """With all that could move them on: decay, momentum, average, dropout, batch statistics."""
    net = spec("small", num_classes=3, dense=(16, 16), normalization="batch", width=0.25)
    task = classification(AlexNet(net))
    rules = Rules(freeze_rules(net, "pool2"))
    tx = optimizer(
        "sgd", learning_rate=0.1, momentum=0.9, l2=0.1, decay=0.1, l1=0.01, ema=0.5, rules=rules
    )
    state = init_state(seed=0, task=task, tx=tx, image_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    step = jax.jit(partial(train_step, task=task, tx=tx))
    after = state
    for _ in range(3):
        image = rng.normal(size=(6, 32, 32, 3)).astype(np.float32)
        after, metrics = step(after, {"image": image, "label": np.arange(6) % 3})
    frozen = {"conv1", "conv2", "norm1", "norm2"}
    for tree in ("params", "ema"):
        old, new = (getattr(s, tree)["backbone"] for s in (state, after))
        for layer in old:
            for kind in old[layer]:
                same = np.array_equal(old[layer][kind], new[layer][kind])
                assert same == (layer in frozen), (tree, layer, kind)
    old, new = (s.model_state["batch_stats"]["backbone"] for s in (state, after))
    for layer in old:
        assert np.array_equal(old[layer]["mean"], new[layer]["mean"]) == (layer in frozen), layer
    assert metrics["gradient_norm"] > 0

    kept = sum(x.size for x in jax.tree.leaves(after.opt_state.inner))
    trained = sum(
        x.size
        for path, x in jax.tree_util.tree_leaves_with_path(after.params)
        if path[1].key not in frozen
    )
    assert kept == trained  # optimizer state of the trained part alone


def test_training_the_head_alone_takes_less_than_half_of_the_operations():
    """Compiled, with plain convolutions, whose operations the compiler can count."""

    def operations(tap):
        net = spec("notes_224")
        task = classification(AlexNet(net, exact=True))
        rules = Rules(freeze_rules(net, tap))
        tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=5e-4, rules=rules)
        start = partial(init_state, seed=0, task=task, tx=tx, image_shape=(224, 224, 3))
        batch = {
            "image": jax.ShapeDtypeStruct((8, 224, 224, 3), np.float32),
            "label": jax.ShapeDtypeStruct((8,), np.int32),
        }
        step = jax.jit(partial(train_step, task=task, tx=tx))
        compiled = step.lower(jax.eval_shape(start), batch).compile()
        return compiled.cost_analysis()["flops"]

    whole = operations(None)
    assert whole > 2 * 3 * 8 * 0.9e9  # it counts: about three times the forward pass
    assert operations("fc7") <= 0.45 * whole
