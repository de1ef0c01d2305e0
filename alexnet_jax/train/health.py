"""What a run looks at besides its metrics, at each evaluation, and when it warns.

Two figures of each layer (diagnostics.py): how far the last update moved its weights, of their own
norm, and how many of its ReLUs no validation example excites. They need one pass over a few
examples and no gradient, whose program would take as long to compile as the train step's; training
sees nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.tasks.base import Batch, Task, valid_rows
from alexnet_jax.train.diagnostics import dead_shares, update_ratios
from alexnet_jax.train.state import TrainState

EXAMPLES = 64
"""Of validation that are looked at; a unit that is excited by one in 16 is missed by all of them
once in 60 times."""
FEWEST = 32
"""Examples below which nothing is said of dead units: few examples leave many units silent."""
FAST = 0.1
"""Of its norm, in one update. About 1e-3 is usual; at 0.1 ten updates replace the layer."""
SLOW = 1e-5
"""Of what the fastest layer moves by. In docs/experiments/gradients the slowest layer of a net that
learns moves 0.01 to 0.07 times as far; `lr_decay` may lower that by another 1e-3 on purpose."""
MOVING = 1e-4
"""What the fastest layer has to move by before others are called slow: less, as at the end of a
schedule, and float32 rounds the others' updates to nothing."""
DEAD = 0.5
"""Of a layer's units: with half of them dead, half of the layer is left."""


def examine(
    before: Any, state: TrainState, batch: Batch, *, task: Task, preprocessing: Preprocessing
) -> dict[str, dict[str, Array]]:
    """{"update_ratio": {layer: ratio}, "dead": {tap: share}}; pure and jittable.

    `before` are the parameters before the state's last update, None where they are frozen; `batch`
    is of canvases. "dead" is empty where the activation is no ReLU, and NaN for fewer than FEWEST
    examples.
    """
    after = jax.tree.map(
        lambda old, new: None if old is None else new,
        before,
        state.params,
        is_leaf=lambda leaf: leaf is None,
    )
    figures = {"update_ratio": update_ratios(before, after), "dead": {}}
    spec, valid = task.net.spec, valid_rows(batch)
    if spec.activation == "relu":
        images = preprocess(batch, preprocessing)["image"]
        variables = {"params": state.params, **state.model_state}
        plain = task.net.clone(exact=True)  # which compiles in a third of the time
        _, taps = plain.apply(variables, images, taps=True)
        layers = [name for name, _ in (*spec.conv_layers(), *spec.dense_layers())]
        shares = dead_shares({name: taps[name] for name in layers}, valid)
        enough = valid.sum() >= FEWEST
        figures["dead"] = {tap: jnp.where(enough, share, jnp.nan) for tap, share in shares.items()}
    return figures


def warnings(figures: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """{kind: what is wrong and what to try}: "fast", "slow", "dead"; {} where all is well.

    Each tells of the layer that is farthest beyond its bound, and how many others are.
    """
    said = {}
    # A layer that was zero, as heads begin, has moved by infinitely much: that says nothing.
    ratios = {layer: x for layer, x in figures["update_ratio"].items() if math.isfinite(x)}
    if found := _farthest(ratios, lambda ratio: ratio > FAST):
        layer, ratio, others = found
        said["fast"] = (
            f"The last update moved {layer} by {ratio:.2g} of its weights' norm (sane: up to "
            f"{FAST:g}){others}. Try a lower --learning-rate, a warm-up (--schedule.warmup) or "
            "--optimizer.clip."
        )
    leader = max(ratios, key=ratios.__getitem__, default="")
    most = ratios.get(leader, 0.0)
    if most >= MOVING and (found := _farthest(ratios, lambda ratio: ratio < SLOW * most, min)):
        layer, ratio, others = found
        said["slow"] = (
            f"The last update moved {layer} by {ratio:.2g} of its weights' norm, {leader} by "
            f"{most:.2g} (sane: at least {SLOW:g} of that){others}: the gradient vanishes on its "
            "way. Try another initializer (--model.kernel-init he_normal), normalization "
            "(--model.normalization batch) or fewer layers (--model.depth)."
        )
    if found := _farthest(figures["dead"], lambda share: share > DEAD):
        layer, share, others = found
        said["dead"] = (
            f"{share:.0%} of {layer}'s units answer to none of up to {EXAMPLES} examples of "
            f"validation (sane: up to {DEAD:.0%}){others}: dead ReLUs learn no more. Try a lower "
            "--learning-rate, --optimizer.clip, --model.activation leaky_relu or normalization "
            "(--model.normalization batch)."
        )
    return said


def _farthest(
    figures: Mapping[str, float], is_beyond: Callable[[float], bool], farthest: Callable = max
) -> tuple[str, float, str] | None:
    """Of the layers beyond a bound the farthest, its figure, and how many others there are, in
    words; None where no layer is beyond it."""
    beyond = {layer: x for layer, x in figures.items() if is_beyond(x)}
    if not beyond:
        return None
    layer = farthest(beyond, key=beyond.__getitem__)
    others = len(beyond) - 1
    told = f", and {others} more layer{'s' * (others > 1)}" if others else ""
    return layer, beyond[layer], told
