"""What is told without looking, against counts by hand."""

from __future__ import annotations

import blind
import numpy as np
import pytest

VOID = 255


def test_the_mean_pose_is_that_of_visible_joints():
    joints = np.zeros((3, 14, 2), np.float32)
    joints[:, 0] = (2, 8), (4, 10), (99, 99)
    joints[1:, 1] = (5, 6), (7, 8)
    visible = np.ones((3, 14), bool)
    visible[2, 0] = visible[0, 1] = False
    pose = blind.mean_pose(joints, visible)
    assert pose.shape == (14, 2) and pose.dtype == np.float32
    assert pose[0].tolist() == [3, 9] and pose[1].tolist() == [6, 7]
    visible[:, 5] = False
    with pytest.raises(ValueError, match="joint 5 is visible in no picture"):
        blind.mean_pose(joints, visible)


def test_the_class_of_most_pixels_and_that_of_each_place():
    masks = np.array([
        [[0, 1, VOID], [2, 2, 2]],
        [[1, 1, VOID], [2, 0, 0]],
        [[0, VOID, VOID], [1, VOID, 2]],
    ], np.uint8)  # 4 pixels of class 0, 4 of 1, 5 of 2  # fmt: skip
    assert blind.frequent_class(masks, 4).tolist() == [[2, 2, 2], [2, 2, 2]]
    # the middle of the second row has 2 and 0 once each: the first of them
    assert blind.frequent_class_there(masks, 4).tolist() == [[0, 1, 2], [2, 0, 2]]
    assert blind.frequent_class(masks, 4).dtype == np.uint8
    with pytest.raises(ValueError, match="all pixels of the masks are void"):
        blind.frequent_class(np.full((1, 2, 2), VOID, np.uint8), 2)


def test_the_most_frequent_boxes_are_counted_on_a_grid():
    boxes = np.zeros((4, 3, 4), np.float32)
    labels = np.full((4, 3), -1)
    boxes[:, 0] = (1, 2, 9, 11), (-1, -2, 12, 9), (0, 0, 10, 10), (30, 30, 50, 41)
    labels[:, 0] = 1, 1, 1, 0
    boxes[:2, 1] = (31, 29, 49, 42)
    labels[:2, 1] = 0
    boxes[2, 2], labels[2, 2] = (1, 1, 4, 4), 2  # no area on the grid
    found = blind.frequent_boxes(boxes, labels, step=10, count=4)
    assert found["box_label"].tolist()[2:] == [-1, -1]
    told = {
        int(label): (box.tolist(), float(score))
        for label, box, score in zip(*(found[k][:2] for k in ("box_label", "boxes", "score")),
                                     strict=True)
    }  # fmt: skip
    assert told == {1: ([0, 0, 10, 10], 0.75), 0: ([30, 30, 50, 40], 0.75)}
    one = blind.frequent_boxes(boxes, labels, step=10, count=1)
    assert one["boxes"].shape == (1, 4) and one["score"].tolist() == [0.75]
