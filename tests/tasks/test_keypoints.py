"""PCK, PCKh, PDJ, PCP and the mean error against a loop over persons and joints."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from alexnet_jax.data.skeleton import JOINTS, MIRRORED_JOINTS
from alexnet_jax.tasks.keypoints import scores, torso

RNG = np.random.default_rng(0)
TRUE = RNG.uniform(0, 60, (50, 14, 2)).astype(np.float32)
SAID = (TRUE + RNG.normal(0, 8, TRUE.shape)).astype(np.float32)
VISIBLE = RNG.random((50, 14)) < 0.8
NUMBER = {name: i for i, name in enumerate(JOINTS)}


def by_hand(said, true, visible):
    """{name: [hits or distance, count]}, as the docstring says."""
    found = {n: [0.0, 0] for n in ("pck", "pdj_0.1", "pdj_0.5", "pckh", "pcp", "mean_error")}

    def count(name, value):
        found[name][0] += value
        found[name][1] += 1

    for s, t, v in zip(said.astype(float), true.astype(float), visible, strict=True):

        def between(a, b, t=t, v=v):
            a, b = NUMBER[a], NUMBER[b]
            return np.hypot(*(t[a] - t[b])) if v[a] and v[b] else 0.0

        size = max(between("right shoulder", "left hip"), between("left shoulder", "right hip"))
        head = between("neck", "head top")
        for j in range(14):
            if not v[j]:
                continue
            distance = np.hypot(*(s[j] - t[j]))
            count("mean_error", distance)
            if size:
                for name, part in (("pck", 0.2), ("pdj_0.1", 0.1), ("pdj_0.5", 0.5)):
                    count(name, distance <= part * size)
            if head:
                count("pckh", distance <= 0.5 * head)
        for side in ("right", "left"):
            for ends in (("ankle", "knee"), ("knee", "hip"), ("wrist", "elbow"),
                         ("elbow", "shoulder")):  # fmt: skip
                a, b = (f"{side} {end}" for end in ends)
                if length := between(a, b):
                    off = [np.hypot(*(s[NUMBER[e]] - t[NUMBER[e]])) for e in (a, b)]
                    count("pcp", max(off) <= 0.5 * length)
    return found


def test_scores_are_those_of_a_loop():
    found, expected = jax.jit(scores)(SAID, TRUE, VISIBLE), by_hand(SAID, TRUE, VISIBLE)
    assert found.keys() == expected.keys()
    for name, (total, count) in expected.items():
        assert found[name][1] == count and 0 < count < 14 * 50
        assert float(found[name][0]) == pytest.approx(total, rel=1e-5), name
    assert 0 < expected["pck"][0] < expected["pck"][1]  # neither all nor none


def test_what_is_not_visible_changes_nothing():
    other = np.where(VISIBLE[..., None], SAID, 1e6), np.where(VISIBLE[..., None], TRUE, -7)
    for name, pair in scores(*other, VISIBLE).items():
        assert [float(x) for x in pair] == [float(x) for x in scores(SAID, TRUE, VISIBLE)[name]]


def test_a_mirrored_person_has_the_same_scores():
    order = list(MIRRORED_JOINTS)
    turned = [((60, 60) - x)[:, order] * (-1, 1) for x in (SAID, TRUE)]
    found = scores(*turned, VISIBLE[:, order])
    for name, pair in scores(SAID, TRUE, VISIBLE).items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-5)


def test_a_person_without_a_torso_does_not_count_where_it_is_the_measure():
    visible = np.ones((1, 14), bool)
    visible[:, [NUMBER["right shoulder"], NUMBER["right hip"]]] = False
    found = scores(SAID[:1], TRUE[:1], visible)
    assert torso(TRUE[:1], visible) == 0
    assert [int(found[n][1]) for n in ("pck", "pdj_0.5", "pckh", "mean_error")] == [0, 0, 12, 12]
    nobody = scores(SAID, TRUE, np.zeros_like(VISIBLE))
    assert all(total == 0 and count == 0 for total, count in nobody.values())
