"""Learning-rate schedules as data, built into functions from the step to a factor of the peak.

All durations count from the first step of training and may be given in steps, epochs or examples:

    Schedule("cosine", warmup="5 epochs")                        # to the end of training
    Schedule("step", milestones=("30 epochs", "60 epochs"), factor=0.1)
    build(schedule, total_steps=..., batch_size=..., num_examples=...)   # step -> factor

A reduction on a plateau depends on the validation metric, so it is no function of the step:
`Plateau` is host-side state whose `scale` the training loop writes to the optimizer's `lr_scale`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import jax
import jax.numpy as jnp

Duration = int | str

FALLING = ("cosine", "linear", "exponential")
SHAPES = ("constant", "step", *FALLING)


@dataclass(frozen=True)
class Schedule:
    """Shape of the learning rate relative to its peak."""

    name: str = "constant"
    """constant; step (times `factor` at every milestone); or from 1 down to `final` by cosine
    (Loshchilov and Hutter 2017, without restarts), linear or exponential."""
    warmup: Duration = 0
    """Length of a linear warm-up before the shape (Goyal et al. 2017), such as "5 epochs". Of W
    steps, step s has the factor (s + 1) / (W + 1): the first is no idle one, step W is the peak."""
    milestones: tuple[Duration, ...] = ()
    """For step, ascending, such as "30 epochs" "60 epochs"."""
    factor: float = 0.1
    """For step."""
    final: float = 0.0
    """For cosine, linear and exponential (there above 0): the factor that is reached and kept."""
    duration: Duration | None = None
    """For cosine, linear and exponential: where `final` is reached; left out, at the end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.name not in SHAPES:
            raise ValueError(f"Unknown schedule {self.name!r}; known are {', '.join(SHAPES)}.")
        if bool(self.milestones) != (self.name == "step"):
            raise ValueError(
                f"The schedule 'step' needs milestones and no other takes them; "
                f"{self.name!r} got {self.milestones!r}."
            )
        if self.name != "step" and self.factor != 0.1:
            raise ValueError(f"Only 'step' has a factor; {self.name!r} got {self.factor!r}.")
        if self.name not in FALLING and (self.final != 0.0 or self.duration is not None):
            raise ValueError(
                f"The schedule {self.name!r} has no final factor or duration, "
                f"got final={self.final!r}, duration={self.duration!r}."
            )
        if not 0.0 <= self.final <= 1.0 or (self.name == "exponential" and self.final == 0.0):
            raise ValueError(
                f"final must lie in [0, 1], and above 0 for 'exponential', got {self.final!r}."
            )
        if not 0.0 < self.factor <= 1.0:
            raise ValueError(f"factor must lie in (0, 1], got {self.factor!r}.")

    @property
    def depends_on_total(self) -> bool:
        """Whether training for longer changes the factors of earlier steps."""
        return self.name in FALLING and self.duration is None


def steps(duration: Duration, *, batch_size: int, num_examples: int) -> int:
    """Return a duration in optimizer steps, rounded up.

    Args:
      duration: an int, which counts steps, or "30 epochs", "5000 steps", "1e6 examples".
      batch_size: examples per step.
      num_examples: examples per epoch.

    Raises:
      ValueError: unless the text is one number, not negative, and one of the three units.
    """
    examples_per_unit = {"step": batch_size, "epoch": num_examples, "example": 1}
    text = f"{duration} steps" if isinstance(duration, int) else duration
    try:
        number, unit = text.split()
        amount, examples = Fraction(number), examples_per_unit[unit.removesuffix("s")]
    except (ValueError, KeyError, ZeroDivisionError):
        amount = Fraction(-1)
    if amount < 0:
        raise ValueError(
            f"A duration is one number and one unit of steps, epochs or examples, such as "
            f"'30 epochs', or a whole number of steps; got {duration!r}."
        )
    # Exact fractions: in floats, 0.1 epochs of 50000 examples may round up to a step too many.
    return math.ceil(amount * examples / batch_size)


def build(
    schedule: Schedule, *, total_steps: int, batch_size: int, num_examples: int
) -> Callable[[jax.Array], jax.Array]:
    """Return the function from the step (int32 scalar, from 0) to the factor (float32 scalar).

    Raises:
      ValueError: if the milestones do not ascend or the shape ends before the warm-up does.
    """

    def length(duration: Duration) -> int:
        return steps(duration, batch_size=batch_size, num_examples=num_examples)

    warmup = length(schedule.warmup)
    milestones = [length(milestone) for milestone in schedule.milestones]
    end = total_steps if schedule.duration is None else length(schedule.duration)
    if any(later <= earlier for earlier, later in pairwise([warmup, *milestones])):
        raise ValueError(
            f"Milestones must ascend and follow the warm-up of {warmup} steps, got {milestones} "
            f"from {schedule.milestones!r}."
        )
    if schedule.name in FALLING and end <= warmup:
        raise ValueError(
            f"The schedule {schedule.name!r} ends at step {end}, before its warm-up of {warmup} "
            "steps does; shorten the warm-up or train longer."
        )

    def factor(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = (step + 1) / (warmup + 1)
        return jnp.where(step < warmup, rising, shape(step))

    def shape(step: jax.Array) -> jax.Array:
        done = jnp.clip((step - warmup) / max(end - warmup, 1), 0.0, 1.0)
        match schedule.name:
            case "step":
                passed = sum((step >= milestone for milestone in milestones), jnp.zeros(()))
                return schedule.factor**passed
            case "cosine":
                return schedule.final + (1 - schedule.final) * 0.5 * (1 + jnp.cos(jnp.pi * done))
            case "linear":
                return 1 - (1 - schedule.final) * done
            case "exponential":
                return schedule.final**done
            case _:
                return jnp.ones((), jnp.float32)

    return factor


@dataclass(frozen=True)
class Plateau:
    """Settings and state of a reduction on a plateau; plain numbers, so JSON by `asdict`.

    The scale is multiplied by `factor` after exactly `patience` evaluations in a row without an
    improvement of more than `min_delta` over the best, and never falls below `min_scale`. A
    metric that is not finite is no improvement. (PyTorch's ReduceLROnPlateau waits for one
    evaluation more than its patience.)
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 0.0
    mode: str = "min"
    min_scale: float = 0.0
    scale: float = 1.0
    best: float | None = None
    bad: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 1 or self.min_delta < 0:
            raise ValueError(
                "A plateau needs 0 < factor < 1, patience >= 1 and min_delta >= 0, got "
                f"factor={self.factor!r}, patience={self.patience!r}, min_delta={self.min_delta!r}."
            )
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {self.mode!r}.")


def plateau_update(state: Plateau, metric: float) -> tuple[Plateau, float]:
    """Take in the metric of one evaluation; return the new state and the learning-rate scale."""
    metric = float(metric)
    sign = 1.0 if state.mode == "max" else -1.0
    gain = math.inf if state.best is None else sign * (metric - state.best)
    if math.isfinite(metric) and gain > state.min_delta:
        state = replace(state, best=metric, bad=0)
    elif state.bad + 1 < state.patience:
        state = replace(state, bad=state.bad + 1)
    else:
        state = replace(state, scale=max(state.scale * state.factor, state.min_scale), bad=0)
    return state, state.scale
