"""Spread of fresh kernels against the published formulas."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.initializers import NAMES, kernel_initializer
from alexnet_jax.models.spec import spec

CONV = (5, 5, 48, 256)  # a tower of conv2: each output sees 48 channels
DENSE = (900, 700)
FANS = {CONV: (5 * 5 * 48, 5 * 5 * 256), DENSE: (900, 700)}

# Glorot and Bengio 2010, (12) and (16); He et al. 2015, (10); LeCun et al. 1998, 4.6; PyTorch's
# documentation of Conv2d and Linear: uniform in +-1 / sqrt(fan_in).
STANDARD_DEVIATION = {
    "glorot_normal": lambda i, o: math.sqrt(2 / (i + o)),
    "he_normal": lambda i, o: math.sqrt(2 / i),
    "lecun_normal": lambda i, o: math.sqrt(1 / i),
}
LIMIT = {
    "glorot_uniform": lambda i, o: math.sqrt(6 / (i + o)),
    "he_uniform": lambda i, o: math.sqrt(6 / i),
    "lecun_uniform": lambda i, o: math.sqrt(3 / i),
    "torch_default": lambda i, o: 1 / math.sqrt(i),
}


def draw(name, shape, layer="conv2"):
    return np.asarray(kernel_initializer(name, layer)(jax.random.key(1), shape, jnp.float32))


@pytest.mark.parametrize("shape", [CONV, DENSE])
@pytest.mark.parametrize("name", STANDARD_DEVIATION)
def test_normal_initializers_have_the_published_deviation(name, shape):
    kernel = draw(name, shape)
    expected = STANDARD_DEVIATION[name](*FANS[shape])
    assert abs(kernel.mean()) < 5 * expected / math.sqrt(kernel.size)
    assert kernel.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * kernel.size))


@pytest.mark.parametrize("shape", [CONV, DENSE])
@pytest.mark.parametrize("name", LIMIT)
def test_uniform_initializers_fill_the_published_range(name, shape):
    kernel = draw(name, shape)
    limit = LIMIT[name](*FANS[shape])
    assert np.abs(kernel).max() <= limit * (1 + 1e-6)
    assert kernel.max() > 0.999 * limit and kernel.min() < -0.999 * limit
    assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=5 / math.sqrt(2 * kernel.size))


@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (64, 40)])
def test_orthogonal_kernels_have_orthonormal_columns(shape):
    columns = draw("orthogonal", shape).reshape(-1, shape[-1])
    np.testing.assert_allclose(columns.T @ columns, np.eye(shape[-1]), atol=1e-5)


def test_the_2012_network_starts_as_its_source_says():
    """layers-145.cfg: deviation 0.03 in conv3 to conv5, else 0.01; which biases start at 1."""
    net = AlexNet(spec("original_2012", width=0.25))
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    layers = params["backbone"] | {"head": params["head"]}
    wide = {"conv3", "conv4", "conv5"}
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert len(layers) == 8
    for name, layer in layers.items():
        kernel = np.asarray(layer["kernel"])
        expected = 0.03 if name in wide else 0.01
        assert kernel.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * kernel.size)), name
        assert (layer["bias"] == (1.0 if name in ones else 0.0)).all(), name


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"'kaiming'.*he_normal.*gaussian_2012"):
        kernel_initializer("kaiming", "conv1")
    assert (draw("zeros", DENSE) == 0).all()
    assert {*STANDARD_DEVIATION, *LIMIT, "orthogonal", "zeros", "gaussian_2012"} == set(NAMES)
