"""Boxes as points on a heat map, and back (Zhou et al. 2019, arXiv:1904.07850, sections 3 and 4).

A box is its centre's element, the offset from there to the centre and its size, in steps of the
map (models/fcn.py, `Places`). Around the centre a class's heat falls off as a Gaussian whose
deviation follows height and width each (Liu et al. 2019, arXiv:1909.00700, section 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.models.detector import Maps
from alexnet_jax.models.fcn import Places
from alexnet_jax.tasks.nms import suppress

SPREAD = 0.54 / 6  # deviation of the Gaussian, as a share of the box's side
FOUND = 100  # boxes that an answer has, COCO's number
OVERLAP = 0.5  # IoU above which the weaker of two boxes of a class goes


class Targets(NamedTuple):
    """What the maps are to say: `heat` float32 [B, h, w, K], 1 at centres, and where it is
    `counted`, bool; of each box its element `cell` int32 [B, N, 2], `offset` and `size`."""

    heat: Array
    counted: Array
    cell: Array
    offset: Array
    size: Array


def targets(
    boxes: Array, label: Array, present: Array, ignored: Array, at: Places, shape: tuple[int, ...]
) -> Targets:
    """Of boxes [B, N, 4] (y0, x0, y1, x1 in pixels) on a map of `shape` (h, w, K).

    `present` bool [B, N] are those to be found, `ignored` those of which it does not matter: inside
    them their class's heat does not count, except at the centre of one that is present.
    """
    height, width, classes = shape
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 - 0.5  # a pixel's index is half below its centre
    exact = (middle - at.first) / at.step
    last = jnp.array([height - 1, width - 1])
    cell = jnp.clip(jnp.round(exact), 0, last).astype(jnp.int32)
    size = (boxes[..., 2:] - boxes[..., :2]) / at.step
    # Never so small that a centre is no longer exactly 1.
    deviation = jnp.maximum(SPREAD * size, 1e-3)

    def gaussian(axis: int, count: int) -> Array:
        far = (jnp.arange(count) - cell[..., axis, None]) / deviation[..., axis, None]
        return jnp.exp(-0.5 * far**2)

    def inside(axis: int, count: int) -> Array:
        pixel = at.of(count) + 0.5
        return (boxes[..., axis, None] <= pixel) & (pixel < boxes[..., axis + 2, None])

    def highest(rows: Array, columns: Array, which: Array) -> Array:
        """The highest of the boxes' products at each place and class: [B, h, w, K]."""
        each = jnp.float32(rows[..., :, None] * columns[..., None, :])
        where = jnp.arange(len(boxes))[:, None], jnp.where(which, label, classes)
        empty = jnp.zeros((len(boxes), classes, height, width), jnp.float32)
        return jnp.moveaxis(empty.at[where].max(each, mode="drop"), 1, -1)

    heat = highest(gaussian(0, height), gaussian(1, width), present)
    hidden = highest(inside(0, height), inside(1, width), ignored)
    return Targets(heat, (hidden == 0) | (heat == 1), cell, exact - cell, size)


def focal(logits: Array, heat: Array) -> Array:
    """The penalty-reduced focal loss of each element (their equation 1; alpha 2, beta 4)."""
    said = jax.nn.sigmoid(logits)
    centre = -((1 - said) ** 2) * jax.nn.log_sigmoid(logits)
    elsewhere = -((1 - heat) ** 4) * said**2 * jax.nn.log_sigmoid(-logits)
    return jnp.where(heat == 1, centre, elsewhere)


def at_cells(values: Array, cell: Array) -> Array:
    """Values of a map [B, h, w, C] at elements int32 [B, N, 2]: [B, N, C]."""
    return jax.vmap(lambda value, yx: value[yx[:, 0], yx[:, 1]])(values, cell)


def found(maps: Maps, at: Places) -> dict[str, Array]:
    """The peaks of the heat maps as boxes, the best first; `FOUND` of each image, or all places.

    `boxes` float32 [B, F, 4] in pixels, cut off at the image; `score` float32 [B, F]; `box_label`
    int32 [B, F]. A box that another suppresses, or of no area, has score 0 and label -1.
    """
    batch, _, width, classes = maps.heat.shape
    score = jax.nn.sigmoid(maps.heat)
    around = nn.max_pool(score, (3, 3), padding="SAME")
    peaks = jnp.where(score == around, score, 0.0).reshape(batch, -1)
    score, index = jax.lax.top_k(peaks, min(FOUND, peaks.shape[1]))
    place, label = jnp.divmod(index, classes)
    cell = jnp.stack(jnp.divmod(place, width), axis=-1)
    middle = at.first + at.step * (cell + at_cells(maps.offset, cell)) + 0.5
    half = at.step * at_cells(maps.size, cell) / 2
    edge = jnp.array(maps.extent * 2, jnp.float32)
    boxes = jnp.clip(jnp.concatenate([middle - half, middle + half], axis=-1), 0.0, edge)
    solid = (boxes[..., 2:] > boxes[..., :2]).all(-1) & (score > 0)
    keep = solid & jax.vmap(lambda b, k: suppress(b, k, OVERLAP))(
        boxes, jnp.where(solid, label, -1)
    )
    return {
        "boxes": boxes,
        "score": jnp.where(keep, score, 0.0),
        "box_label": jnp.where(keep, label, -1).astype(jnp.int32),
    }
