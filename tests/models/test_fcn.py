"""The classifier at every place: its own answers, where places look, how scores reach pixels."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.backbone import Backbone, Pass
from alexnet_jax.models.fcn import (
    FCN,
    FEATURES,
    Around,
    Places,
    interpolation,
    places,
    resample,
    window,
)
from alexnet_jax.models.spec import Conv, Spec, smallest_size, spec
from alexnet_jax.transfer.convolutionalize import in_form_of

THIN = {"width": 1 / 16, "num_classes": 5, "kernel_init": "zeros"}


def trees(net, fcn, size, fill):
    """The classifier's variables, filled by NumPy, and the same for the fully convolutional net."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    params = fill(jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes["params"]))
    own = jax.eval_shape(fcn.init, jax.random.key(0), image)["params"]
    backbone = in_form_of(own["backbone"], params["backbone"])
    stats = {k: v for k, v in shapes.items() if k == "batch_stats"}
    stats = jax.tree.map(lambda x: np.full(x.shape, 0.7, x.dtype), stats)
    head = {"score": params["head"]}
    return {"params": params, **stats}, {"params": {"backbone": backbone, "head": head}, **stats}


@pytest.mark.parametrize("name", ["small", "notes_224", "notes_227", "batchnorm"])
def test_at_the_classifiers_size_its_logits_stand_in_the_middle(name, he_kernels):
    """Exactly the place whose window is the whole map: no weight is lost or put elsewhere."""
    net = AlexNet(spec(name, **(THIN | {"width": 0.25} if name == "small" else THIN)), exact=True)
    fcn = FCN(net.spec, exact=True, skips=())
    size, middle = net.spec.image_size, (window(net.spec) - 1) // 2
    dense, convolutional = trees(net, fcn, size, he_kernels)
    image = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    expected, taps = net.apply(dense, image, taps=True)
    _, found = fcn.apply(convolutional, image, taps=True)
    np.testing.assert_allclose(found["fc7"][:, middle, middle], taps["fc7"], rtol=1e-4, atol=1e-4)
    scores = found["fc7"] @ dense["params"]["head"]["kernel"] + dense["params"]["head"]["bias"]
    np.testing.assert_allclose(scores[:, middle, middle], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected).max() > 0.01


def test_unpadded_it_is_the_classifier_slid_over_the_image(he_kernels):
    bare = Spec(
        name="bare",
        image_size=39,
        convs=(Conv(4, 5, stride=2, then=("activation", "pool")), Conv(8, 3)),
        dense=(8, 8),
        num_classes=3,
        dropout=(),
        kernel_init="zeros",
    )
    net, fcn = AlexNet(bare, exact=True), FCN(bare, exact=True, skips=())
    dense, convolutional = trees(net, fcn, 39, he_kernels)
    image = np.random.default_rng(3).normal(size=(1, 63, 55, 3)).astype(np.float32)
    _, found = fcn.apply(convolutional, image, taps=True)
    side = window(bare)
    before = (side - 1) // 2
    for row, column in ((0, 0), (2, 1), (6, 4)):
        part = image[:, 4 * row : 4 * row + 39, 4 * column : 4 * column + 39]
        _, taps = net.apply(dense, part, taps=True)
        np.testing.assert_allclose(
            found["fc4"][:, before + row, before + column], taps["fc4"], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["small", pytest.param("original_2012", marks=pytest.mark.slow)])
def test_an_element_looks_at_the_middle_of_the_pixels_that_reach_it(name):
    """A row of NaN, put everywhere in turn, reaches an element from its receptive field alone."""
    shape = spec(name, width=1 / 64, activation="identity", normalization="none", dropout=())
    height, width = (240, 31) if name == "small" else (420, 67)
    net = Backbone(shape, window=window(shape), exact=True)
    how = Pass(False, jnp.arange(1), jnp.ones(1, bool), None, (), 0.0)
    variables = net.init(jax.random.key(0), jnp.zeros((1, height, width, 3)), how)

    @jax.jit
    def reached(rows):
        there = jnp.arange(height) == rows[:, None]
        image = jnp.where(there[:, :, None, None], jnp.nan, jnp.zeros((1, height, width, 3)))
        values = net.apply(variables, image, how)
        return {n: jnp.isnan(v).any(axis=(2, 3)) for n, v in values.items() if v.ndim == 4}

    parts = [jax.device_get(reached(rows)) for rows in np.split(np.arange(height), 10)]
    for tap, at in places(shape).items():
        hit = np.concatenate([part[tap] for part in parts])  # [pixel, element]
        lengths = hit.sum(axis=0)
        whole = np.flatnonzero(lengths == lengths.max())  # not cut by the edge of any map
        assert len(whole) and lengths.max() < height
        middle = [np.flatnonzero(hit[:, element])[[0, -1]].mean() for element in whole]
        np.testing.assert_array_equal(middle, at.of(hit.shape[1])[whole], err_msg=tap)


@pytest.mark.parametrize(("name", "last"), [("notes_224", 33), ("notes_227", 49)])
def test_the_places_of_the_notes_networks(name, last):
    """By hand: (11 - 1) / 2, then half a pooling window of 3 at strides 4, 8 and 16; a window of
    5 x 5 has a middle, one of 6 x 6 lies half a step of 32 further on."""
    found = places(spec(name))
    assert found["conv1"] == (5, 4) and found["pool1"] == (9, 8) and found["conv2"] == (9, 8)
    assert found["pool2"] == found["conv5"] == (17, 16)
    assert found["pool5"] == (33, 32) and found[FEATURES] == (last, 32)


def hand_on_the_middle(tree):
    """Kernels of zeros: each hands on the first channel of what its middle sees."""
    for layer in tree.values():
        kernel = layer["kernel"]
        kernel[(*((n - 1) // 2 for n in kernel.shape[:-2]), 0, 0)] = 1


@pytest.mark.parametrize(
    "path", ["score", "score_pool2", "score_pool1", "refined features", "refined conv1"]
)
def test_a_bright_square_comes_back_at_its_place(path):
    """Every kernel hands on its middle, so that one path's scores are the brightness it sees.

    A map of step 16 sees a square up to 8 pixels off; over squares at 32 places in a row that
    cancels out, and what is left would be an error of geometry.
    """
    shape = spec("small", width=0.25, num_classes=2, kernel_init="zeros", dropout=())
    net, size, side = FCN(shape, exact=True), 160, 32
    if "refined" in path:
        net = net.clone(skips=("conv5", "conv1"), refine=8)
    params = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, size, size, 3)))["params"]
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params)
    hand_on_the_middle(params["backbone"])
    if "refined" in path:
        for tap in ("conv5", "conv1"):
            hand_on_the_middle(params[f"neck_{tap}"])
            side_of_no_use = "deep" if path.endswith(tap) else "fine"
            params[f"neck_{tap}"][side_of_no_use]["kernel"][:] = 0
        params["head"]["score"]["kernel"][0, :, :, 1] = 1
    else:
        params["head"][path]["kernel"][0, 1] = 1
    corners = np.arange(48, 80)
    image = np.zeros((len(corners), size, size, 3), np.float32)
    for i, corner in enumerate(corners):
        image[i, corner : corner + side, size - corner - side : size - corner, 0] = 1
    scores = np.asarray(jax.jit(net.apply)({"params": params}, image))[..., 1]
    total = scores.sum(axis=(1, 2))
    rows = scores.sum(axis=2) @ np.arange(size) / total
    columns = scores.sum(axis=1) @ np.arange(size) / total
    true = corners + (side - 1) / 2
    assert abs((rows - true).mean()) < 1 and abs((columns - (size - 1 - true)).mean()) < 1
    assert np.abs(rows - true).max() <= 8


def test_what_is_linear_in_the_image_comes_back_where_it_was():
    """Elements that hold their own place: between them, pixels get theirs, to rounding."""
    at = Places(9.0, 8)
    centres = at.of(6)
    values = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1)[None]
    found = resample(jnp.asarray(values, jnp.float32), at, np.arange(60), np.arange(60))
    inside = np.arange(9, 50)
    np.testing.assert_allclose(found[0, 9:50, 20, 0], inside, rtol=1e-6)
    np.testing.assert_allclose(found[0, 30, 9:50, 1], inside, rtol=1e-6)
    assert np.all(found[0, :9, 20, 0] == 9) and np.all(found[0, 50:, 20, 0] == 49)


def test_an_impulse_comes_back_as_a_tent_around_its_place():
    for first in (3.5, 5.0):
        weights = interpolation(7, Places(first, 4), np.arange(32))
        for element in range(1, 6):
            tent = weights[:, element]
            assert (tent * np.arange(32)).sum() / tent.sum() == first + 4 * element
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_interpolation_is_torchs_where_the_grids_are():
    """align_corners=False puts element i of a map shrunk by 4 at pixel 4 i + 1.5."""
    values = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values).permute(0, 3, 1, 2), scale_factor=4, mode="bilinear"
    ).permute(0, 2, 3, 1)
    found = resample(jnp.asarray(values), Places(1.5, 4), np.arange(20), np.arange(28))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_scores_of_skips_are_added_at_their_own_places(he_kernels):
    """Against scores made by hand of the taps, with torch's rule for nothing but geometry."""
    shape = spec("small", width=0.25, num_classes=2, kernel_init="zeros")
    net, size = FCN(shape, exact=True), 48
    assert smallest_size(shape) <= size
    image = np.random.default_rng(4).normal(size=(1, size, size, 3)).astype(np.float32)
    params = net.init(jax.random.key(0), image)["params"]
    assert not any(np.any(one["kernel"]) for one in params["head"].values())  # zero at first
    params = he_kernels(jax.tree.map(np.asarray, params))
    logits, taps = net.apply({"params": params}, image, taps=True)
    found, total = places(shape), 0.0
    for name, tap, at in (
        ("score", "fc7", found[FEATURES]),
        ("score_pool2", "pool2", found["pool2"]),
        ("score_pool1", "pool1", found["pool1"]),
    ):
        scores = np.asarray(taps[tap]) @ params["head"][name]["kernel"]
        total = total + scores
        finer = {"score": found["pool2"], "score_pool2": found["pool1"]}.get(name)
        if finer is None:
            pixels = np.arange(size)
        else:
            count = taps["pool2" if name == "score" else "pool1"].shape[1]
            pixels = finer.of(count)
        where = np.clip((pixels - at.first) / at.step, 0, scores.shape[1] - 1)
        low = np.minimum(where.astype(int), max(scores.shape[1] - 2, 0))
        high, share = np.minimum(low + 1, scores.shape[1] - 1), where - low
        for axis in (1, 2):
            weight = share.reshape([-1 if a == axis else 1 for a in range(4)])
            total = np.take(total, low, axis) * (1 - weight) + np.take(total, high, axis) * weight
    np.testing.assert_allclose(logits, total, rtol=1e-4, atol=1e-4)


def test_without_pixels_the_scores_stay_at_the_places_of_the_last_skip(he_kernels):
    """Pixel for pixel where a place looks at a pixel's centre, as in the middle of pool2 here."""
    shape = spec("small", width=0.25, num_classes=2, kernel_init="zeros")
    nets = [FCN(shape, exact=True, skips=("pool2",), pixels=pixels) for pixels in (True, False)]
    image = np.random.default_rng(5).normal(size=(1, 64, 64, 3)).astype(np.float32)
    params = he_kernels(jax.tree.map(np.asarray, nets[0].init(jax.random.key(0), image)["params"]))
    full, coarse = (net.apply({"params": params}, image) for net in nets)
    at = places(shape)["pool2"].of(coarse.shape[1])
    assert coarse.shape == (1, 7, 7, 2) and (at == at.astype(int)).all()
    np.testing.assert_allclose(
        coarse, np.asarray(full)[:, at.astype(int)][:, :, at.astype(int)], rtol=1e-5, atol=1e-6
    )


def test_with_context_each_place_of_the_deepest_map_sees_the_mean_over_all(he_kernels):
    """relu(x + mean(x) K + b) takes the place of x, by NumPy."""
    shape = spec("small", width=0.25, num_classes=2, kernel_init="zeros", dense=(), dropout=())
    plain = FCN(shape, exact=True, skips=("conv5",), pixels=False, refine=8)
    image = np.random.default_rng(7).normal(size=(2, 64, 64, 3)).astype(np.float32)
    net = plain.clone(context=True)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)["params"]
    params = he_kernels(jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes))
    found, taps = jax.jit(partial(net.apply, taps=True))({"params": params}, image)
    context = params.pop("context")
    x = np.asarray(taps["pool5"])
    x = x + (x.mean(axis=(1, 2)) @ context["kernel"] + context["bias"])[:, None, None]
    values = {**taps, FEATURES: np.maximum(x, 0)}
    del params["backbone"]
    expected = plain.apply({"params": params}, image, values=values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    without = plain.apply({"params": params}, image, values={**taps, FEATURES: taps["pool5"]})
    assert np.abs(found - without).max() > 0.01


@pytest.mark.parametrize("pixels", [True, False])
def test_mirrored_logits_are_the_mean_over_both_pictures(pixels, he_kernels):
    """Classes 0 and 1 change places in a mirror image. Places look at pixels 6, 14 .. 54 of 64, and
    at 57, 49 .. 9 in the mirror image: NumPy interpolates."""
    shape = spec("small", width=0.25, num_classes=3, kernel_init="zeros", dense=(), dropout=())
    plain = FCN(shape, exact=True, skips=("pool2",), pixels=pixels)
    net = plain.clone(mirrored=(1, 0, 2))
    image = np.random.default_rng(8).normal(size=(2, 64, 64, 3)).astype(np.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)["params"]
    params = {"params": he_kernels(jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes))}
    logits, taps = jax.jit(partial(net.apply, taps=True))(params, image)
    one, other = (np.asarray(plain.apply(params, x)) for x in (image, image[:, :, ::-1]))
    other = other[..., [1, 0, 2]]
    if pixels:
        other = other[:, :, ::-1]
    else:
        at = places(shape)["pool2"].of(one.shape[2])
        other = np.apply_along_axis(lambda row: np.interp(63 - at, at, row), 2, other)
    np.testing.assert_allclose(logits, (one + other) / 2, rtol=1e-4, atol=1e-5)
    assert np.abs(one - other).max() > 0.01 and len(taps["conv1"]) == 2
    trained = net.apply(params, image, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(trained, one, rtol=1e-4, atol=1e-5)


def test_the_pixels_around_a_place_are_torchs_pixel_shuffle(he_kernels):
    """Its places are those of the pixels: 2 i and 2 i + 1 where element i looks at pixel 2 i."""
    net = Around(3, 2, jnp.float32, jnp.float32)
    x = np.random.default_rng(6).normal(size=(2, 4, 5, 7)).astype(np.float32)
    params = net.init(jax.random.key(0), x)["params"]
    assert not params["score"]["kernel"].any()
    params = he_kernels(jax.tree.map(np.asarray, params))
    scores = np.einsum("bhwc,cijk->bkijhw", x, params["score"]["kernel"])
    expected = torch.nn.functional.pixel_shuffle(
        torch.from_numpy(scores.reshape(2, 3 * 2 * 2, 4, 5)), 2
    )
    found = net.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    assert places(spec("small"))["conv1"].around() == Places(0, 1)
    assert Places(5, 4).around() == Places(4, 1)


@pytest.mark.parametrize("skips", [("pool1", "pool2"), ("pool2", "pool2"), ("fc6",), ("pool9",)])
def test_skips_that_cannot_be_are_refused(skips):
    net = FCN(spec("small"), skips=skips)
    with pytest.raises(ValueError, match=r"deepest first|has no map"):
        net.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
