"""How people hold themselves: joints in three dimensions, so that left and right stay apart."""

from __future__ import annotations

import math

import numpy as np


def pose(rng: np.random.Generator, height: float, shoulder: float, hip: float) -> np.ndarray:
    """float [14, 3] metres: walking, standing, waving; +x is ahead, +y up, +z to the right."""
    thigh, calf, upper, fore = (height * share for share in (0.245, 0.235, 0.165, 0.15))
    phase = rng.uniform(0, 2 * math.pi)
    stride = float(rng.uniform(0.0, 0.12) if rng.random() < 0.25 else rng.uniform(0.2, 0.65))
    stoop = float(rng.uniform(-0.02, 0.12))
    hip_y, neck_y = 0.0, height * 0.32
    joints = np.zeros((14, 3))
    lean = np.array([math.sin(stoop), math.cos(stoop), 0.0])
    neck = np.array([0.0, hip_y, 0.0]) + lean * neck_y
    joints[12] = neck
    joints[13] = neck + np.array([0.04 + 0.03 * rng.uniform(-1, 1), height * 0.182, 0.0])
    gesture = rng.random()
    for side, hip_i, knee_i, ankle_i, shoulder_i, elbow_i, wrist_i in (
        (1, 2, 1, 0, 8, 7, 6),
        (-1, 3, 4, 5, 9, 10, 11),
    ):
        swing = side * stride * math.sin(phase)
        splay = float(rng.uniform(0.0, 0.09))
        bend = float(rng.uniform(0.02, 0.12)) + stride * max(0.0, -side * math.cos(phase)) * 1.3
        joints[hip_i] = (0.0, hip_y, side * hip)
        joints[knee_i] = joints[hip_i] + thigh * _down(swing, splay * side)
        joints[ankle_i] = joints[knee_i] + calf * _down(swing - bend, splay * side)
        arm = -swing * 0.9 + float(rng.normal(0, 0.08))
        spread, flex = float(rng.uniform(0.06, 0.28)), float(rng.uniform(0.08, 0.75))
        if gesture < 0.08 and side == 1:  # a raised hand
            arm, spread, flex = float(rng.uniform(1.6, 2.8)), 0.35, float(rng.uniform(0.2, 0.9))
        elif gesture < 0.15:  # a telephone, a hand on the hip
            arm, flex = float(rng.uniform(0.1, 0.5)), float(rng.uniform(1.2, 2.2))
        joints[shoulder_i] = neck + np.array([0.0, -0.05, side * shoulder * 0.92])
        joints[elbow_i] = joints[shoulder_i] + upper * _down(arm, spread * side)
        joints[wrist_i] = joints[elbow_i] + fore * _down(arm + flex, spread * side * 0.4)
    joints[:, 1] += 0.085 - joints[[0, 5], 1].min()
    return joints


def _down(forward: float, outward: float) -> np.ndarray:
    """Unit vector that hangs down, turned forwards and outwards (radians)."""
    return np.array(
        [
            math.sin(forward) * math.cos(outward),
            -math.cos(forward) * math.cos(outward),
            math.sin(outward),
        ]
    )
