"""Training in stages, each with another part of the network frozen: gradual unfreezing.

A plan is a tuple of stages, and the stage a function of the step: a run that is gone on with is in
the stage that it was in. Howard and Ruder 2018, arXiv:1801.06146, section 3.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from alexnet_jax.leaves import leaf_name, named_leaves
from alexnet_jax.optim.rules import split
from alexnet_jax.optim.schedules import steps
from alexnet_jax.train.state import TrainState, frozen_mask


class Stage(NamedTuple):
    """From `begin` updates on, everything up to the tap `freeze` is frozen; None for nothing."""

    begin: int
    freeze: str | None


def plan(lines: tuple[str, ...], *, batch_size: int, num_examples: int) -> tuple[Stage, ...]:
    """Stages from ("pool5", "pool2 after 2 epochs", "none after 4 epochs").

    The first begins at once; durations count from the start of training. No line: nothing is
    frozen. Raises ValueError for a line of another form, or stages that do not follow each other.
    """
    stages = []
    for line in lines or ("none",):
        tap, after, duration = line.partition(" after ")
        begin = steps(duration, batch_size=batch_size, num_examples=num_examples) if after else 0
        stages.append(Stage(begin, None if tap == "none" else tap))
    begins = [stage.begin for stage in stages]
    if begins[0] != 0 or begins != sorted(set(begins)):
        raise ValueError(
            f"transfer.freeze is {', '.join(map(repr, lines))}: the first stage has to begin at "
            'once and each later one after the one before, as in "pool5" "pool2 after 2 epochs"'
        )
    return tuple(stages)


def stage_of(begins: tuple[int, ...], update: int) -> int:
    """Index of the stage that makes update number `update`, counted from 1 (0: the first stage)."""
    return max((i for i, begin in enumerate(begins) if begin < update), default=0)


def enter(state: TrainState, tx: Any) -> TrainState:
    """`state` with the optimizer state that a stage's `tx` needs.

    What the old one holds under the same name is carried over: hyperparameters, counts, and the
    momentum of layers that were trained already; that of thawed layers begins afresh.
    """
    trainable, _ = split(state.params, frozen_mask(state.params, tx))
    old = dict(named_leaves(state.opt_state))

    def carried(path: Any, fresh: Any) -> Any:
        known = old.get(leaf_name(path))
        return fresh if known is None or known.shape != fresh.shape else known

    fresh = tx.init(trainable)
    return state.replace(opt_state=jax.tree_util.tree_map_with_path(carried, fresh))
