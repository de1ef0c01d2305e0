"""Segmentation: the class of every pixel, by a fully convolutional AlexNet; mean IoU.

Softmax cross-entropy over the pixels that count; those labelled `VOID` do not. All metrics come
from one sum, the confusion matrix of pixels: intersection and union of each class are its diagonal,
and row + column - diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from alexnet_jax.data.window import VOID
from alexnet_jax.models.fcn import FCN, check_skips
from alexnet_jax.tasks.base import (
    Answers,
    Batch,
    OnNet,
    Sums,
    mean_of_known,
    means,
    number,
    ratio,
    valid_rows,
)
from alexnet_jax.tasks.palette import paint
from alexnet_jax.tasks.ranking import best_and_worst


@dataclass(frozen=True)
class Segmentation(OnNet):
    """One class per pixel. `label_smoothing` spreads that share of it over all classes;
    `class_weights` are how much a pixel of each counts in the loss, all alike where there are none.
    `jaccard` is the strength of a second term: 1 - the intersection over union, by probabilities,
    of each class with its true pixels, the mean over the classes that each image has (Rahman and
    Wang 2016, "Optimizing intersection-over-union in deep neural networks for image segmentation").

    The batch holds `image` [B, H, W, 3] and `segmentation` uint8 [B, H, W], 255 for pixels that do
    not count. Outputs are logits, float32 [B, H, W, K]. A label from K to 254 makes the loss NaN.
    """

    net: FCN
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    jaccard: float = 0.0

    name: ClassVar[str] = "segmentation"
    annotations: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __post_init__(self) -> None:
        check_skips(self.net.spec, self.net.skips)
        if self.net.spec.num_classes >= VOID:
            raise ValueError(
                f"{self.net.spec.num_classes} classes do not fit beside {VOID}, the label of "
                "pixels that do not count"
            )
        if self.class_weights and (
            len(self.class_weights) != self.net.spec.num_classes or min(self.class_weights) <= 0
        ):
            raise ValueError(
                f"class_weights are {self.class_weights}; expected {self.net.spec.num_classes}, "
                "one a class, each above 0"
            )

    @property
    def monitor(self) -> tuple[str, str]:
        return "mean_iou", "max"

    @staticmethod
    def classes(source: Any) -> tuple[str, ...]:
        if not source.pixel_classes:
            raise ValueError(
                f"{source.name} has no masks, which segmentation learns: give street/scenes, a "
                "folder with train/*.jpg, trainannot/*.png and classes.txt, the masks of one in "
                "PASCAL VOC's form (ROOT/SegmentationClass), or a prepared oxford_iiit_pet"
            )
        return source.pixel_classes

    def weights(self, batch: Batch) -> dict[str, Array]:
        label = labels(batch)
        weights = {"loss": self.pixels(label).sum()}
        if self.jaccard:
            weights["jaccard"] = self.one_hot(label).any(axis=1).sum().astype(jnp.float32)
        return weights

    def pixels(self, label: Array) -> Array:
        """How much each pixel counts, float32 [B, H, W]; void does not."""
        counted = (label != VOID).astype(jnp.float32)
        if not self.class_weights:
            return counted
        return counted * jnp.asarray(self.class_weights, jnp.float32).at[label].get(mode="clip")

    def terms(self, outputs: Array, batch: Batch, train: bool) -> Sums:
        label = labels(batch)
        counted = label != VOID
        true = jnp.where(counted, label, 0).astype(jnp.int32)
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, true)
        if train and self.label_smoothing:
            uniform = jax.nn.logsumexp(outputs, axis=-1) - outputs.mean(axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        weight = self.pixels(label)
        total = jnp.where(counted, loss * weight, 0.0).sum()
        terms = {"loss": (total, weight.sum())}
        if self.jaccard:
            terms["jaccard"] = self.missed(jax.nn.softmax(outputs), label)
        return terms

    def missed(self, share: Array, label: Array) -> tuple[Array, Array]:
        """(sum, count) of 1 - IoU over the classes of each image; `share` float32 [B, H, W, K] are
        probabilities."""
        wanted = self.one_hot(label)
        share = jnp.where((label != VOID)[..., None], share, 0.0).reshape(wanted.shape)
        both = (share * wanted).sum(axis=1)
        either = (share + wanted).sum(axis=1) - both
        there = wanted.any(axis=1)
        lost = jnp.where(there, 1 - both / jnp.where(there, either, 1.0), 0.0)
        return self.jaccard * lost.sum(), there.sum().astype(jnp.float32)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        """`confusion`: (int32 [K, K], true by predicted; number of pixels that count)."""
        label = labels(batch)
        true, said = self.one_hot(label), self.one_hot(outputs.argmax(axis=-1))
        # Whole numbers below 2**24 within an image, which float32 holds exactly.
        each = jnp.einsum("bpt,bps->bts", true, said, precision="highest")
        return {"confusion": (each.astype(jnp.int32).sum(axis=0), (label != VOID).sum())}

    def one_hot(self, label: Array) -> Array:
        """float32 [B, H * W, K] of labels [B, H, W]; zeros for void."""
        classes = self.net.spec.num_classes
        found = jax.nn.one_hot(label, classes, dtype=jnp.float32)
        return found.reshape(label.shape[0], -1, classes)

    def decode(self, outputs: Array) -> dict[str, Array]:
        """`mask` uint8 [B, H, W]."""
        return {"mask": outputs.argmax(axis=-1).astype(jnp.uint8)}

    @staticmethod
    def loss_of_guessing(classes: int) -> float:
        """Of a cross-entropy: ln(classes)."""
        return math.log(classes)

    def truth(self, batch: Batch) -> dict[str, Array]:
        return {"true": batch["segmentation"]}

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The loss, `mean_iou` over the classes that occur, `pixel_accuracy`."""
        result = means({name: pair for name, pair in sums.items() if name != "confusion"})
        counts = np.asarray(sums["confusion"][0], np.float64)
        return {
            **result,
            "mean_iou": mean_of_known(iou(counts)),
            "pixel_accuracy": float(ratio(np.trace(counts), counts.sum())),
        }

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        return {"pixels": round(sums["confusion"][1])}

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        counts = np.zeros((len(classes), len(classes)), np.int64)
        scores = []  # of each picture alone
        for true, said in zip(answers["true"], answers["mask"], strict=True):
            of_one = confusion(true, said, len(classes))
            counts += of_one
            scores.append(mean_of_known(iou(of_one)))
        rows = zip(classes, iou(counts), ratio(counts.diagonal(), counts.sum(1)), strict=True)
        return {
            "confusion": {"counts": counts.tolist(), "unit": "pixels"},
            "per_class": {
                name: {"iou": number(share), "recall": number(found), "pixels": int(pixels)}
                for (name, share, found), pixels in zip(rows, counts.sum(1), strict=True)
            },
            "examples": best_and_worst(
                np.array(scores), answers["index"], lambda row: f"mean IoU {scores[row]:.1%}"
            ),
        }

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        """The largest shares of the picture, void apart."""
        seen = answer["mask"][answer["mask"] != VOID]
        shares = np.bincount(seen, minlength=len(classes)) / seen.size
        return [
            {"class": classes[i], "share": float(shares[i])}
            for i in np.argsort(-shares, kind="stable")[:top]
            if shares[i]
        ]

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        drawn = {"answer": paint(image, answer["mask"])}
        return drawn | ({"truth": paint(image, answer["true"])} if "true" in answer else {})


def segmentation(
    net: FCN,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
    jaccard: float = 0.0,
) -> Segmentation:
    """The segmentation task on a fully convolutional network."""
    return Segmentation(net, label_smoothing, class_weights, jaccard)


def labels(batch: Batch) -> Array:
    """uint8 [B, H, W]: `segmentation`, void in the rows that do not count."""
    return jnp.where(valid_rows(batch)[:, None, None], batch["segmentation"], VOID)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class of a confusion matrix; NaN where it never occurs."""
    both = counts.diagonal()
    return ratio(both, counts.sum(0) + counts.sum(1) - both)


def confusion(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """int64 [K, K] of masks [...]: true class by predicted one; void is left out."""
    counted = true != VOID
    pairs = classes * true[counted].astype(np.int64) + said[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
