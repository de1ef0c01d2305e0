"""The detector: AlexNet's own convolutions, a fresh head that says little, places that meet."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.detector import Detector, without_dense
from alexnet_jax.models.fcn import places
from alexnet_jax.models.spec import spec

THIN = {"width": 1 / 16, "num_classes": 5, "kernel_init": "zeros"}


@pytest.mark.parametrize("name", ["small", "notes_227", "original_2012", "batchnorm"])
def test_its_convolutions_are_the_classifiers(name, he_kernels):
    """The same parameters by name give the same maps; there are no dense layers."""
    whole = spec(name, **THIN)
    net, classifier = Detector(without_dense(whole), exact=True), AlexNet(whole, exact=True)
    size = whole.image_size
    image = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    given = jax.eval_shape(classifier.init, jax.random.key(0), image)
    given = he_kernels(jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), given))
    own = jax.eval_shape(net.init, jax.random.key(0), image)
    own = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), own)
    for kind, tree in own.items():
        assert set(tree["backbone"]) < set(given[kind]["backbone"])
        assert not any(layer in tree["backbone"] for layer in ("fc6", "fc7"))
        tree["backbone"] = {layer: given[kind]["backbone"][layer] for layer in tree["backbone"]}
    _, expected = classifier.apply(given, image, taps=True)
    maps, taps = net.apply(own, image, taps=True)
    for tap in ("conv2", "conv5"):
        np.testing.assert_array_equal(taps[tap], expected[tap])
    assert maps.heat.shape == (*taps["conv2"].shape[:3], 5)
    assert maps.size.shape == maps.offset.shape == (*taps["conv2"].shape[:3], 2)
    assert maps.extent == (size, size)


def test_at_first_everything_is_an_object_with_probability_a_tenth():
    net = Detector(without_dense(spec("small", **THIN)))
    image = jax.random.normal(jax.random.key(1), (2, 48, 48, 3))
    maps, _ = net.init_with_output(jax.random.key(0), image)
    np.testing.assert_allclose(jax.nn.sigmoid(maps.heat), 0.1, rtol=1e-6)
    assert not maps.size.any() and not maps.offset.any()


@pytest.mark.parametrize("source", ["fine", "deep"])
def test_what_is_bright_is_found_at_its_place(source, he_kernels):
    """Every kernel hands on its middle, so that the heat is the brightness that a place sees."""
    shape = without_dense(spec("small", width=0.25, num_classes=1, kernel_init="zeros", dropout=()))
    net, size, side = Detector(shape, exact=True), 128, 24
    params = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, size, size, 3)))["params"]
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params)
    for layer in (*params["backbone"].values(), params["neck"]["mix1"], params["neck"]["mix2"]):
        kernel = layer["kernel"]
        kernel[(*((n - 1) // 2 for n in kernel.shape[:-2]), 0, 0)] = 1
    params["neck"][source]["kernel"][0, 0] = params["head"]["heat"]["kernel"][0, 0] = 1
    corners = np.arange(40, 56)
    image = np.zeros((len(corners), size, size, 3), np.float32)
    for i, corner in enumerate(corners):
        image[i, corner : corner + side, size - corner - side : size - corner, 0] = 1
    heat = np.asarray(jax.jit(net.apply)({"params": params}, image).heat)[..., 0]
    at = places(shape)["conv2"].of(heat.shape[1])
    total = heat.sum(axis=(1, 2))
    rows, columns = heat.sum(2) @ at / total, heat.sum(1) @ at / total
    true = corners + (side - 1) / 2
    assert abs((rows - true).mean()) < 0.5 and abs((columns - (size - 1 - true)).mean()) < 0.5


def test_bfloat16_computes_maps_in_float32():
    net = Detector(without_dense(spec("small", width=0.25)), dtype=jnp.bfloat16)
    maps = jax.eval_shape(
        lambda: net.init_with_output(jax.random.key(0), jnp.zeros((1, 48, 48, 3)))[0]
    )
    assert maps.heat.dtype == maps.size.dtype == maps.offset.dtype == jnp.float32
