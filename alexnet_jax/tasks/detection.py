"""Detection: which objects are where, by their centres on a heat map; average precision.

CenterNet's losses (Zhou et al. 2019, arXiv:1904.07850, section 3): the focal loss of centres, and
L1 of offset and size. Average precision is no sum: it is scored from all answers of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.average_precision import CONFIDENT, Verdict, judge
from alexnet_jax.models.detector import FINE, Detector, Maps
from alexnet_jax.models.fcn import places
from alexnet_jax.tasks import centers
from alexnet_jax.tasks.base import (
    Answers,
    Batch,
    OnNet,
    Sums,
    mean_of_known,
    number,
    ratio,
    valid_rows,
)
from alexnet_jax.tasks.palette import outline
from alexnet_jax.tasks.ranking import best_and_worst

SIZE_WEIGHT = 0.1  # of the sizes' L1, as theirs
RECALLS = 11  # points of the precision-recall curve that results.json keeps


@dataclass(frozen=True)
class Detection(OnNet):
    """Boxes with classes.

    The batch holds `image` [B, H, W, 3], `boxes` float32 [B, N, 4] (y0, x0, y1, x1 in pixels),
    `box_label` int32 [B, N], and `box_ignore` bool [B, N], which boxes do not matter. A row of
    label -1 or without area is padding. Outputs are `Maps`.
    """

    net: Detector

    name: ClassVar[str] = "detection"
    annotations: ClassVar[tuple[str, ...]] = ("boxes", "box_label", "box_ignore")
    scores: ClassVar[tuple[str, ...]] = ("ap50", "ap")

    def __post_init__(self) -> None:
        if FINE not in (taps := self.net.spec.tap_names()):
            raise ValueError(
                f"{self.net.spec.name!r} has no {FINE}, at whose places objects are found; it has "
                + ", ".join(taps)
            )

    @property
    def monitor(self) -> tuple[str, str]:
        return "ap50", "max"

    @staticmethod
    def classes(source: Any) -> tuple[str, ...]:
        if not source.box_classes:
            raise ValueError(
                f"{source.name} has no boxes, which detection learns: give street/scenes, a "
                "folder in PASCAL VOC's form (Annotations/*.xml, JPEGImages/) or in COCO's "
                "(annotations/instances_train.json, train/), or a prepared set such as voc/2007"
            )
        return source.box_classes

    def weights(self, batch: Batch) -> dict[str, Array]:
        """`heat`: as many as there are objects, an image without any counting as one; `size` and
        `offset`: the objects."""
        objects = _present(batch).sum(axis=1)
        images = jnp.where(valid_rows(batch), jnp.maximum(objects, 1), 0).sum()
        boxes = objects.sum().astype(jnp.float32)
        return {"heat": images.astype(jnp.float32), "size": boxes, "offset": boxes}

    def terms(self, outputs: Maps, batch: Batch, train: bool) -> Sums:
        present, valid = _present(batch), valid_rows(batch)
        ignored = _solid(batch) & batch["box_ignore"]
        wanted = centers.targets(
            batch["boxes"], batch["box_label"], present, ignored, self.at, outputs.heat.shape[1:]
        )
        heat = centers.focal(outputs.heat, wanted.heat)
        counted = wanted.counted & valid[:, None, None, None]
        weights = self.weights(batch)

        def distance(said: Array, true: Array) -> Array:
            each = jnp.abs(centers.at_cells(said, wanted.cell) - true).sum(axis=-1)
            return jnp.where(present, each, 0.0).sum()

        sums = {
            "heat": jnp.where(counted, heat, 0.0).sum(),
            "size": SIZE_WEIGHT * distance(outputs.size, wanted.size),
            "offset": distance(outputs.offset, wanted.offset),
        }
        return {name: (total, weights[name]) for name, total in sums.items()}

    @property
    def at(self) -> Any:
        """Where the maps' elements look."""
        return places(self.net.spec)[FINE]

    def sums(self, outputs: Maps, batch: Batch) -> Sums:
        return {}

    def decode(self, outputs: Maps) -> dict[str, Array]:
        """`boxes` float32 [B, F, 4] (y0, x0, y1, x1 in pixels), `score` [B, F], the best first, and
        `box_label` int32 [B, F], -1 where there is none."""
        return centers.found(outputs, self.at)

    def truth(self, batch: Batch) -> dict[str, Array]:
        return {
            "true_boxes": batch["boxes"],
            "true": jnp.where(_solid(batch), batch["box_label"], -1),
            "true_ignore": batch["box_ignore"],
        }

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """`loss`, the sum of the terms; a term of no objects is 0."""
        parts = {name: s / n if n else 0.0 for name, (s, n) in sums.items()}
        return {"loss": sum(parts.values()), **parts}

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        return {"objects": round(sums["size"][1])}

    def score(self, answers: Answers, classes: Sequence[str]) -> dict[str, float]:
        """`ap50`, at IoU 0.5 as VOC's, and `ap`, COCO's mean over IoU 0.5 to 0.95: of classes."""
        verdict = _judge(answers, len(classes))
        return {"ap50": mean_of_known(verdict.ap50), "ap": mean_of_known(verdict.ap)}

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        """`per_class`: AP, and what the boxes that are shown find; `precision_at_recall` {class:
        precision at IoU 0.5 and recall 0, 0.1 .. 1}, None for a class without objects."""
        verdict = _judge(answers, len(classes))
        objects, right, wrong = (counts.sum(axis=1) for counts in verdict[-3:])
        precision, recall = ratio(right, right + wrong), ratio(right, objects)
        curves = verdict.precision[:, :: (verdict.precision.shape[1] - 1) // (RECALLS - 1)]
        return {
            "per_class": {
                name: {
                    "ap50": number(verdict.ap50[k]),
                    "ap": number(verdict.ap[k]),
                    "precision": number(precision[k]),
                    "recall": number(recall[k]),
                    "objects": int(objects[k]),
                }
                for k, name in enumerate(classes)
            },
            "precision_at_recall": {
                name: curve.round(4).tolist() if np.isfinite(curve).all() else None
                for name, curve in zip(classes, curves, strict=True)
            },
            "examples": _examples(verdict, answers["index"]),
        }

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        """All boxes, the best first, in COCO's results form: `bbox` is [x, y, width, height] in
        pixels, `category_id` counts the classes from 1. `top` is of no use here."""
        boxes = np.asarray(answer["boxes"], np.float64)
        corner, extent = boxes[:, 1::-1], (boxes[:, 2:] - boxes[:, :2])[:, ::-1]
        return [
            {
                "class": classes[label],
                "category_id": int(label) + 1,
                "bbox": [*corner[i].round(2).tolist(), *extent[i].round(2).tolist()],
                "score": float(answer["score"][i]),
            }
            for i, label in enumerate(answer["box_label"])
            if label >= 0 and extent[i].min() > 0  # none lies wholly beside the photograph
        ]

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        """Boxes of score `CONFIDENT` and more, in their classes' colours; the best on top."""
        shown = np.flatnonzero((answer["box_label"] >= 0) & (answer["score"] >= CONFIDENT))[::-1]
        drawn = {"answer": outline(image, answer["boxes"][shown], answer["box_label"][shown])}
        if "true" in answer:
            there = answer["true"] >= 0
            drawn["truth"] = outline(image, answer["true_boxes"][there], answer["true"][there])
        return drawn


def detection(net: Detector) -> Detection:
    """The detection task on a network."""
    return Detection(net)


def _solid(batch: Batch) -> Array:
    """bool [B, N]: boxes that are no padding, of images that count."""
    extent = batch["boxes"][..., 2:] - batch["boxes"][..., :2]
    return (batch["box_label"] >= 0) & (extent > 0).all(-1) & valid_rows(batch)[:, None]


def _present(batch: Batch) -> Array:
    """bool [B, N]: boxes that are to be found."""
    return _solid(batch) & ~batch["box_ignore"]


def _judge(answers: Answers, classes: int) -> Verdict:
    true = zip(answers["true_boxes"], answers["true"], answers["true_ignore"], strict=True)
    said = zip(answers["boxes"], answers["box_label"], answers["score"], strict=True)
    return judge(list(true), list(said), classes)


def _examples(verdict: Verdict, index: np.ndarray) -> list[dict[str, Any]]:
    """The best and the worst examples by their F1: twice the boxes that are right, over the objects
    that are there plus the boxes that are shown. Those with neither are left out."""
    objects, right, wrong = (counts.sum(axis=0) for counts in verdict[-3:])
    rank = ratio(2 * right, objects + right + wrong)
    return best_and_worst(
        rank, index, lambda row: f"{right[row]} of {objects[row]} found, {wrong[row]} wrong"
    )
