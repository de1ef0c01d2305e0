"""The network's taps, order of steps, types and refusals."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models import layers
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.backbone import add_bias
from alexnet_jax.models.kernels import convolution, max_pool
from alexnet_jax.models.spec import ResponseNorm, spec

RNG = np.random.default_rng(0)


@pytest.fixture
def run(he_kernels):
    def run(name, size, batch=2, **changes):
        """(network, images, params, taps) of a spec on random images of `size` px."""
        net = AlexNet(spec(name, **{"kernel_init": "zeros", **changes}))
        images = RNG.uniform(-2, 2, (batch, size, size, 3)).astype(np.float32)
        variables = jax.jit(net.init)(jax.random.key(0), images)
        params = he_kernels(variables["params"])
        _, taps = jax.jit(partial(net.apply, taps=True))({**variables, "params": params}, images)
        return net, images, params, taps

    return run


def test_taps_of_the_notes_network_step_by_step(run):
    """Each tap follows from the one before by a plain operation: what is pooled, what is dense."""
    net, images, params, taps = run("notes_224", 67, width=0.125)
    backbone = params["backbone"]
    assert set(taps) == set(net.spec.tap_names())

    def conv(x, name, **how):
        y = convolution(x, backbone[name]["kernel"], **how) + backbone[name]["bias"]
        return np.maximum(y, 0)

    def dense(x, layer):
        return np.asarray(x).reshape(len(x), -1) @ layer["kernel"] + layer["bias"]

    expected = {
        "conv1": conv(images, "conv1", stride=4),
        "pool1": max_pool(taps["conv1"]),
        "conv2": conv(taps["pool1"], "conv2", padding=(2, 2)),
        "pool2": max_pool(taps["conv2"]),
        "conv3": conv(taps["pool2"], "conv3", padding=(1, 1)),
        "conv4": conv(taps["conv3"], "conv4", padding=(1, 1)),
        "conv5": conv(taps["conv4"], "conv5", padding=(1, 1)),
        "pool5": max_pool(taps["conv5"]),
        "fc6": np.maximum(dense(taps["pool5"], backbone["fc6"]), 0),
        "fc7": np.maximum(dense(taps["fc6"], backbone["fc7"]), 0),
        "logits": dense(taps["fc7"], params["head"]),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(taps[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_2012_network_overhangs_the_image_and_normalizes_before_the_first_relu(run):
    _, images, params, taps = run("original_2012", 80, width=0.25)
    towers = ResponseNorm(towers=2)
    first = params["backbone"]["conv1"]
    overhung = np.pad(images, ((0, 0), (0, 3), (0, 3), (0, 0)))
    linear = convolution(overhung, first["kernel"], stride=4) + first["bias"]
    np.testing.assert_allclose(
        taps["conv1"], np.maximum(layers.response_norm(linear, towers), 0), rtol=1e-5, atol=1e-6
    )
    second = params["backbone"]["conv2"]
    linear = convolution(taps["pool1"], second["kernel"], padding=(2, 2), groups=2) + second["bias"]
    across = layers.response_norm(np.maximum(linear, 0), towers)
    np.testing.assert_allclose(
        taps["conv2"], layers.spatial_response_norm(across), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "pool_last"), [("bvlc_alexnet", True), ("caffenet", False)])
def test_caffes_two_networks_differ_in_the_order_of_pooling_and_response_norm(run, name, pool_last):
    _, images, params, taps = run(name, 67, width=0.25)
    first = params["backbone"]["conv1"]
    relu = np.maximum(convolution(images, first["kernel"], stride=4) + first["bias"], 0)
    norm = ResponseNorm(k=1.0)
    if pool_last:
        conv1 = layers.response_norm(relu, norm)
        pool1 = max_pool(conv1)
    else:
        conv1, pool1 = relu, layers.response_norm(max_pool(relu), norm)
    np.testing.assert_allclose(taps["conv1"], conv1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(taps["pool1"], pool1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position", ["before", "after"])
def test_normalization_before_or_after_the_activation(run, position):
    """Batch norm last leaves a mean of 0 and a variance of 1; a sigmoid last leaves 0 to 1."""
    net, images, params, _ = run(
        "small", 64, batch=8, normalization="batch", norm_position=position, activation="sigmoid"
    )
    stats = jax.eval_shape(net.init, jax.random.key(0), images)["batch_stats"]
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), stats)
    apply = partial(net.apply, train=True, taps=True, mutable=["batch_stats"])
    variables = {"params": params, "batch_stats": stats}
    (_, taps), _ = jax.jit(apply)(variables, images, rngs={"dropout": jax.random.key(0)})
    conv1 = np.asarray(taps["conv1"])
    if position == "before":
        assert conv1.min() > 0 and conv1.max() < 1
    else:
        np.testing.assert_allclose(conv1.mean((0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(conv1.var((0, 1, 2)), 1, atol=1e-2)
    # A bias in front of batch norm would be subtracted again.
    assert ("bias" in params["backbone"]["conv1"]) == (position == "after")


def test_only_batch_norm_takes_the_place_of_a_dense_bias():
    image = jnp.zeros((1, 64, 64, 3))
    for kind in ("none", "local_response", "batch", "layer", "group"):
        net = AlexNet(spec("small", normalization=kind, dense_normalization=True))
        fc6 = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["backbone"]["fc6"]
        assert ("bias" in fc6) == (kind != "batch"), kind


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("identity", lambda x: x),
    ],
)
def test_activations(run, name, formula):
    _, images, params, taps = run("small", 64, activation=name)
    first = params["backbone"]["conv1"]
    linear = convolution(images, first["kernel"], stride=2, padding=(2, 2)) + first["bias"]
    np.testing.assert_allclose(taps["conv1"], formula(np.asarray(linear)), rtol=1e-4, atol=1e-5)


def test_whole_number_images_are_scaled_to_one(run):
    net, _, params, _ = run("small", 64)
    images = RNG.integers(0, 256, (2, 64, 64, 3), np.uint8)
    apply = jax.jit(net.apply)
    ours = apply({"params": params}, images)
    expected = apply({"params": params}, np.float32(images) / 255)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_computes_in_it_and_answers_in_float32(run):
    net, images, params, taps = run("small", 64)
    half = AlexNet(net.spec, dtype=jnp.bfloat16)
    logits, half_taps = jax.jit(partial(half.apply, taps=True))({"params": params}, images)
    assert half_taps["fc7"].dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    scale = np.abs(taps["logits"]).max()
    assert 0 < np.abs(logits - taps["logits"]).max() < 0.05 * scale


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_gradient_of_a_bias_is_summed_wider_than_half_precision(dtype):
    """Neither format has 3001: its neighbours are 3000 and 3002 at best."""
    x, bias = jnp.ones((3001, 1), dtype), jnp.full(1, 2.0**-12, jnp.float32)
    y, back = jax.vjp(add_bias, x - 1, bias)
    assert y.dtype == dtype and (y == 2.0**-12).all()
    dx, d_bias = back(jnp.ones_like(y))
    assert dx.dtype == dtype and (dx == 1).all()
    assert d_bias.dtype == jnp.float32 and d_bias == 3001
    assert add_bias(x, None) is x


def test_without_training_nothing_is_random_and_no_key_is_needed(run):
    net, images, params, taps = run("small", 64)
    _, again = jax.jit(partial(net.apply, taps=True))({"params": params}, images)
    np.testing.assert_array_equal(again["logits"], taps["logits"])


@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 3, 64, 64), (2, 64, 64, 1)])
def test_images_of_another_layout_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, 3\]"):
        AlexNet(spec("small")).init(jax.random.key(0), jnp.zeros(shape))
