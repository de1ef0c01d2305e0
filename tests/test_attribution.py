"""Saliency and occlusion against closed forms on linear nets, and against plain NumPy loops."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import AlexNet, occlusion, saliency, spec

H, W, K = 10, 14, 3


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights(rng):
    return rng.normal(size=(H, W, 3, K)).astype(np.float32) / 10


@pytest.fixture(scope="module")
def images(rng):
    return rng.normal(size=(4, H, W, 3)).astype(np.float32)


def linear(weights):
    return lambda images: jnp.einsum("bhwc,hwck->bk", images, weights)


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def test_saliency_of_a_linear_net_is_its_weights_whatever_the_image(weights, images):
    classes = np.array([2, 0, 1, 0])
    found = saliency(linear(weights), images, classes)
    expected = np.abs(weights).max(axis=2)[..., classes].transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_saliency_of_a_square_is_twice_the_image(images):
    found = saliency(lambda x: (x**2).sum(axis=(1, 2)), images, np.zeros(4, int))
    np.testing.assert_allclose(found, 2 * np.abs(images[..., 0]), rtol=1e-6)  # class 0: red


def by_loops(apply, images, classes, patch, stride, fill):
    """Occlusion as one would do it by hand: hide, ask, put back."""
    rows, columns = -(-images.shape[1] // stride), -(-images.shape[2] // stride)
    found = np.zeros((len(images), rows, columns))
    for b, (image, label) in enumerate(zip(images, classes, strict=True)):
        whole = softmax(np.asarray(apply(image[None])))[0, label]
        for i in range(rows):
            for j in range(columns):
                hidden, before = image.copy(), (patch - stride) // 2
                top, left = i * stride - before, j * stride - before
                hidden[max(top, 0) : top + patch, max(left, 0) : left + patch] = fill
                found[b, i, j] = whole - softmax(np.asarray(apply(hidden[None])))[0, label]
    return found


@pytest.mark.parametrize(
    ("patch", "stride", "fill", "batch"),
    [
        (4, 2, 0.0, 128),  # all places in few calls
        (3, 2, 0.5, 1),  # one place a call
        (1, 1, 0.0, 32),
        (5, 4, (0.1, -0.2, 0.3), 20),  # cells beyond the edge, a colour, a last call filled up
        (99, 7, 1.0, 128),  # hides everything, everywhere
    ],
)
def test_occlusion_is_what_hiding_one_place_after_the_other_gives(
    weights, images, patch, stride, fill, batch
):
    apply, classes = linear(weights), np.array([2, 0, 1, 0])
    ask = partial(occlusion, apply, patch=patch, stride=stride, fill=fill, batch=batch)
    expected = by_loops(apply, images, classes, patch, stride, fill)
    found = jax.jit(ask)(images, classes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(expected).max() > 0.01


def test_occlusion_of_a_mean_has_a_known_value_at_every_place():
    """Two classes, the image's mean m against nothing: p = sigmoid(m). Of an image of ones, a patch
    hides its own area."""

    def apply(images):
        mean = images.mean(axis=(1, 2, 3))
        return jnp.stack([mean, jnp.zeros_like(mean)], axis=1)

    found = occlusion(apply, jnp.ones((1, 8, 8, 3)), [0], patch=4, stride=2)
    along = np.array([3, 4, 4, 3])  # pixels of an axis under the patch: cut off at both ends
    hidden = np.outer(along, along) / 64
    expected = 1 / (1 + np.exp(-1)) - 1 / (1 + np.exp(-(1 - hidden)))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    other = occlusion(apply, jnp.ones((1, 8, 8, 3)), [1], patch=4, stride=2)
    np.testing.assert_allclose(other, -found, atol=1e-6)  # what one class loses the other gains


def test_maps_follow_an_object_that_moves(rng):
    """A net that sums what a small filter finds, squared, sees a thing wherever it is."""
    kernel = rng.normal(size=(3, 3, 3, 1)).astype(np.float32)

    def apply(images):
        seen = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        energy = (seen**2).sum(axis=(1, 2))
        return jnp.concatenate([energy / 50, jnp.zeros_like(energy)], axis=1)

    thing = rng.normal(size=(5, 5, 3))
    images = np.zeros((2, 24, 24, 3), np.float32)
    images[0, 4:9, 6:11] = thing
    images[1, 12:17, 14:19] = thing  # 8 down, 8 to the right
    for found, by in (
        (saliency(apply, images, [0, 0]), 8),
        (occlusion(apply, images, [0, 0], patch=4, stride=2), 4),
    ):
        assert found[0].max() > 1e-3
        moved = np.roll(found[0], (by, by), axis=(0, 1))
        np.testing.assert_allclose(moved, found[1], atol=1e-5)
        seen = np.asarray(found[0]) > 1e-6
        assert 0 < seen.mean() < 0.25  # nothing where there is nothing


def test_a_network_is_looked_into_row_by_row_in_one_program(he_kernels, rng):
    net = AlexNet(spec("small", num_classes=4, width=0.1, kernel_init="zeros"))
    images = rng.normal(size=(3, 32, 32, 3)).astype(np.float32)
    params = he_kernels(net.init(jax.random.key(0), images[:1])["params"])
    traced = []

    def maps(params, images, classes):
        traced.append(1)
        apply = partial(net.apply, {"params": params})
        return saliency(apply, images, classes), occlusion(
            apply, images, classes, patch=8, stride=8, batch=12
        )

    together, classes = jax.jit(maps), np.array([0, 3, 1])
    heat, drops = together(params, images, classes)
    together(params, images[::-1].copy(), classes)
    assert len(traced) == 1
    apply = jax.jit(partial(net.apply, {"params": params}))
    np.testing.assert_allclose(
        drops, by_loops(apply, images, classes, 8, 8, 0.0), atol=1e-5, rtol=1e-4
    )
    # The gradient is the slope along any direction of a net that is linear between its kinks.
    step, direction = 1e-3, rng.normal(size=images.shape).astype(np.float32)
    gradient = jax.grad(lambda x: apply(x)[np.arange(3), classes].sum())(images)
    rise = apply(images + step * direction) - apply(images - step * direction)
    slope = np.asarray(rise)[np.arange(3), classes] / (2 * step)
    np.testing.assert_allclose(
        np.einsum("bhwc,bhwc->b", gradient, direction), slope, rtol=0.05, atol=0.05
    )
    np.testing.assert_allclose(heat, np.abs(gradient).max(axis=-1), rtol=1e-5)


def test_what_cannot_be_looked_at_is_refused(images):
    apply = linear(np.ones((H, W, 3, K)))
    with pytest.raises(ValueError, match=r"uint8 \[4, 10, 14, 3\]; expected floating point"):
        saliency(apply, images.astype(np.uint8), [0] * 4)
    with pytest.raises(ValueError, match=r"expected a whole number an image, \[4\]"):
        saliency(apply, images, [0, 1])
    with pytest.raises(ValueError, match="int32"):
        occlusion(apply, jnp.asarray(images, jnp.int32), [0] * 4, patch=2, stride=2)
    with pytest.raises(ValueError, match="patch 0, stride 2"):
        occlusion(apply, images, [0] * 4, patch=0, stride=2)
