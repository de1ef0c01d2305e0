"""Response norm, batch norm and dropout against the papers' formulas and PyTorch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alexnet_jax.models import layers
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import ResponseNorm, spec

RNG = np.random.default_rng(0)


def response_norm_of_the_paper(a, size, alpha, beta, k):
    """b_i = a_i / (k + alpha sum_{j = max(0, i - n/2)}^{min(N - 1, i + n/2)} a_j^2)^beta."""
    channels = a.shape[-1]
    b = np.empty_like(a, np.float64)
    for i in range(channels):
        window = slice(max(0, i - size // 2), min(channels - 1, i + size // 2) + 1)
        total = np.square(a[..., window].astype(np.float64)).sum(-1)
        b[..., i] = a[..., i] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("towers", [1, 2])
def test_response_norm_is_the_papers_within_each_tower(size, towers):
    x = RNG.normal(0, 20, (2, 3, 4, 12)).astype(np.float32)
    # The code takes alpha as the source does, divided by the window's size; the paper does not.
    ours = layers.response_norm(x, ResponseNorm(size, alpha=0.05, k=2.0, towers=towers))
    halves = np.split(x, towers, axis=-1)
    paper = [response_norm_of_the_paper(h, size, 0.05 / size, 0.75, 2.0) for h in halves]
    np.testing.assert_allclose(ours, np.concatenate(paper, -1), rtol=2e-6)
    if towers == 2:
        across = response_norm_of_the_paper(x, size, 0.05 / size, 0.75, 2.0)
        assert np.abs(ours - across).max() > 0.1


def test_response_norm_and_its_gradient_are_pytorchs():
    x = RNG.normal(0, 20, (2, 4, 5, 16)).astype(np.float32)
    cotangent = RNG.normal(size=x.shape).astype(np.float32)
    settings = ResponseNorm(size=5, alpha=1e-2, beta=0.75, k=1.0)
    ours, backward = jax.vjp(lambda x: layers.response_norm(x, settings), x)

    t = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.LocalResponseNorm(5, alpha=1e-2, beta=0.75, k=1.0)(t)
    theirs.backward(torch.tensor(cotangent.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours, theirs.detach().permute(0, 2, 3, 1), rtol=2e-6)
    (gradient,) = backward(cotangent)
    np.testing.assert_allclose(gradient, t.grad.permute(0, 2, 3, 1), atol=1e-6)


def test_spatial_response_norm_sums_over_pixels_of_the_same_channel():
    x = RNG.normal(0, 30, (2, 6, 7, 3)).astype(np.float32)
    expected = np.empty_like(x)
    for i in range(6):
        for j in range(7):
            near = x[:, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
            scale = 1 + 1e-3 / 25 * np.square(near).sum((1, 2))
            expected[:, i, j] = x[:, i, j] / scale**0.75
    np.testing.assert_allclose(layers.spatial_response_norm(x), expected, rtol=2e-6)


def test_response_norm_sums_in_float32_where_the_input_is_half_precision():
    x = RNG.normal(0, 300, (1, 2, 2, 8)).astype(np.float16)  # squares overflow float16
    ours = layers.response_norm(jnp.asarray(x), ResponseNorm())
    assert ours.dtype == jnp.float16
    expected = response_norm_of_the_paper(x, 5, 1e-4 / 5, 0.75, 2.0)
    np.testing.assert_allclose(ours, expected, rtol=2e-3)


def batch_norm(x, valid, stats, train=True):
    variables = {"params": {"scale": SCALE, "bias": BIAS}, "batch_stats": stats}
    norm = layers.BatchNorm()
    return norm.apply(variables, x, valid, None, train, mutable=["batch_stats"])


SCALE = np.array([1.0, 2.0, 0.5], np.float32)
BIAS = np.array([0.0, -1.0, 3.0], np.float32)
STATS = {"mean": np.array([5.0, 0.0, -1.0], np.float32), "var": np.full(3, 4.0, np.float32)}


@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (6, 3)])
def test_batch_norm_takes_its_statistics_from_the_valid_rows_alone(shape):
    x = RNG.normal(3, 2, shape).astype(np.float32)
    valid = np.array([1, 0, 1, 1, 0, 1], bool)
    x[~valid] = 1e4
    y, updated = batch_norm(x, valid, STATS)

    counted = x[valid].reshape(-1, 3).astype(np.float64)
    mean, var = counted.mean(0), counted.var(0)
    expected = (x[valid] - mean) / np.sqrt(var + 1e-5) * SCALE + BIAS
    np.testing.assert_allclose(y[valid], expected, atol=2e-5)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.9 * STATS["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * STATS["var"] + 0.1 * var, rtol=1e-5)


def test_batch_norm_evaluates_with_running_statistics_and_leaves_them():
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    y, updated = batch_norm(x, np.ones(4, bool), STATS, train=False)
    expected = (x - STATS["mean"]) / np.sqrt(STATS["var"] + 1e-5) * SCALE + BIAS
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert (updated["batch_stats"]["mean"] == STATS["mean"]).all()


def test_batch_norm_learns_nothing_from_a_batch_without_a_valid_row():
    y, updated = batch_norm(np.ones((4, 3), np.float32), np.zeros(4, bool), STATS)
    assert np.isfinite(y).all()
    for name, value in STATS.items():
        assert (updated["batch_stats"][name] == value).all()


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_normalizations_of_a_network_are_pytorchs(he_kernels, kind):
    """Normalization after the activation, so that a tap is what the norm gave."""
    shared = {"activation": "tanh", "kernel_init": "zeros", "dropout": ()}
    net = AlexNet(spec("small", normalization=kind, norm_position="after", **shared))
    x = RNG.uniform(size=(3, 64, 64, 3)).astype(np.float32)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    params = jax.tree.map(np.array, he_kernels(variables["params"]))
    norm = params["backbone"]["norm1"]
    norm["scale"][:] = RNG.uniform(0.5, 2, 32)
    norm["bias"][:] = RNG.normal(size=32)
    plain = AlexNet(spec("small", **shared))
    _, before = jax.jit(partial(plain.apply, taps=True))({"params": params}, x)
    variables = {**variables, "params": params}
    apply = partial(net.apply, train=True, taps=True, mutable=["batch_stats"])
    (_, after), _ = jax.jit(apply)(variables, x)

    theirs = {
        "batch": torch.nn.BatchNorm2d(32),
        "layer": torch.nn.GroupNorm(1, 32),
        "group": torch.nn.GroupNorm(32, 32),
    }[kind]
    theirs.load_state_dict(
        {"weight": torch.tensor(norm["scale"]), "bias": torch.tensor(norm["bias"])}, strict=False
    )
    expected = theirs(torch.tensor(np.array(before["conv1"])).permute(0, 3, 1, 2))
    np.testing.assert_allclose(
        after["conv1"], expected.detach().permute(0, 2, 3, 1), atol=2e-4, rtol=1e-4
    )


def test_dropout_keeps_its_share_and_scales_what_it_keeps():
    x = jnp.full((64, 4096), 3.0)
    for rate in (0.0, 0.2, 0.5):
        y = np.asarray(layers.dropout(x, rate, jax.random.key(0), jnp.arange(64)))
        assert set(np.unique(y)) <= {np.float32(0), np.float32(3) / np.float32(1 - rate)}
        n = y.size
        assert abs((y == 0).mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / n)
        assert abs(y.mean() - 3) < 0.05
    rows = y != 0
    agreement = (rows[0] == rows[1:]).mean(1)  # rows draw independently: half of all places
    assert np.abs(agreement - 0.5).max() < 0.05


def test_dropouts_mask_belongs_to_the_row_not_to_the_batch_it_comes_in():
    key, x = jax.random.key(3), jnp.ones((8, 5, 5, 4))
    whole = layers.dropout(x, 0.5, key, jnp.arange(8))
    rows = jnp.array([6, 1, 3])
    np.testing.assert_array_equal(layers.dropout(x[:3], 0.5, key, rows), whole[rows])
    other = layers.dropout(x, 0.5, jax.random.key(4), jnp.arange(8))
    assert (other != whole).mean() > 0.4


def test_the_networks_layers_draw_masks_of_their_own():
    net = AlexNet(spec("small", num_classes=256, dropout=("fc6", "fc7"), kernel_init="zeros"))
    x = jnp.zeros((8, 64, 64, 3))
    params = jax.jit(net.init)(jax.random.key(0), x)["params"]
    params["backbone"]["fc6"]["bias"] = jnp.ones(256)
    params["backbone"]["fc7"]["kernel"] = params["head"]["kernel"] = jnp.eye(256)
    apply = jax.jit(partial(net.apply, train=True, taps=True))
    logits, taps = apply({"params": params}, x, rngs={"dropout": jax.random.key(1)})
    first = np.asarray(taps["fc7"])  # fc6 after its dropout, passed on by the identity
    assert set(np.unique(first)) == {0.0, 2.0}
    assert set(np.unique(logits)) == {0.0, 4.0}
    both = (logits != 0).mean()  # a quarter where the masks are independent, half where equal
    assert abs(both - 0.25) < 5 * np.sqrt(0.25 * 0.75 / logits.size)


def test_double_precision_stays_double_precision():
    with jax.enable_x64(True):
        x = RNG.normal(0, 20, (3, 4, 5, 12))
        ours = layers.response_norm(jnp.asarray(x), ResponseNorm(towers=1))
        expected = response_norm_of_the_paper(x, 5, 1e-4 / 5, 0.75, 2.0)
        np.testing.assert_allclose(ours, expected, rtol=1e-13)

        norm, valid = layers.BatchNorm(param_dtype=jnp.float64), np.ones(3, bool)
        variables = norm.init(jax.random.key(0), jnp.asarray(x), valid, None, True)
        y, _ = norm.apply(variables, jnp.asarray(x), valid, None, True, mutable=["batch_stats"])
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-12)
