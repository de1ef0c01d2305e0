"""Figures of layers against closed forms on linear nets, NumPy and PyTorch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import AlexNet, classification, init_state, optimizer, spec, train_step
from alexnet_jax.train.diagnostics import (
    activation_norms,
    data_gradient,
    dead_shares,
    layer_norms,
    update_ratios,
)


def floats(figures):
    return {name: float(value) for name, value in figures.items()}


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_the_gradient_of_a_deep_linear_net_falls_or_grows_as_known(gain):
    """y = Q_L ... Q_1 x with Q_l = gain x orthogonal, loss |y|^2 / 2. Then dL/dQ_l is the outer
    product of the error at l and the activation below l: its norm is |y| gain^(L-l) gain^(l-1) |x|
    = gain^(2 L - 1) |x|^2 for every l, and what enters layer l has the norm gain^(l-1) |x|."""
    rng, depth, size = np.random.default_rng(0), 6, 8
    params = {
        f"layer{i}": {"kernel": gain * np.linalg.qr(rng.normal(size=(size, size)))[0]}
        for i in range(depth)
    }
    x = rng.normal(size=size)

    def taps(params):
        value, found = jnp.asarray(x), {}
        for name, layer in params.items():
            found[name] = value = value @ layer["kernel"]
        return found

    gradient = jax.grad(lambda p: (taps(p)[f"layer{depth - 1}"] ** 2).sum() / 2)(params)
    expected = gain ** (2 * depth - 1) * (x @ x)
    assert floats(layer_norms(gradient)) == pytest.approx(dict.fromkeys(params, expected), rel=1e-4)
    found = activation_norms({name: value[None] for name, value in taps(params).items()})
    length = np.sqrt(x @ x / size)
    wanted = {f"layer{i}": gain ** (i + 1) * length for i in range(depth)}
    assert floats(found) == pytest.approx(wanted, rel=1e-5)


def test_plain_descent_on_a_linear_net_has_the_ratio_of_its_closed_form():
    """y = b (a x): dL/da = b y x and dL/db = y a x for the loss y^2 / 2."""
    a, b, x, rate = 3.0, -0.5, 2.0, 0.01
    before = {"low": {"kernel": jnp.full((1, 1), a)}, "high": {"kernel": jnp.full((1, 1), b)}}
    gradient = jax.grad(lambda p: ((x * p["low"]["kernel"] @ p["high"]["kernel"]) ** 2).sum() / 2)(
        before
    )
    after = jax.tree.map(lambda w, g: w - rate * g, before, gradient)
    y = b * a * x
    expected = {"low": rate * abs(b * y * x) / a, "high": rate * abs(y * a * x) / abs(b)}
    assert floats(update_ratios(before, after)) == pytest.approx(expected, rel=1e-5)


def test_ratios_are_of_weights_alone_and_skip_what_is_split_off():
    before = {
        "fc6": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)},
        "fc7": {"kernel": None, "bias": None},
        "norm1": {"scale": jnp.ones(3)},
        "fresh": {"kernel": jnp.zeros((2, 2))},
        "still": {"kernel": jnp.zeros((2, 2))},
    }
    after = jax.tree.map(lambda x: x + 0.25, before) | {"still": before["still"]}
    found = floats(update_ratios(before, after))
    assert found == {"fc6": 0.25, "fresh": np.inf, "still": 0.0}


def test_norms_of_halves_are_added_up_in_float32():
    half = {"conv1": {"kernel": jnp.full((100, 1000), 0.1, jnp.float16)}}
    norm = layer_norms(half)["conv1"]
    assert norm.dtype == jnp.float32
    assert float(norm) == pytest.approx(np.sqrt(1e5) * float(np.float16(0.1)), rel=1e-5)
    moved = jax.tree.map(lambda x: x * jnp.float16(1.5), half)
    expected = float(np.float16(0.1) * np.float16(1.5)) / float(np.float16(0.1)) - 1
    assert float(update_ratios(half, moved)["conv1"]) == pytest.approx(expected, rel=1e-4)


def test_a_unit_is_dead_that_no_valid_example_excites_anywhere():
    maps = np.zeros((3, 4, 4, 5), np.float32)
    maps[0, 1, 2, 0] = 1.0  # one place of one example will do
    maps[1, ..., 1] = -1.0
    maps[2, ..., 2] = 1.0  # by an example that does not count
    valid = np.array([True, True, False])
    neurons = np.array([[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    found = floats(dead_shares({"conv1": maps, "fc6": neurons}, valid))
    assert found == pytest.approx({"conv1": 0.8, "fc6": 0.5})
    assert floats(dead_shares({"conv1": maps}))["conv1"] == pytest.approx(0.6)


def test_activations_are_measured_over_valid_examples():
    rng = np.random.default_rng(0)
    value = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    value[3] = 1e6
    found = activation_norms({"conv1": value}, np.array([True, True, True, False]))
    assert float(found["conv1"]) == pytest.approx(np.sqrt(np.mean(value[:3] ** 2)), rel=1e-6)


def test_the_gradient_is_that_of_the_train_step(he_kernels):
    """Its norm, dropout included, is what the step reports; every layer's is what PyTorch finds in
    a linear classifier."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(6, 32, 32, 3)).astype(np.float32),
        "label": np.arange(6, dtype=np.int32) % 3,
        "valid": np.array([True] * 5 + [False]),
    }
    net = AlexNet(spec("small", num_classes=3, width=0.25, kernel_init="zeros"), exact=True)
    task, tx = classification(net), optimizer("sgd", learning_rate=0.1)
    state = init_state(seed=1, task=task, tx=tx, image_shape=(32, 32, 3))
    state = state.replace(params=he_kernels(state.params))

    @jax.jit
    def both(state, batch):
        norms = layer_norms(data_gradient(state, batch, task=task))
        return norms, partial(train_step, task=task, tx=tx)(state, batch)[1]["gradient_norm"]

    norms, whole = both(state, batch)
    assert set(norms) == {f"backbone/conv{i}" for i in range(1, 6)} | {
        "backbone/fc6",
        "backbone/fc7",
        "head",
    }
    together = np.sqrt(sum(float(norm) ** 2 for norm in norms.values()))
    assert together == pytest.approx(float(whole), rel=1e-5)


def test_layers_norms_are_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 7), (7, 4))]
    x = rng.normal(size=(3, 5)).astype(np.float32)

    def net(x, params, relu):
        return relu(x @ params[0]) @ params[1]

    theirs = [torch.tensor(kernel, requires_grad=True) for kernel in kernels]
    (net(torch.tensor(x), theirs, torch.relu) ** 2).mean().backward()
    gradient = jax.grad(lambda p: (net(x, p, jax.nn.relu) ** 2).mean())(kernels)
    found = layer_norms({f"fc{i}": {"kernel": g} for i, g in enumerate(gradient)})
    expected = {f"fc{i}": float(kernel.grad.norm()) for i, kernel in enumerate(theirs)}
    assert floats(found) == pytest.approx(expected, rel=1e-5)
