"""Exact evaluation: every example counts once, sums are added and divided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.data.preprocess import Preprocessing, ten_views
from alexnet_jax.tasks.base import Batch, Sums
from alexnet_jax.train.state import TrainState

HostSums = dict[str, tuple[Any, float]]  # a sum is a float, or a float64 array


def evaluate(step: Callable, state: TrainState, batches: Iterable[Batch]) -> HostSums:
    """{metric: (sum, count)} over all batches; `step` is an `eval_step`, compiled.

    Added in float64 on the host, so that the result hardly depends on the batch size.
    """
    total: dict[str, tuple[Any, float]] = {}
    previous: Any = None
    for batch in batches:
        sums = step(state, batch)
        total, previous = add(total, previous), sums  # fetched while this batch is computed
    return add(total, previous)


def add(total: dict, sums: Any) -> dict:
    """Sums on the host plus sums on the device (or None)."""
    if sums is None:
        return total
    fetched = {name: (_host(s), float(n)) for name, (s, n) in on_host(sums).items()}
    return {
        name: (total.get(name, (0.0, 0.0))[0] + s, total.get(name, (0.0, 0.0))[1] + n)
        for name, (s, n) in fetched.items()
    }


def on_host(tree: Any) -> Any:
    """NumPy's arrays in place of jax's; `float` of each of these takes several times as long."""
    return jax.tree.map(np.asarray, tree)


def sums_to_json(sums: dict) -> dict:
    """Host sums with lists in place of arrays."""
    return {name: (s.tolist() if np.ndim(s) else s, n) for name, (s, n) in sums.items()}


def sums_from_json(sums: dict) -> dict:
    """What `sums_to_json` wrote, also after JSON has turned its pairs into lists."""
    return {name: (_host(s) if np.ndim(s) else s, n) for name, (s, n) in sums.items()}


def _host(value: Any) -> Any:
    return np.asarray(value, np.float64) if np.ndim(value) else float(value)


def ten_view_step(
    state: TrainState, batch: Batch, *, task: Any, preprocessing: Preprocessing
) -> Sums:
    """An `eval_step` that averages the softmax of ten views of each canvas.

    Krizhevsky et al. 2012, section 4.1. `batch["image"]` is the canvas, uint8 [B, S, S, 3].
    """
    params = state.params if state.ema is None else state.ema
    views = ten_views(batch["image"], preprocessing)

    def probabilities(images: Array) -> Array:
        logits = task.net.apply({"params": params, **state.model_state}, images)
        return jax.nn.softmax(logits)

    mean = jax.lax.map(probabilities, views).mean(axis=0)
    return task.sums(jnp.log(mean), batch)


def predictions(step: Callable, state: TrainState, batches: Iterable[Batch]) -> dict[str, Any]:
    """The answers for the valid rows of all batches, joined, on the host.

    `step(state, batch)` gives a batch's answers, such as `answer_canvas`, compiled. The batches'
    `index` comes along.
    """
    rows: list[dict[str, np.ndarray]] = []
    for batch in batches:
        answer = jax.device_get(step(state, batch)) | {"index": np.asarray(batch["index"])}
        kept = np.asarray(batch["valid"])
        rows.append({name: value[kept] for name, value in answer.items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
