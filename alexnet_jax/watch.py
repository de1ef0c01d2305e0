"""What a run looks at besides its metrics, and what it says of it: of each kind of trouble once."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax.leaves import named_leaves
from alexnet_jax.optim.rules import split
from alexnet_jax.parts import Parts, StageParts, sample_batch, without_optimizer
from alexnet_jax.train.health import EXAMPLES, examine, warnings
from alexnet_jax.train.loop import flat_at_chance
from alexnet_jax.train.run import RunFolder
from alexnet_jax.train.state import TrainState, frozen_mask


class Watch:
    """Compares the parameters before and after the last update of each evaluation.

    `remember` is told the state before that update, `look` the one after it.
    """

    def __init__(self, parts: Parts, folder: RunFolder) -> None:
        self._folder = folder
        self._losses = [row["train/loss"] for row in folder.read()]
        self._chance = parts.task.loss_of_guessing(len(parts.classes))
        self._examine = jax.jit(
            partial(examine, task=parts.task, preprocessing=parts.preprocessing)
        )
        # Read when it is first asked for: the start of a run need not wait for it.
        self._sample = cache(lambda: sample_batch(parts, "validation", EXAMPLES))
        self._before: Any = None
        self._warned: set[str] = set()

    def remember(self, state: TrainState, stage: StageParts) -> None:
        """Keep a copy of what is trained, since the step is given the originals."""
        trained, _ = split(state.params, frozen_mask(state.params, stage.tx))
        self._before = jax.tree.map(jnp.copy, trained)

    def look(self, state: TrainState, loss: float) -> dict[str, float]:
        """{"update_ratio/LAYER" or "dead/TAP": figure} (train/health.py), of those that are told;
        `loss` is the training loss of the evaluation."""
        self._losses.append(loss)
        if flat_at_chance(self._losses, self._chance):
            self.warn("flat", _FLAT.format(chance=self._chance))
        found = self._examine(self._before, without_optimizer(state), self._sample())
        figures = jax.tree.map(float, found)
        for kind, said in warnings(figures).items():
            self.warn(kind, said)
        return {name: x for name, x in named_leaves(figures) if math.isfinite(x)}

    def warn(self, kind: str, said: str) -> None:
        """Say it, of each kind once."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._folder.say(said)


_FLAT = (
    "The loss has stayed at {chance:.4f}, that of guessing. Try another --learning-rate (often a "
    "lower one), another initializer (--model.kernel-init he_normal) or normalization "
    "(--model.normalization batch), and look at the labels."
)
