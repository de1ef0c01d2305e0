"""What the layers of a network look like while it trains, as numbers: what gradients.py draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.loader import training_batches
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.models.spec import Spec
from alexnet_jax.parts import Parts, evaluate_split, make_update, placed, split_figures
from alexnet_jax.train.diagnostics import (
    activation_norms,
    data_gradient,
    layer_norms,
    update_ratios,
)
from alexnet_jax.train.population import with_hyper
from alexnet_jax.train.state import TrainState, init_state

BEFORE, FIRST, LAST = "before training", "after 1 update", "after training"
WHEN = (BEFORE, FIRST, LAST)


def observed(
    parts: Parts, initializer: str, rate: float, seed: int, updates: int, judge: str
) -> dict[str, Any]:
    """Train a network from an initializer and look at its layers before, after one update and at
    the end: norms of activations and gradients on the first training batch, and the ratio of the
    update to the weights.
    """
    state, looks, ratios, losses = fresh(parts, initializer, rate, seed), {}, {}, []
    batches = training_batches(
        parts.readers["train"], seed=seed, position=0, batch_size=parts.config.batch_size
    )
    with closing(placed(batches, parts.mesh)) as batches:
        for update, batch in zip(range(1, updates + 1), batches, strict=False):
            if update == 1:
                seen = batch
                looks[BEFORE] = look(parts, state, seen)
            when = {updates: LAST, 1: FIRST}.get(update)
            before = jax.tree.map(jnp.copy, state.params) if when else None
            state, metrics = make_update(parts, update, state, batch)
            losses.append(metrics["objective"])
            if when:
                looks[when] = look(parts, state, seen)
                ratios[when] = in_order(parts, update_ratios(before, state.params))
    diverged = [i for i, x in enumerate(jax.device_get(losses), 1) if not math.isfinite(x)]
    right, count = evaluate_split(parts, state, judge)["top1"]
    return {
        "diverged_at": diverged[0] if diverged else None,
        "validation/loss": numbers(split_figures(parts, state, "validation")["loss"]),
        "accuracy": right / count,
        "activation_norm": {when: numbers(norms[0]) for when, norms in looks.items()},
        "gradient_norm": {when: numbers(norms[1]) for when, norms in looks.items()},
        "update_ratio": {when: numbers(norms) for when, norms in ratios.items()},
    }


def fresh(parts: Parts, initializer: str, rate: float, seed: int) -> TrainState:
    """A state for the parts' step, whose kernels are drawn as another initializer does, and with
    another learning rate."""
    task, size = parts.task, parts.preprocessing.size
    changed = replace(task.net.spec, kernel_init=initializer)
    task = replace(task, net=task.net.clone(spec=changed))
    state = init_state(seed=seed, task=task, tx=parts.stages[0].tx, image_shape=(size, size, 3))
    return with_hyper(state, learning_rate=rate)


def look(parts: Parts, state: TrainState, batch: dict) -> tuple[list, list]:
    """Norms of the activations and of the gradient of each layer."""
    activations, gradients = jax.device_get(_look(parts.task, parts.preprocessing)(state, batch))
    names = {"head": "logits"}
    told = [activations[names.get(layer, layer)] for layer in layers(parts.task.net.spec)]
    return told, in_order(parts, gradients)


@cache
def _look(task: Any, preprocessing: Any) -> Any:
    def norms(state: TrainState, batch: dict) -> tuple[dict, dict]:
        batch = preprocess(batch, preprocessing)
        variables = {"params": state.params, **state.model_state}
        _, taps = task.net.apply(variables, batch["image"], taps=True)
        return activation_norms(taps), layer_norms(data_gradient(state, batch, task=task))

    return jax.jit(norms)


def layers(net: Spec) -> list[str]:
    """Names of the layers, from the image on."""
    return [*(name for name, _ in (*net.conv_layers(), *net.dense_layers())), "head"]


def in_order(parts: Parts, figures: Mapping[str, Any]) -> list[float]:
    """The figures of the layers, from the image on."""
    short = {name.rpartition("/")[2]: figures[name] for name in figures}
    return [float(short[layer]) for layer in layers(parts.task.net.spec)]


def numbers(figures: Any) -> Any:
    """Four digits of each, for JSON; None for what is not finite."""
    if np.ndim(figures):
        return [numbers(figure) for figure in figures]
    return float(f"{float(figures):.4g}") if math.isfinite(figures) else None
