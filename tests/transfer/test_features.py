"""A tap's value for every example, computed once and found again by what it depends on."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from alexnet_jax import AlexNet, spec
from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.transfer.features import (
    Features,
    cache_key,
    compute,
    load,
    save,
    tap_values,
)

NET = AlexNet(spec("small", num_classes=3, dense=(48, 32), width=0.25, kernel_init="zeros"))
PREPROCESSING = Preprocessing(36, 32, (120.0, 110.0, 100.0), (60.0, 60.0, 60.0))


@pytest.fixture(scope="module")
def variables(he_kernels):
    images = np.zeros((1, 32, 32, 3), np.float32)
    return {"params": he_kernels(NET.init(jax.random.key(0), images)["params"])}


def batches(sizes, seed=0):
    """Canvases in batches of 4, the last one filled up."""
    rng = np.random.default_rng(seed)
    for size in sizes:
        image = rng.integers(0, 256, (4, 36, 36, 3)).astype(np.uint8)
        yield {"image": image, "label": np.arange(4) % 3, "valid": np.arange(4) < size}


@pytest.mark.parametrize("tap", ["conv1", "pool2", "pool5", "fc6", "fc7"])
def test_values_are_those_of_the_network(variables, tap):
    images = np.random.default_rng(1).normal(size=(4, 32, 32, 3)).astype(np.float32)
    _, taps = NET.apply(variables, images, taps=True)
    ours = tap_values(variables, images, net=NET, tap=tap)
    np.testing.assert_allclose(ours, np.reshape(taps[tap], (4, -1)), rtol=1e-6, atol=1e-6)


def test_convolutions_alone_have_features_before_the_dense_layers(variables):
    backbone = variables["params"]["backbone"]
    convs = {name: layer for name, layer in backbone.items() if name.startswith("conv")}
    alone = {"params": {"backbone": convs}}
    images = np.ones((2, 32, 32, 3), np.float32)
    ours = tap_values(alone, images, net=NET, tap="pool5")
    np.testing.assert_array_equal(ours, tap_values(variables, images, net=NET, tap="pool5"))
    with pytest.raises(ValueError, match="'fc7' needs fc6, fc7, which the file has not"):
        tap_values(alone, images, net=NET, tap="fc7")
    with pytest.raises(ValueError, match="logits are the network's answer"):
        tap_values(variables, images, net=NET, tap="logits")


def test_every_example_once_in_order(variables):
    features = compute(
        variables, batches([4, 4, 2]), net=NET, tap="fc6", preprocessing=PREPROCESSING
    )
    assert features.values.shape == (10, 16) and features.values.dtype == np.float32
    assert features.labels.tolist() == [0, 1, 2, 0] * 2 + [0, 1]
    whole = [b for b in batches([4, 4, 2])]
    image = np.concatenate([b["image"][b["valid"]] for b in whole])
    images = preprocess({"image": image}, PREPROCESSING)["image"]
    _, taps = NET.apply(variables, images, taps=True)
    np.testing.assert_allclose(features.values, taps["fc6"], rtol=1e-4, atol=1e-5)


def test_the_key_changes_with_all_that_features_depend_on(variables):
    base = dict(net=NET, tap="fc6", preprocessing=PREPROCESSING, data={"split": "train", "of": "x"})
    other = jax.tree.map(np.array, variables)
    other["params"]["backbone"]["conv1"]["bias"][0] += 1e-3
    keys = [
        cache_key(variables, **base),
        cache_key(other, **base),
        cache_key(variables, **base | {"tap": "fc7"}),
        cache_key(variables, **base | {"net": AlexNet(NET.spec, exact=True)}),
        cache_key(variables, **base | {"preprocessing": replace(PREPROCESSING, canvas=40)}),
        cache_key(variables, **base | {"data": {"split": "test", "of": "x"}}),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(jax.tree.map(np.array, variables), **base) == keys[0]


def test_what_is_saved_is_loaded_and_half_a_file_is_none(tmp_path):
    features = Features(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 0], np.int32))
    path = tmp_path / "new" / "features.npz"
    assert load(path) is None
    save(path, features)
    for a, b in zip(load(path), features, strict=True):
        np.testing.assert_array_equal(a, b)
    whole = path.read_bytes()
    for cut in (b"", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(cut)
        assert load(path) is None
    assert [p.name for p in path.parent.iterdir()] == ["features.npz"]
