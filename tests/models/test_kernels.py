"""Convolution against NumPy, max pooling against XLA's own, to the bit, dense against PyTorch."""

from __future__ import annotations

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from alexnet_jax.models import kernels
from alexnet_jax.models.alexnet import AlexNet, convolution_forms
from alexnet_jax.models.kernels import convolution, dense, max_pool
from alexnet_jax.models.spec import spec

RNG = np.random.default_rng(0)


def numpy_convolution(x, kernel, stride):
    """Correlation of [B, H, W, C] with [h, w, C, F] at every `stride`-th place that fits."""
    h, w = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(1, 2))
    return np.einsum("bijchw,hwcf->bijf", windows[:, ::stride, ::stride], kernel)


@pytest.mark.parametrize(("stride", "padding"), [(1, (2, 2)), (4, (0, 3)), (2, (1, 0))])
@pytest.mark.parametrize("exact", [False, True])
def test_convolution_pads_with_zeros_before_and_after(stride, padding, exact, monkeypatch):
    x, kernel = RNG.normal(size=(2, 14, 15, 3)), RNG.normal(size=(5, 5, 3, 4))
    padded = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    monkeypatch.setattr(kernels, "_suits_winograd", lambda *_: True)
    x, kernel = jnp.float32(x), jnp.float32(kernel)
    ours = convolution(x, kernel, stride=stride, padding=padding, exact=exact)
    theirs = numpy_convolution(padded, np.asarray(kernel, np.float64), stride)
    error = np.abs(ours - theirs).max()
    assert error < 2e-5 if exact else error < 2e-5 * np.abs(theirs).max()


def test_towers_convolve_each_half_on_its_own():
    x, kernel = RNG.normal(size=(2, 9, 9, 8)), RNG.normal(size=(3, 3, 4, 6))
    halves = [
        numpy_convolution(x[..., :4], kernel[..., :3], 1),
        numpy_convolution(x[..., 4:], kernel[..., 3:], 1),
    ]
    ours = convolution(jnp.float32(x), jnp.float32(kernel), groups=2)
    np.testing.assert_allclose(ours, np.concatenate(halves, -1), atol=2e-5)


def reduce_window_pool(x):
    return lax.reduce_window(x, -np.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (7, 8), (13, 13), (26, 27)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_are_xlas_to_the_bit(size, ties):
    """Whole numbers as cotangents: their sums are exact in any order."""
    x = RNG.normal(size=(2, *size, 5)).astype(np.float32)
    x = np.maximum(np.round(x), 0.0) if ties else x  # ReLU's zeros, and many equal maxima
    ours, our_backward = jax.vjp(max_pool, x)
    theirs, their_backward = jax.vjp(reduce_window_pool, x)
    np.testing.assert_array_equal(ours, theirs)
    cotangent = RNG.integers(-9, 10, ours.shape).astype(np.float32)
    np.testing.assert_array_equal(our_backward(cotangent)[0], their_backward(cotangent)[0])


def test_ties_go_to_the_first_maximum_in_row_order():
    x = np.zeros((1, 5, 3, 1), np.float32)
    x[0, 1, 1:] = 7.0  # two equal maxima, in the upper window only
    (gradient,) = jax.vjp(max_pool, x)[1](jnp.array([1.0, 2.0]).reshape(1, 2, 1, 1))
    expected = np.zeros((5, 3))
    expected[1, 1] = 1.0
    expected[2, 0] = 2.0  # a window of zeros: its top left corner
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_a_window_with_a_nan_gives_nan_and_no_gradient():
    x = np.ones((1, 3, 5, 1), np.float32)
    x[0, 0, 0] = np.nan
    y, backward = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 1.0])
    assert backward(jnp.ones_like(y))[0].sum() == 1.0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_half_precision(dtype):
    x = jnp.asarray(RNG.normal(size=(1, 7, 7, 2)), dtype)
    y, backward = jax.vjp(max_pool, x)
    assert y.dtype == backward(y)[0].dtype == dtype
    np.testing.assert_array_equal(y, reduce_window_pool(x.astype(jnp.float32)))
    assert convolution(x, jnp.ones((3, 3, 2, 4), dtype)).dtype == dtype


def shape_of(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


IMAGES, KERNEL = shape_of(32, 13, 13, 64), shape_of(3, 3, 64, 64)


def lowered(platform, x=IMAGES, kernel=KERNEL, **options):
    """The program of a convolution and its gradients for a platform, as text."""

    def value_and_gradients(x, kernel):
        value, backward = jax.vjp(partial(convolution, padding=(1, 1), **options), x, kernel)
        return value, backward(value)

    program = jax.export.export(jax.jit(value_and_gradients), platforms=[platform])(x, kernel)
    return program.mlir_module()


PLAIN = "stablehlo.convolution"


def test_the_fast_form_is_that_of_a_cpu_alone():
    assert PLAIN not in lowered("cpu")
    assert lowered("cuda").count(PLAIN) == lowered("tpu").count(PLAIN) == 3
    assert lowered("cpu", exact=True).count(PLAIN) == 3


def test_what_winograd_cannot_be_or_gains_nothing_by_stays_plain():
    assert PLAIN in lowered("cpu", shape_of(1, 13, 13, 64))  # one small image
    assert PLAIN in lowered("cpu", kernel=shape_of(7, 7, 64, 64))


def test_a_program_for_any_batch_size_is_plain():
    rows = jax.export.symbolic_shape("batch, 13, 13, 64")
    assert PLAIN in lowered("cpu", shape_of(*rows))


def test_forms_are_told_layer_by_layer():
    forms = convolution_forms(AlexNet(spec("notes_224")), 224, 32)
    assert list(forms) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert forms["conv2"].startswith("winograd 4x4 of 5x5, ")
    assert forms["conv3"] == "winograd 4x4 of 3x3, 32 at a time"
    exact = convolution_forms(AlexNet(spec("notes_224"), exact=True), 224, 32)
    assert set(exact.values()) == {"plain"}
    assert convolution_forms(AlexNet(spec("notes_224")), 224, 1)["conv5"] == "plain"


# ---- dense ---------------------------------------------------------------------------------------

X, W, G = (RNG.normal(size=s).astype(np.float32) for s in ((32, 300), (300, 70), (32, 70)))


def value_and_gradients(x, kernel, g):
    y, backward = jax.vjp(dense, x, kernel)
    return y, *backward(g.astype(y.dtype))


def test_a_dense_product_is_that_of_each_place():
    x, g = X.reshape(2, 4, 4, 300), G.reshape(2, 4, 4, 70)
    y, dx, dk = value_and_gradients(jnp.asarray(x), jnp.asarray(W), jnp.asarray(g))
    np.testing.assert_allclose(y, x @ W, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, g @ W.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dk, X.T @ G, rtol=1e-4, atol=1e-4)


def test_a_dense_product_in_bfloat16_errs_no_more_than_pytorchs():
    """Beside float64, where PyTorch's is autocast's."""
    ours = value_and_gradients(jnp.asarray(X, jnp.bfloat16), jnp.asarray(W), jnp.asarray(G))
    assert [value.dtype for value in ours] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    x = torch.from_numpy(X).bfloat16().requires_grad_()
    kernel = torch.from_numpy(W.T.copy()).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = torch.nn.functional.linear(x, kernel)
    y.backward(torch.from_numpy(G).bfloat16())
    theirs = y.detach().float(), x.grad.float(), kernel.grad.float().T
    x, kernel, g = (array.astype(np.float64) for array in (X, W, G))
    for a, b, true in zip(ours, theirs, (x @ kernel, g @ kernel.T, x.T @ g), strict=True):
        error, of_torch = (np.abs(np.asarray(v, np.float64) - true).max() for v in (a, b.numpy()))
        assert error <= 1.01 * of_torch  # sums in another order round otherwise


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_a_dense_product_adds_up_in_float32(dtype):
    """3000 ones: float16 would count them, bfloat16 would stop at 256."""
    x = jnp.ones((1, 3000), dtype)
    y, _, dk = value_and_gradients(x, jnp.ones((3000, 2)), jnp.ones((1, 2)))
    assert y.dtype == dtype and dk.dtype == jnp.float32
    assert y[0, 0] == jnp.asarray(3000, dtype)
    _, dx, _ = value_and_gradients(
        jnp.ones((1, 2), dtype), jnp.ones((2, 3000)), jnp.ones((1, 3000))
    )
    assert dx[0, 0] == jnp.asarray(3000, dtype)
