"""What a task is: a network with its losses, metrics and decoding, as pure functions.

A batch is a dict of arrays: `image` uint8 or float [B, H, W, 3]; `valid` bool [B], whether the
example counts (all do where it is absent); `index` int32 [B]; and what the task needs, such as
`label` int32 [B].

Metrics and losses are (sum, weight) pairs, so that they can be added over batches and devices and
divided once at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array

Batch = dict[str, Array]
Sums = dict[str, tuple[Array, Array]]


class Context(NamedTuple):
    """How a pass is to be made. `rows` int32 [B] are the examples' rows in the global batch."""

    train: bool = False
    key: Array | None = None
    rows: Array | None = None
    axis_name: str | None = None
    frozen: tuple[str, ...] = ()


class Task(Protocol):
    """The protocol that train_step, eval_step and the loop rely on.

    Tasks are hashable and hold no arrays.
    """

    @property
    def monitor(self) -> tuple[str, str]:
        """(metric, "min" or "max") that early stopping watches by default."""
        ...

    def init(self, key: Array, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Fresh (params, model_state)."""
        ...

    def weights(self, batch: Batch) -> dict[str, Array]:
        """{term: weight} of each loss term, from the batch alone."""
        ...

    def losses(
        self, params: Any, model_state: Any, batch: Batch, context: Context
    ) -> tuple[Sums, Any, Any]:
        """({term: (sum, weight)}, outputs, new model_state); weights as `weights` gives them.

        What training minimizes is the sum over terms of sum / weight, both of the global batch.
        """
        ...

    def sums(self, outputs: Any, batch: Batch) -> Sums:
        """Metrics of the outputs as {name: (sum, count)}."""
        ...

    def decode(self, outputs: Any) -> dict[str, Array]:
        """The answer for a user, in fixed shapes."""
        ...


def valid_rows(batch: Batch) -> Array:
    """bool [B]: `valid`, or all true where the batch has none."""
    return batch["valid"] if "valid" in batch else jnp.ones(batch["image"].shape[0], bool)
