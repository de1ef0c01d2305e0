"""Rounding against NumPy's half floats, and by chance against its mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.optim.rounding import lost_share, spacing, stochastic_round

HALVES = ("bfloat16", "float16")


def test_spacing_is_numpys_and_the_notes_subtraction_follows_from_it():
    for number in (10.0, -10.0, 1.0, 0.75, 6e4):
        assert spacing(number, "float16") == abs(np.spacing(np.float16(number)))
        assert spacing(number, "float32") == abs(np.spacing(np.float32(number)))
    assert spacing(10.0, "bfloat16") == 0.0625  # 2**3 of 8 significant bits
    assert float(np.float32(10) - np.float32(1e-6)) == 10 - spacing(10.0, "float32")


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_of_the_type_is_kept(dtype):
    every = jax.lax.bitcast_convert_type(jnp.arange(2**16, dtype=jnp.uint16), jnp.dtype(dtype))
    every = every[jnp.isfinite(every)]
    wide = every.astype(jnp.float32)
    kept = jnp.abs(wide) >= jnp.finfo(jnp.float32).tiny  # smaller ones a CPU takes for zero
    rounded = stochastic_round(jax.random.key(0), wide, dtype)
    assert rounded.dtype == every.dtype
    assert (rounded == every)[kept | (wide == 0)].all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("x", [0.1, -0.1, 1.0 - 2**-13, 1.0 + 2**-13, -300.3, 3e-5, 2.5e-6])
def test_the_mean_of_many_roundings_is_the_number(dtype, x):
    n = 40_000
    x = np.float32(x)
    rounded = stochastic_round(jax.random.key(1), jnp.full(n, x), dtype).astype(jnp.float32)
    low, high = np.unique(np.asarray(rounded, np.float64))
    assert low < x < high
    if dtype == "float16":
        assert high == float(np.nextafter(np.float16(low), np.float16(np.inf)))
    # The mean of n numbers, each low or high, strays by about half their distance over sqrt(n).
    assert np.mean(np.asarray(rounded, np.float64)) == pytest.approx(
        float(x), abs=5 * (high - low) / 2 / np.sqrt(n)
    )


def test_what_no_half_can_hold_is_what_rounding_to_the_nearest_makes_of_it():
    x = jnp.array([1e6, -1e6, np.inf, np.nan], jnp.float32)
    rounded = np.asarray(stochastic_round(jax.random.key(0), x, "float16"), np.float32)
    np.testing.assert_array_equal(rounded, np.array([np.inf, -np.inf, np.inf, np.nan]))


def test_lost_are_updates_other_than_zero_that_change_nothing():
    rng = np.random.default_rng(0)
    before = {"a": rng.normal(size=(50, 40)), "b": rng.normal(size=30)}
    before = {name: value.astype(np.float16) for name, value in before.items()}
    updates = {
        name: (1e-3 * rng.normal(size=value.shape) * (rng.random(value.shape) < 0.9)).astype(
            np.float32
        )
        for name, value in before.items()
    }
    after = {name: (before[name] + updates[name]).astype(np.float16) for name in before}
    asked = sum((u != 0).sum() for u in updates.values())
    moved = sum((after[name] != before[name]).sum() for name in before)
    share = float(lost_share(before, after, updates))
    assert share == pytest.approx(1 - moved / asked, rel=1e-6)
    assert 0.1 < share < 0.9
    still = {name: 0 * update for name, update in updates.items()}
    assert np.isnan(lost_share(before, before, still))
