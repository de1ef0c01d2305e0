"""Classification: softmax cross-entropy over classes, top-1 and top-5 accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.tasks.base import Batch, Context, Sums, valid_rows


@dataclass(frozen=True)
class Classification:
    """One label per image. `label_smoothing` spreads that share of it over all classes
    (Szegedy et al. 2016, section 7).

    The batch holds `image` [B, H, W, 3] and `label` int32 [B], or `target` float32 [B, K] where
    augmentation mixes labels. Outputs are logits, float32 [B, K].
    """

    net: AlexNet
    label_smoothing: float = 0.0

    @property
    def monitor(self) -> tuple[str, str]:
        return "top1", "max"

    def init(self, key: Array, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
        variables = dict(self.net.init(key, jnp.zeros((1, *image_shape), self.net.dtype)))
        params = variables.pop("params")
        if self.net.spec.dropout:
            rate = jnp.asarray(self.net.spec.dropout_rate, jnp.float32)
            variables["hyper"] = {"dropout_rate": rate}
        return params, variables

    def weights(self, batch: Batch) -> dict[str, Array]:
        return {"loss": valid_rows(batch).sum().astype(jnp.float32)}

    def losses(
        self, params: Any, model_state: Any, batch: Batch, context: Context
    ) -> tuple[Sums, Array, Any]:
        valid = valid_rows(batch)
        logits, updated = self.net.apply(
            {"params": params, **model_state},
            batch["image"],
            train=context.train,
            rows=context.rows,
            valid=valid,
            axis_name=context.axis_name,
            frozen=context.frozen,
            rngs=None if context.key is None else {"dropout": context.key},
            mutable=["batch_stats"] if context.train else [],
        )
        cross_entropy = optax.softmax_cross_entropy(logits, self.target(batch, context.train))
        # A row that does not count is dropped, not multiplied by zero: its loss may be infinite.
        total = jnp.where(valid, cross_entropy, 0.0).sum()
        return {"loss": (total, self.weights(batch)["loss"])}, logits, {**model_state, **updated}

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


def classification(net: AlexNet, label_smoothing: float = 0.0) -> Classification:
    """The classification task on a network."""
    return Classification(net, label_smoothing)
