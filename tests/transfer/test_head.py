"""A head trained on features is the head that the whole network would have trained."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from alexnet_jax import AlexNet, Rules, classification, init_state, optimizer, spec, train_step
from alexnet_jax.data.stream import indices
from alexnet_jax.leaves import named_leaves
from alexnet_jax.models.spec import layers_behind
from alexnet_jax.transfer.features import Features, tap_values
from alexnet_jax.transfer.freeze import freeze_rules
from alexnet_jax.transfer.head import feature_shape, train_head

SPEC = spec("small", num_classes=3, dense=(24, 16), width=0.25, dropout=("pool5", "fc6"))
OPTIMIZER = partial(optimizer, "sgd", learning_rate=0.05, momentum=0.9, l2=1e-3)


@pytest.mark.parametrize("tap", ["conv4", "pool5", "fc6"])
def test_it_equals_training_the_whole_network_with_the_rest_frozen(tap):
    """Dropout behind the tap included; that of the frozen part is off."""
    net = AlexNet(SPEC, exact=True)  # which compiles in less time
    task = classification(net)
    tx = OPTIMIZER(rules=Rules(freeze_rules(SPEC, tap)))
    whole = init_state(seed=3, task=task, tx=tx, image_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(10, 32, 32, 3)).astype(np.float32)
    labels = np.arange(10, dtype=np.int32) % 3
    step = jax.jit(partial(train_step, task=task, tx=tx))
    trained = whole
    for i in range(3):
        rows = indices(3, 4 * i, 4, 10)
        trained, _ = step(trained, {"image": images[rows], "label": labels[rows]})

    values = np.asarray(tap_values({"params": whole.params}, images, net=net, tap=tap))
    behind = classification(net.clone(behind=tap))
    shape = feature_shape(SPEC, tap, values.shape[1])
    begun = init_state(seed=3, task=behind, tx=OPTIMIZER(), image_shape=shape)
    own = dict(named_leaves(whole.params))
    begun = begun.replace(
        params=jax.tree_util.tree_map_with_path(
            lambda path, _: own[jax.tree_util.keystr(path, simple=True, separator="/")],
            begun.params,
        )
    )
    state, losses = train_head(
        Features(values, labels),
        net=net,
        tap=tap,
        tx=OPTIMIZER(),
        updates=3,
        batch_size=4,
        seed=3,
        state=begun,
    )
    assert losses.shape == (3,) and np.isfinite(losses).all()
    want = dict(named_leaves(trained.params))
    moved = 0.0
    for name, leaf in named_leaves(state.params):
        error = np.abs(leaf - want[name]).max() / np.abs(want[name]).max()
        assert error <= 1e-5, (name, error)
        moved = max(moved, float(np.abs(leaf - own[name]).max()))
    assert moved > 1e-3
    layers = {name.split("/")[-2] for name, _ in named_leaves(state.params)}
    convs = {"conv4": {"conv5"}}.get(tap, set())
    assert layers == convs | ({"fc7"} if tap == "fc6" else {"fc6", "fc7"}) | {"head"}


def test_what_lies_behind_a_tap():
    notes = spec("notes_227")
    convs, dense = layers_behind(notes, "pool2")
    assert [name for name, _ in convs] == ["conv3", "conv4", "conv5"]
    assert [name for name, _ in dense] == ["fc6", "fc7"]
    assert layers_behind(notes, "fc7") == ((), ())
    assert layers_behind(notes, None) == (notes.conv_layers(), notes.dense_layers())
    with pytest.raises(ValueError, match=r"begin behind 'conv1'.* hand on pool1, pool2, conv3"):
        layers_behind(notes, "conv1")


def test_features_of_another_size_are_refused():
    notes = spec("notes_227")
    assert feature_shape(notes, "pool5", 9216) == (6, 6, 256)
    assert feature_shape(notes, "pool5", 6400) == (5, 5, 256)  # images of 224 px
    assert feature_shape(notes, "fc7", 4096) == (4096,)
    with pytest.raises(ValueError, match="'pool5' of 'notes_227' has 256 channels, not 9000"):
        feature_shape(notes, "pool5", 9000)
    with pytest.raises(ValueError, match="'fc7'"):
        feature_shape(notes, "fc7", 9216)
