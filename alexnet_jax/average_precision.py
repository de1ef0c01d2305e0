"""Average precision by COCO's own evaluator, pycocotools: nothing is matched or averaged here.

Boxes are (y0, x0, y1, x1) in pixels. An ignored object is COCO's "crowd": whoever finds it is
neither right nor wrong.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENT = 0.3  # the score from which on a box is shown


class Verdict(NamedTuple):
    """Figures of K classes in I images; average precision is NaN of a class without an object."""

    ap: np.ndarray  # float64 [K], the mean over IoU 0.5, 0.55 .. 0.95 (COCO's AP)
    ap50: np.ndarray  # float64 [K], at IoU 0.5 (VOC's), by COCO's 101 points of recall
    precision: np.ndarray  # float64 [K, 101] at IoU 0.5 and recall 0, 0.01 .. 1
    objects: np.ndarray  # int [K, I], those that count
    right: np.ndarray  # int [K, I], boxes of `CONFIDENT` and more that hit one at IoU 0.5
    wrong: np.ndarray  # int [K, I], such boxes that do not


def judge(
    true: Sequence[tuple[np.ndarray, ...]],
    said: Sequence[tuple[np.ndarray, ...]],
    classes: int,
) -> Verdict:
    """How good the boxes are that were said of some images.

    Args:
        true: of each image (boxes [n, 4], label [n], ignored [n]).
        said: of each image (boxes [m, 4], label [m], score [m]).
        classes: how many there are. A label below 0 is padding.

    Raises ImportError as `coco_tools`.
    """
    COCO, COCOeval = coco_tools()
    tables = []
    for kind, images in (("iscrowd", true), ("score", said)):
        table = COCO()
        table.dataset = {
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": list(_rows(images, kind)),
        }
        tables.append(table)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
        for table in tables:
            table.createIndex()
        evaluator = COCOeval(*tables, "bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][..., 0, 0].transpose(2, 0, 1)  # [K, IoU, recall]
    precision = np.where(precision < 0, np.nan, precision)
    counts = np.zeros((3, classes, len(true)), np.int64)
    for one in evaluator.evalImgs:  # None where a class neither occurs nor is said
        if one is not None:
            counts[:, one["category_id"], one["image_id"]] = _counts(one)
    return Verdict(precision.mean(axis=(1, 2)), precision[:, 0].mean(1), precision[:, 0], *counts)


def coco_tools() -> tuple[Any, Any]:
    """COCO and COCOeval; raises ImportError where pycocotools is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError(
            "average precision is computed by pycocotools: pip install 'alexnet_jax[detection]'"
        ) from None
    return COCO, COCOeval


def _rows(images: Sequence[tuple[np.ndarray, ...]], kind: str) -> Iterator[dict[str, Any]]:
    """COCO's annotations; ids count from 1, since its evaluator takes a match with 0 for none."""
    number = 0
    for image, (boxes, labels, values) in enumerate(images):
        for box, label, value in zip(boxes, labels, values, strict=True):
            if label < 0:
                continue
            number += 1
            y0, x0, y1, x1 = map(float, box)
            yield {
                "id": number,
                "image_id": image,
                "category_id": int(label),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                kind: int(value) if kind == "iscrowd" else float(value),
            }


def _counts(one: dict[str, Any]) -> tuple[int, int, int]:
    """(objects, right, wrong) of one class in one image, at IoU 0.5."""
    shown = np.asarray(one["dtScores"]) >= CONFIDENT
    shown &= ~np.asarray(one["dtIgnore"][0], bool)
    hit = np.asarray(one["dtMatches"][0]) > 0
    objects = int((~np.asarray(one["gtIgnore"], bool)).sum())
    return objects, int((shown & hit).sum()), int((shown & ~hit).sum())
