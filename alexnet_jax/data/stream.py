"""Which example comes when: the training stream is endless and a pure function of (seed, position).

Position p is example `permutation(seed, p // n, n)[p % n]`: every example once an epoch, batches
always full and free to straddle epochs. Nothing depends on devices, processes or workers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# What a stream of random words is for: its place in the counter keeps uses of one key apart.
PERMUTATION, CROP, HOLD_OUT = range(3)


def philox(seed: int, number: int, purpose: int) -> np.random.Philox:
    """The counter-based generator keyed by (seed, number); Salmon et al. 2011.

    Raises:
        ValueError: seed or number lies outside [0, 2**64).
    """
    for what, value in (("seed", seed), ("number", number)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{what} is {value}; it must lie in [0, 2**64)")
    return np.random.Philox(
        key=np.array([seed, number], np.uint64), counter=np.array([0, 0, 0, purpose], np.uint64)
    )


# A pure function's memory: sorting a million examples takes longer than a step.
@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the n examples in an epoch: int64 [n], read-only."""
    if n < 1:
        raise ValueError(f"cannot order {n} examples; the split needs at least one")
    # NumPy promises the raw words for ever, `Generator.permutation` only within a version.
    order = np.argsort(philox(seed, epoch, PERMUTATION).random_raw(n), kind="stable")
    order.setflags(write=False)
    return order


def indices(seed: int, position: int, count: int, n: int) -> np.ndarray:
    """The examples at `count` positions from `position` on, of n examples: int64 [count]."""
    if position < 0 or count < 0:
        raise ValueError(f"position {position} and count {count} must not be negative")
    positions = np.arange(position, position + count, dtype=np.int64)
    epochs = positions // n
    out = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        out[here] = permutation(seed, int(epoch), n)[positions[here] % n]
    return out
