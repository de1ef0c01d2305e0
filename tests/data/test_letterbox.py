"""The whole photograph on a square: painted squares are found again where their boxes went."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_jax.data.letterbox import (
    GREY,
    boxes_back,
    boxes_into,
    letterbox,
    mask_into,
    place,
    points_into,
)
from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.window import VOID
from alexnet_jax.predict import lay_back, points_back


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (75, 75), (30, 200)])
@pytest.mark.parametrize("size", [48, 150])
def test_a_square_is_where_its_box_is(shape, size):
    rng = np.random.default_rng(0)
    for _ in range(5):
        y, x = rng.integers(0, (shape[0] - 24, shape[1] - 24))
        image = np.zeros((*shape, 3), np.uint8)
        image[y : y + 24, x : x + 24] = 255
        box = np.array([y, x, y + 24, x + 24], np.float32)
        moved = boxes_into(box, shape, size)
        found = letterbox(image, size).mean(axis=2) > 180
        rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
        seen = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        assert np.abs(seen - moved).max() <= 1.0
        np.testing.assert_allclose(boxes_back(moved, shape, size), box, atol=1e-3)


def test_nothing_is_cut_and_the_rest_is_grey():
    image = np.full((20, 50, 3), 7, np.uint8)
    canvas = letterbox(image, 50)
    assert place(image.shape, 50) == (15, 0, 20, 50)
    np.testing.assert_array_equal(canvas[15:35], image)
    assert (canvas[:15] == GREY).all() and (canvas[35:] == GREY).all()
    assert letterbox(np.zeros((1, 900, 3), np.uint8), 50).shape == (50, 50, 3)


def test_a_box_that_leaves_the_photograph_ends_at_its_edge():
    found = boxes_back(np.array([[0, -5, 50, 60]], np.float32), (20, 50), 50)
    assert found.tolist() == [[0, 0, 20, 50]]


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (75, 75), (30, 200)])
def test_masks_and_points_go_where_the_image_goes(shape):
    """And masks and points of answers the way back, to half a pixel of the coarser one."""
    rng, size = np.random.default_rng(1), 64
    p = Preprocessing(size, 48, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    scale = max(shape) / size
    side = int(24 * max(1, scale))
    y, x = (int(rng.integers(0, max(1, n - side))) for n in shape)
    mask = np.zeros(shape, np.uint8)
    mask[y : y + side, x : x + side] = 1
    canvas = letterbox(np.repeat(255 * mask[..., None], 3, axis=2), size)
    laid = mask_into(mask, size)
    at = place(shape, size)
    inside = np.zeros((size, size), bool)
    inside[at.top : at.top + at.height, at.left : at.left + at.width] = True
    np.testing.assert_array_equal(laid == VOID, ~inside)
    assert ((laid == 1) != (canvas[..., 0] > 127))[inside].mean() < 0.02

    corners = np.array([[y, x], [min(y + side, shape[0]), min(x + side, shape[1])]], float)
    moved = points_into(corners, shape, size)
    rows, columns = np.flatnonzero((laid == 1).any(1)), np.flatnonzero((laid == 1).any(0))
    seen = [[rows[0], columns[0]], [rows[-1] + 1, columns[-1] + 1]]
    assert np.abs(moved - seen).max() <= 1
    np.testing.assert_allclose(points_back(moved - 8, shape, p, whole=True), corners, atol=1e-3)

    back = lay_back(laid[8:-8, 8:-8], shape, p, whole=True)
    known = back != VOID
    assert (back != mask)[known].mean() < 0.06 and known.any()
    where = np.argwhere(~known)  # what the centre crop does not see, by the network's own places
    cropped = points_into(where + 0.5, shape, size)
    assert ((cropped < 8) | (cropped > size - 8)).any(axis=1).all()


def test_a_reader_lays_all_annotations_as_the_image():
    """Beside boxes, masks and joints are not those of the square in the middle."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[4:12, 30:38] = 255
    example = {
        "image": image,
        "segmentation": (image[..., 0] > 0).astype(np.uint8),
        "boxes": np.array([[4, 30, 12, 38]], np.float32),
        "box_label": np.array([0], np.int32),
        "box_ignore": np.array([False]),
        "joints": np.tile(np.array([8.0, 34.0], np.float32), (1, 14, 1)),
        "joint_visible": np.ones((1, 14), bool),
    }
    reader = Reader(_One(example), canvas=40, annotations=tuple(set(example) - {"image"}))
    (batch,) = evaluation_batches(reader, batch_size=1)
    assert batch["boxes"][0, 0].tolist() == [14, 30, 22, 38]
    assert batch["joints"][0, 0, 3].tolist() == [18, 34] and batch["joint_visible"].all()
    np.testing.assert_array_equal(batch["segmentation"][0] == 1, batch["image"][0, ..., 0] == 255)
    assert (batch["segmentation"][0, :10] == VOID).all()


class _One:
    """A split of one example."""

    def __init__(self, example):
        self.example = example

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.example

    def name(self, index):
        return "one"
