"""Bicycles: two wheels, a frame of tubes, and what hangs on them."""

from __future__ import annotations

import math

import numpy as np

from alexnet_jax.data.street.canvas import Canvas, Thing, View
from alexnet_jax.data.street.light import RUBBER, STEEL, paint, pick, shade, vary
from alexnet_jax.data.street.wheels import between, guard, lamp, spokes


def bicycle(rng: np.random.Generator) -> Thing:
    """A diamond or a step-through frame, with or without mudguards, basket and rack."""
    radius = float(rng.uniform(0.3, 0.35))
    base = float(rng.uniform(0.98, 1.12))
    front, rear = (base / 2, radius), (-base / 2, radius)
    crank = (-base / 2 + float(rng.uniform(0.4, 0.45)), 0.28)
    seat = (crank[0] - 0.16, float(rng.uniform(0.78, 0.95)))
    head = (base / 2 - 0.2, float(rng.uniform(0.82, 0.92)))
    neck = (head[0] + 0.04, head[1] - 0.14)
    step_through = rng.random() < 0.4
    post = between(crank, seat, 0.45 if step_through else 0.8)
    tubes = [
        (crank, post),
        (post, neck if step_through else (head[0] + 0.01, head[1] - 0.03)),
        (crank, neck),
        (crank, rear),
        (between(crank, seat, 0.78), rear),
        (head, neck),
        (neck, (base / 2 - 0.03, radius + 0.16)),
        ((base / 2 - 0.03, radius + 0.16), front),
    ]
    colour, dark = paint(rng), vary(rng, (44, 42, 42))
    tube = float(rng.uniform(0.034, 0.046))
    tyre = pick(rng, (RUBBER, RUBBER, (92, 78, 62)))
    pairs = int(rng.integers(5, 9))
    turn, guards, rack = rng.uniform(0, math.pi), rng.random() < 0.5, rng.random() < 0.35
    basket = vary(rng, (150, 118, 78)) if rng.random() < 0.3 else None
    sport = rng.random() < 0.35
    grip = float(rng.uniform(0.22, 0.3))

    def draw(canvas: Canvas, view: View) -> None:
        for x in (front[0], rear[0]):
            spokes(canvas, view, (x, radius), radius - 0.03, pairs, turn)
            canvas.polygon(view.ring(x, radius, 0, radius, radius - 0.05), tyre)
            canvas.polygon(view.circle(x, radius, 0, 0.035), STEEL)
            if guards:
                guard(canvas, view, (x, radius), radius + 0.035, colour)
        if rack:
            bars = [(seat[0] - 0.06, 0.74), (rear[0] - 0.16, 0.74), rear]
            canvas.line(view.upright(bars, 0), dark, 0.025 * view.scale)
        for ends in tubes:
            canvas.line(view.upright(ends, 0), colour, tube * view.scale)
        stem = between(crank, seat, 1.07)
        canvas.line(view.upright([seat, stem], 0), STEEL, 0.03 * view.scale)
        x, y = stem
        saddle = [(x - 0.14, y + 0.03), (x + 0.15, y + 0.03), (x, y - 0.04)]
        canvas.polygon(view.upright(saddle, 0), dark)
        canvas.polygon(view.circle(*crank, 0, 0.085), shade(STEEL, 0.7))
        for side in (-1, 1):
            x, y = side * 0.15 * math.cos(turn), side * 0.15 * math.sin(turn)
            foot = (crank[0] + x, crank[1] + y)
            pedal = [(*crank, 0.06 * side), (*foot, 0.06 * side), (*foot, 0.15 * side)]
            canvas.line(view(pedal), dark, 0.03 * view.scale)
        top = (head[0] - 0.02, head[1] + 0.06)
        canvas.line(view([(*head, 0), (*top, 0)]), STEEL, 0.03 * view.scale)
        for side in (-1, 1):
            reach = [(*top, 0), (top[0] + 0.03, top[1] + 0.04, side * grip)]
            end = (top[0] + 0.14, top[1] - 0.08) if sport else (top[0] - 0.14, top[1] + 0.05)
            canvas.line(view([*reach, (*end, side * grip)]), dark, 0.032 * view.scale)
        if basket is not None:
            x, y = head[0] + 0.06, head[1] - 0.12
            wicker = [(x, y), (x - 0.02, y + 0.24), (x + 0.34, y + 0.24), (x + 0.28, y)]
            canvas.polygon(view.upright(wicker, 0), basket)
        lamp(canvas, view, (head[0] + 0.1, head[1] - 0.02), 0.04)

    return Thing("bicycle", base + 2 * radius, head[1] + 0.14, 2 * grip, draw)
