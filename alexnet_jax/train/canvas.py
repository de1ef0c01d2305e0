"""Steps that take canvases, uint8 as the decoder leaves them: augmentation or crop, then the step.

Pure and jittable like the steps they wrap; the input's part of the work happens on the device.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from alexnet_jax.data.augment import Augment, augment
from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.tasks.base import Batch, Sums
from alexnet_jax.train.state import AUGMENT, TrainState, stream_key
from alexnet_jax.train.step import Metrics, eval_step, predict_step, train_step


def train_canvas(
    state: TrainState,
    batch: Batch,
    *,
    task: Any,
    tx: Any,
    preprocessing: Preprocessing,
    settings: Augment,
    accumulate: int = 1,
) -> tuple[TrainState, Metrics]:
    """`train_step` on a batch of canvases, augmented with the key of the state's step."""
    key = stream_key(state.seed, AUGMENT, state.step)
    batch = augment(key, batch, preprocessing, settings)
    return train_step(state, batch, task=task, tx=tx, accumulate=accumulate)


def eval_canvas(
    state: TrainState, batch: Batch, *, task: Any, preprocessing: Preprocessing
) -> Sums:
    """`eval_step` on the centre of each canvas."""
    return eval_step(state, preprocess(batch, preprocessing), task=task)


def predict_canvas(
    state: TrainState, batch: Batch, *, task: Any, preprocessing: Preprocessing
) -> dict[str, Array]:
    """`predict_step` on the centre of each canvas."""
    return predict_step(state, preprocess(batch, preprocessing)["image"], task=task)


def answer_canvas(
    state: TrainState, batch: Batch, *, task: Any, preprocessing: Preprocessing
) -> dict[str, Array]:
    """`predict_canvas` with what the answers are judged by, cut as the images are."""
    batch = preprocess(batch, preprocessing)
    return predict_step(state, batch["image"], task=task) | task.truth(batch)
