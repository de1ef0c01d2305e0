"""Classification: softmax cross-entropy over classes, top-1 and top-5 accuracy."""

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

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.tasks.base import Answers, Batch, OnNet, Sums, valid_rows

WORST = 24  # mistakes that the report shows


@dataclass(frozen=True)
class Classification(OnNet):
    """One label per image. `label_smoothing` spreads that share of it over all classes
    (Szegedy et al. 2016, section 7).

    The batch holds `image` [B, H, W, 3] and `label` int32 [B], or `target` float32 [B, K] where
    augmentation mixes labels. Outputs are logits, float32 [B, K].
    """

    net: AlexNet
    label_smoothing: float = 0.0

    name: ClassVar[str] = "classification"
    annotations: ClassVar[tuple[str, ...]] = ("label",)

    @property
    def monitor(self) -> tuple[str, str]:
        return "top1", "max"

    @staticmethod
    def classes(source: Any) -> tuple[str, ...]:
        if not source.classes:
            others = {
                "segmentation": source.pixel_classes,
                "detection": source.box_classes,
                "pose": source.joints,
            }
            learnt = " or ".join(name for name, known in others.items() if known)
            raise ValueError(
                f"{source.name} has no label for each image, which classification learns; "
                f"try --task {learnt}"
            )
        return source.classes

    def weights(self, batch: Batch) -> dict[str, Array]:
        return {"loss": valid_rows(batch).sum().astype(jnp.float32)}

    def terms(self, outputs: Array, batch: Batch, train: bool) -> Sums:
        cross_entropy = optax.softmax_cross_entropy(outputs, self.target(batch, train))
        # A row that does not count is dropped, not multiplied by zero: its loss may be infinite.
        total = jnp.where(valid_rows(batch), cross_entropy, 0.0).sum()
        return {"loss": (total, self.weights(batch)["loss"])}

    def target(self, batch: Batch, train: bool) -> Array:
        """The distribution to be learnt, [B, K]; smoothed in training only."""
        classes = self.net.spec.num_classes
        if train and "target" in batch:
            target = batch["target"]
        else:
            target = jax.nn.one_hot(batch["label"], classes)
        return optax.smooth_labels(target, self.label_smoothing) if train else target

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        valid = valid_rows(batch)
        count = valid.sum()
        _, best = jax.lax.top_k(outputs, min(5, outputs.shape[1]))
        hits = (best == batch["label"][:, None]) & valid[:, None]
        result = {"top1": (hits[:, 0].sum(), count)}
        if outputs.shape[1] > 5:
            result["top5"] = (hits.any(axis=1).sum(), count)
        return result

    def decode(self, outputs: Array) -> dict[str, Array]:
        """`probability` float32 [B, K] and `label` int32 [B]."""
        return {
            "probability": jax.nn.softmax(outputs),
            "label": jnp.argmax(outputs, axis=-1).astype(jnp.int32),
        }

    @staticmethod
    def loss_of_guessing(classes: int) -> float:
        """Of a cross-entropy: ln(classes)."""
        return math.log(classes)

    def truth(self, batch: Batch) -> dict[str, Array]:
        return {"true": batch["label"]}

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        correct, count = map(round, sums["top1"])
        return {"correct": correct, "count": count}

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        counts = confusion(answers["true"], answers["label"], len(classes))
        return {"confusion": {"counts": counts.tolist()}, "mistakes": _mistakes(answers)}

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        probability = answer["probability"]
        return [
            {"class": classes[i], "probability": float(probability[i])}
            for i in np.argsort(-probability, kind="stable")[:top]
        ]

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        return {}


def classification(net: AlexNet, label_smoothing: float = 0.0) -> Classification:
    """The classification task on a network."""
    return Classification(net, label_smoothing)


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 [K, K]: row is the true class, column the predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (true, predicted), 1)
    return counts


def _mistakes(answers: Answers) -> list[dict[str, Any]]:
    """The wrong answers that were given with most confidence: example, classes by index."""
    probability = answers["probability"].max(axis=1)
    wrong = np.flatnonzero(answers["label"] != answers["true"])
    worst = wrong[np.argsort(-probability[wrong], kind="stable")][:WORST]
    return [
        {
            "index": int(answers["index"][row]),
            "true": int(answers["true"][row]),
            "predicted": int(answers["label"][row]),
            "probability": float(probability[row]),
        }
        for row in worst
    ]
