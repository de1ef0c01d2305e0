"""Answers that do not look at the picture: the same for every one, learnt from the annotations.

What a network is worth shows beside the best of them, scored by the same code. Arrays are those of
the tasks' `truth` (alexnet_jax/tasks), of all training examples.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from alexnet_jax.data.window import VOID


def mean_pose(joints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """float32 [14, 2]: the mean of each joint over the pictures where it is visible, of joints
    [N, 14, 2] and visible bool [N, 14].

    Raises ValueError for a joint that is visible nowhere.
    """
    count = visible.sum(axis=0)
    if not count.all():
        raise ValueError(f"joint {int(np.argmin(count))} is visible in no picture: it has no mean")
    total = np.where(visible[..., None], joints, 0.0).sum(axis=0, dtype=np.float64)
    return (total / count[:, None]).astype(np.float32)


def frequent_class(masks: np.ndarray, classes: int) -> np.ndarray:
    """uint8 [H, W], the class of most pixels of masks uint8 [N, H, W], everywhere."""
    return np.full(masks.shape[1:], _counts(masks, classes).sum(axis=(0, 1)).argmax(), np.uint8)


def frequent_class_there(masks: np.ndarray, classes: int) -> np.ndarray:
    """uint8 [H, W], the most frequent class of each place of masks uint8 [N, H, W]; of a place
    that is void in all of them, that of most pixels."""
    counts = _counts(masks, classes)
    there = counts.argmax(axis=-1).astype(np.uint8)
    return np.where(counts.any(axis=-1), there, frequent_class(masks, classes))


def frequent_boxes(
    boxes: np.ndarray, labels: np.ndarray, *, step: float, count: int
) -> dict[str, np.ndarray]:
    """The `count` most frequent boxes, as a detection's answer has them, of boxes [N, M, 4] and
    labels int [N, M], below 0 for padding.

    Edges are rounded to multiples of `step` pixels; what has no area then is left out. `boxes`
    float32 [count, 4], `box_label` int32 [count], -1 behind the last one, and `score` float32
    [count], how many there are a picture.
    """
    rounded = np.round(boxes / step).astype(int)
    solid = (labels >= 0) & (rounded[..., 2:] > rounded[..., :2]).all(axis=-1)
    kinds = np.column_stack([labels[solid], rounded[solid]])
    found = Counter(map(tuple, kinds.tolist())).most_common(count)
    answer = {
        "boxes": np.zeros((count, 4), np.float32),
        "box_label": np.full(count, -1, np.int32),
        "score": np.zeros(count, np.float32),
    }
    for i, ((label, *edges), times) in enumerate(found):
        answer["boxes"][i] = np.array(edges) * step
        answer["box_label"][i], answer["score"][i] = label, times / len(boxes)
    return answer


def _counts(masks: np.ndarray, classes: int) -> np.ndarray:
    """int64 [H, W, K]: in how many masks a place has each class; void is none."""
    if not (masks != VOID).any():
        raise ValueError("all pixels of the masks are void: no class is the most frequent")
    return np.stack([(masks == k).sum(axis=0) for k in range(classes)], axis=-1)
