"""What a task is: a network with its losses, metrics and answers, as pure functions.

A batch is a dict of arrays: `image` uint8 or float [B, H, W, 3]; `valid` bool [B], whether the
example counts (all do where it is absent); `index` int32 [B]; and what the task needs, such as
`label` int32 [B].

Metrics and losses are (sum, weight) pairs, so that they can be added over batches and devices and
divided once at the end. docs/tasks.md has the contract in one page, and an example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

Batch = dict[str, Array]
Sums = dict[str, tuple[Array, Array]]
Answers = Mapping[str, np.ndarray]  # of one example, or of many with a leading axis


class Context(NamedTuple):
    """How a pass is to be made. `rows` int32 [B] are the examples' rows in the global batch."""

    train: bool = False
    key: Array | None = None
    rows: Array | None = None
    axis_name: str | None = None
    frozen: tuple[str, ...] = ()


class Task(Protocol):
    """The protocol that train_step, eval_step, the loop, the commands and the report rely on.

    Tasks are hashable and hold no arrays.
    """

    @property
    def name(self) -> str:
        """What the command line and a checkpoint's meta call it."""
        ...

    @property
    def annotations(self) -> tuple[str, ...]:
        """What the batch carries besides the image: "label", "segmentation", "boxes"
        (data/rows.py)."""
        ...

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of what `score` gives: what is no quotient of sums. None, mostly."""
        ...

    @property
    def net(self) -> Any:
        """The flax network, with `spec`, `dtype` and `exact`."""
        ...

    @property
    def monitor(self) -> tuple[str, str]:
        """(metric, "min" or "max") that early stopping watches by default."""
        ...

    def classes(self, source: Any) -> tuple[str, ...]:
        """The names of what is told apart in a data set (data/sources/base.py).

        Asked of the class, too. Raises ValueError where the set lacks the task's annotations.
        """
        ...

    # Pure and jittable, on the device.

    def init(self, key: Array, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Fresh (params, model_state)."""
        ...

    def weights(self, batch: Batch) -> dict[str, Array]:
        """{term: weight} of each loss term in what is minimized, from the batch alone."""
        ...

    def losses(
        self, params: Any, model_state: Any, batch: Batch, context: Context
    ) -> tuple[Sums, Any, Any]:
        """({term: (sum, weight)}, outputs, new model_state); weights as `weights` gives them, but
        for tasks that count more or less than another (multi.py), whose own these are.

        What training minimizes is the sum over terms of sum / weight, that of `weights`, both of
        the global batch.
        """
        ...

    def sums(self, outputs: Any, batch: Batch) -> Sums:
        """Metrics of the outputs as {name: (sum, count)}; a sum may be an array."""
        ...

    def decode(self, outputs: Any) -> dict[str, Array]:
        """The answer for a user, in fixed shapes. uint8 [B, H, W] is a map of class indices;
        `joints` float32 [B, J, 2] are points (y, x) in pixels of the image."""
        ...

    def truth(self, batch: Batch) -> dict[str, Array]:
        """What answers are judged by, under names that answers have not: "true"."""
        ...

    # On the host, in NumPy.

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """What is reported and stopped on, from losses and sums that were added up."""
        ...

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        """Whole numbers to report of a split: `correct` of `count`, where answers are right or
        wrong."""
        ...

    def score(self, answers: Answers, classes: Sequence[str]) -> dict[str, float]:
        """What sums cannot tell of a split, from the answers and truth of all its examples: {name
        of `scores`: value}. It costs each evaluation a second pass."""
        ...

    @staticmethod
    def loss_of_guessing(classes: int) -> float:
        """The loss that shows that nothing is learnt where it stays there (watch.py); NaN of a loss
        that may well stay anywhere."""
        ...

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        """What the report tells of a split, for JSON, from the answers and truth of all examples.

        Any of `confusion` {"counts": [K][K] (true, predicted), "unit": "examples" by default};
        `per_class` {class: {name: number or None}}; `precision_at_recall` {class: numbers or None},
        evenly from recall 0 to 1; `mistakes`, of classes; `examples` [{"index", "rank": "best" or
        "worst", "said"}]. Of several tasks also `key`, the classes of each, in the order of their
        colours; the `classes` of `confusion`; and the `task` of each example.
        """
        ...

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        """What `predict` prints of an answer: [{"class", "probability", "share" or "score"}], most
        first; of a box also "category_id" and "bbox" as COCO has them; or [{"joint", "x", "y",
        "score" where told}]. Of several tasks each has its "task"."""
        ...

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        """Pictures uint8 [H, W, 3] of an answer over its image: "answer", and "truth" where it is
        there; none where the answer is words. Of several tasks "TASK/answer"."""
        ...


class OnNet:
    """What most tasks have alike: they train one network, `net`, their metrics are means of sums,
    and they have no `scores`."""

    net: Any
    scores: ClassVar[tuple[str, ...]] = ()

    def init(self, key: Array, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
        """The network's own, the dropout rate among the model state."""
        variables = dict(self.net.init(key, jnp.zeros((1, *image_shape), self.net.dtype)))
        params = variables.pop("params")
        if self.net.spec.dropout:
            rate = jnp.asarray(self.net.spec.dropout_rate, jnp.float32)
            variables["hyper"] = {"dropout_rate": rate}
        return params, variables

    def terms(self, outputs: Any, batch: Batch, train: bool) -> Sums:
        """The loss terms of `losses`, of a pass that was made."""
        raise NotImplementedError

    def losses(
        self, params: Any, model_state: Any, batch: Batch, context: Context
    ) -> tuple[Sums, Any, Any]:
        outputs, model_state = forward(self.net, params, model_state, batch, context)
        return self.terms(outputs, batch, context.train), outputs, model_state

    @staticmethod
    def loss_of_guessing(classes: int) -> float:
        return math.nan

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        return means(sums)

    def score(self, answers: Answers, classes: Sequence[str]) -> dict[str, float]:
        return {}


def valid_rows(batch: Batch) -> Array:
    """bool [B]: `valid`, or all true where the batch has none."""
    return batch["valid"] if "valid" in batch else jnp.ones(batch["image"].shape[0], bool)


def forward(
    net: Any, params: Any, model_state: Any, batch: Batch, context: Context, **more: Any
) -> tuple[Any, Any]:
    """A network's (outputs, new model_state) of a batch, in a pass that `context` describes; `more`
    goes to the network as it is."""
    logits, updated = net.apply(
        {"params": params, **model_state},
        batch["image"],
        train=context.train,
        rows=context.rows,
        valid=valid_rows(batch),
        axis_name=context.axis_name,
        frozen=context.frozen,
        rngs=None if context.key is None else {"dropout": context.key},
        mutable=["batch_stats", "errors"] if context.train else [],
        **more,
    )
    return logits, {**model_state, **updated}


def means(sums: Mapping[str, Any]) -> dict[str, float]:
    """{metric: mean}; NaN where nothing was counted."""
    return {name: s / n if n else float("nan") for name, (s, n) in sums.items()}


# Of figures that a class, a joint or a picture may lack: NaN stands for it in NumPy, None in JSON.


def ratio(part: Any, whole: Any) -> Any:
    """part / whole, float64 of their shape; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def mean_of_known(values: np.ndarray) -> float:
    """The mean of those that are no NaN; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def number(value: float) -> float | None:
    """A figure for JSON."""
    return float(value) if np.isfinite(value) else None
