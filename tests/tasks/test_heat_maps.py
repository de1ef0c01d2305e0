"""Heat maps: joints between places are found, divergences are PyTorch's, and edges do no harm."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from alexnet_jax.models.fcn import Places
from alexnet_jax.tasks.heat_maps import divergence, locate

RNG = np.random.default_rng(0)
AT = Places(first=3.0, step=4)
HEIGHT, WIDTH, SIGMA = 13, 15, 1.2
ROWS, COLUMNS = 3.5 + 4 * np.arange(HEIGHT), 3.5 + 4 * np.arange(WIDTH)  # of pixels' centres
JOINTS = RNG.uniform((12, 12), (44, 52), (3, 14, 2)).astype(np.float32)


def gaussians(joints, sigma=SIGMA):
    """float64 [B, h, w, J], sums of one."""
    y = ROWS[:, None, None] - joints[:, None, None, :, 0]
    x = COLUMNS[None, :, None] - joints[:, None, None, :, 1]
    maps = np.exp(-(y**2 + x**2) / (2 * (4 * sigma) ** 2))
    return maps / maps.sum(axis=(1, 2), keepdims=True)


def test_a_gaussian_between_places_is_found_where_it_is():
    found, score = jax.jit(locate, static_argnums=1)(np.log(gaussians(JOINTS)), AT)
    np.testing.assert_allclose(found, JOINTS, atol=2e-3)
    nearest = np.stack([4 * np.round((JOINTS[..., i] - 3.5) / 4) + 3.5 for i in (0, 1)], axis=-1)
    assert np.abs(nearest - JOINTS).max() > 1.5  # what rounding to a place would lose
    maps = gaussians(JOINTS)
    for b in range(3):
        for j in range(14):
            i, k = np.unravel_index(maps[b, :, :, j].argmax(), (HEIGHT, WIDTH))
            near = maps[b, i - 2 : i + 3, k - 2 : k + 3, j].sum()
            assert float(score[b, j]) == pytest.approx(near, rel=1e-5)


def test_a_joint_at_the_edge_is_at_its_last_place_and_a_flat_map_has_no_score():
    maps = np.log(gaussians(np.full((1, 1, 2), -9.0)))
    found, score = locate(maps, AT)
    np.testing.assert_array_equal(found, [[[3.5, 3.5]]])
    assert 0.9 < float(score[0, 0]) <= 1
    found, score = locate(np.zeros((1, HEIGHT, WIDTH, 1), np.float32), AT)
    assert np.isfinite(found).all() and float(score[0, 0]) == pytest.approx(9 / 195, rel=1e-5)


def test_the_divergence_is_torchs_and_nothing_for_the_right_map():
    logits = RNG.normal(size=(3, HEIGHT, WIDTH, 14)).astype(np.float32)
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(torch.tensor(logits, dtype=torch.float64).flatten(1, 2), dim=1),
        torch.tensor(gaussians(JOINTS)).flatten(1, 2),
        reduction="none",
    ).sum(dim=1)
    np.testing.assert_allclose(divergence(logits, JOINTS, AT, SIGMA), expected, rtol=1e-5)
    right = divergence(np.log(gaussians(JOINTS)).astype(np.float32), JOINTS, AT, SIGMA)
    np.testing.assert_allclose(right, 0, atol=1e-5)
