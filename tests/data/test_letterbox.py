"""The whole photograph on a square: painted squares are found again where their boxes went."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_jax.data.letterbox import GREY, boxes_back, boxes_into, letterbox, place


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
