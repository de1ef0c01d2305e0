"""Evaluation's preprocessing against NumPy slices and arithmetic."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from alexnet_jax.data.preprocess import (
    Preprocessing,
    center_crop,
    normalize,
    preprocess,
    ten_views,
)

MEAN, STD = (123.0, 117.0, 104.0), (58.0, 57.0, 56.0)


def settings(canvas: int = 12, size: int = 8, **changes) -> Preprocessing:
    return Preprocessing(canvas, size, MEAN, STD, **changes)


def photographs(batch_size: int = 3, height: int = 12, width: int = 12) -> np.ndarray:
    shape = (batch_size, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def normalized(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float64) - MEAN) / STD


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_evaluation_is_the_middle_of_the_image_normalised(dtype):
    images = photographs().astype(dtype)
    out = preprocess({"image": images, "label": np.arange(3)}, settings())
    assert out["image"].dtype == np.float32
    np.testing.assert_allclose(out["image"], normalized(images[:, 2:10, 2:10]), atol=1e-5)
    np.testing.assert_array_equal(out["label"], np.arange(3))


def test_canvas_equal_to_size_is_not_cropped():
    images = photographs()
    out = preprocess({"image": images}, settings(12, 12))
    np.testing.assert_allclose(out["image"], normalized(images), atol=1e-5)


def test_odd_margins_and_oblong_images_round_to_the_top_left():
    images = photographs(height=11, width=17)
    np.testing.assert_array_equal(center_crop(images, 8), images[:, 1:9, 4:12])


def test_bgr_reverses_channels_but_not_the_meaning_of_mean():
    """Caffe's order: blue first, and blue's own mean is subtracted from it."""
    images = photographs()
    out = normalize(images, settings(channels="bgr"))
    np.testing.assert_allclose(out, normalized(images)[..., ::-1], atol=1e-5)


def test_images_smaller_than_the_input_name_both_sizes():
    with pytest.raises(ValueError, match=r"7 x 12 .* 8 x 8"):
        preprocess({"image": photographs(height=7)}, settings())
    with pytest.raises(ValueError, match=r"12 x 7 .* 8 x 8"):
        ten_views(photographs(width=7), settings())
    with pytest.raises(ValueError, match=r"expected RGB images"):
        preprocess({"image": photographs()[..., 0]}, settings())


def test_ten_views_are_corners_centre_and_mirrors():
    images = photographs(height=12, width=13)
    views = np.asarray(ten_views(images, settings()))
    corners = [
        images[:, :8, :8],
        images[:, :8, -8:],
        images[:, -8:, :8],
        images[:, -8:, -8:],
        images[:, 2:10, 2:10],
    ]
    expected = np.stack(corners + [view[:, :, ::-1] for view in corners])
    assert views.shape == (10, 3, 8, 8, 3)
    np.testing.assert_allclose(views, normalized(expected), atol=1e-5)


def test_annotations_follow_the_centre_crop():
    batch = {
        "image": photographs(1),
        "boxes": np.float32([[[3, 4, 6, 12], [0, 0, 2, 12], [0, 0, 12, 2.5], [0, 0, 0, 0]]]),
        "box_label": np.int32([[5, 6, 7, -1]]),
        "box_ignore": np.array([[False, False, False, False]]),
        "segmentation": np.arange(144, dtype=np.uint8).reshape(1, 12, 12),
        "joints": np.full((1, 1, 14, 2), 6.5, np.float32),
        "joint_visible": np.ones((1, 1, 14), bool),
    }
    batch["joints"][0, 0, 3] = 1.9, 6.0  # just above the crop, which begins at 2
    out = preprocess(batch, settings())
    # The second box ends where the crop begins; the third keeps 8 * 0.5 of its 12 * 2.5 pixels.
    np.testing.assert_array_equal(
        out["boxes"][0], [[1, 2, 4, 8], [0, 0, 0, 0], [0, 0, 8, 0.5], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(out["box_label"][0], [5, -1, 7, -1])
    np.testing.assert_array_equal(out["box_ignore"][0], [False, False, True, False])
    np.testing.assert_array_equal(out["segmentation"], batch["segmentation"][:, 2:10, 2:10])
    np.testing.assert_array_equal(out["joints"][0, 0, 0], [4.5, 4.5])
    np.testing.assert_array_equal(out["joint_visible"][0, 0], np.arange(14) != 3)


def test_jit_gives_the_same_numbers():
    batch, p = {"image": photographs()}, settings()
    np.testing.assert_array_equal(
        jax.jit(preprocess, static_argnums=1)(batch, p)["image"], preprocess(batch, p)["image"]
    )


def test_json_round_trip():
    p = settings(channels="bgr")
    assert Preprocessing.from_json(json.loads(json.dumps(p.to_json()))) == p
    with pytest.raises(TypeError, match="resize"):
        Preprocessing.from_json(p.to_json() | {"resize": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 13}, "size 13 does not fit in canvas 12"),
        ({"channels": "hsv"}, "'hsv', expected"),
        ({"std": (1.0, 0.0, 1.0)}, "std above zero"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"canvas": 12, "size": 8, "mean": MEAN, "std": STD, **fields})
