"""One window a row: the rectangle of the input that becomes the output, and everything it moves.

A `Window` is the whole geometry of an example: output pixel (v, u) of a `size` x `size` image is
taken from (y + v * height / size, x + u * width / size), mirrored first where `flip`. Images,
boxes, segmentation and joints all go through the same five numbers, so they cannot disagree.

Coordinates are continuous: pixel i covers [i, i + 1), its centre is i + 0.5, and an image of width
W reaches from 0 to W. A box of one pixel at (3, 5) is (3, 5, 4, 6); its mirror is W - x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alexnet_jax.data.skeleton import MIRRORED_JOINTS

ANNOTATIONS = ("boxes", "segmentation", "joints")
VOID = 255
FAINT = 0.2  # a box that keeps less of its area than this is marked `box_ignore`


class Window(NamedTuple):
    """Where each output row comes from; all fields [B], in input pixels."""

    y: jax.Array  # float32, top edge; negative where padding shows
    x: jax.Array  # float32, left edge
    height: jax.Array  # float32, equal to the output size where the window is a plain crop
    width: jax.Array  # float32
    flip: jax.Array  # bool, mirrored left to right


def centered(batch_size: int, height: int, width: int, size: int) -> Window:
    """Return the window of the centre crop, odd margins rounded towards the top left."""
    same = jnp.full(batch_size, size, jnp.float32)
    return Window(
        y=jnp.full(batch_size, (height - size) // 2, jnp.float32),
        x=jnp.full(batch_size, (width - size) // 2, jnp.float32),
        height=same,
        width=same,
        flip=jnp.zeros(batch_size, bool),
    )


def take(pixels: jax.Array, window: Window, size: int, outside: str | int = "none") -> jax.Array:
    """Cut the windows out of `pixels` [B, H, W, ...] by nearest pixel -> [B, size, size, ...].

    A plain crop (height and width equal `size`, whole offsets) copies pixels exactly. `outside`
    says what lies beyond the edge: "none" (the caller knows that no window leaves the image),
    "reflect" (without repeating the edge pixel) or a number to fill with. The dtype is kept.
    """
    rows = _sources(window.y, window.height, size)
    columns = _sources(window.x, window.width, size)
    columns = jnp.where(window.flip[:, None], columns[:, ::-1], columns)
    rows, row_inside = _into(rows, pixels.shape[1], outside)
    columns, column_inside = _into(columns, pixels.shape[2], outside)
    # Gathering whole index rows lets XLA fuse the crop, the mirror and what follows in one pass.
    taken = jax.vmap(lambda p, r, c: p.at[r[:, None], c].get(mode="promise_in_bounds"))(
        pixels, rows, columns
    )
    if isinstance(outside, str):
        return taken
    inside = row_inside[:, :, None] & column_inside[:, None, :]
    inside = inside.reshape(inside.shape + (1,) * (pixels.ndim - 3))
    return jnp.where(inside, taken, jnp.asarray(outside, pixels.dtype))


def resample(images: jax.Array, window: Window, size: int) -> jax.Array:
    """Resize the windows of [B, H, W, C] to float32 [B, size, size, C] by antialiased bilinear.

    The filter is Pillow's `resize(BILINEAR, box=...)`: a triangle as wide as the reduction, cut and
    renormalised at the edge of the image; pixels that see nothing of it are 0. It is separable,
    hence two small matrix products a row.
    """
    _, height, width, _ = images.shape
    rows = _triangle(window.y, window.height, height, size)
    columns = _triangle(window.x, window.width, width, size)
    columns = jnp.where(window.flip[:, None, None], columns[:, ::-1], columns)
    half = jnp.einsum("bih,bhwc->biwc", rows, images.astype(jnp.float32), precision="highest")
    return jnp.einsum("bjw,biwc->bijc", columns, half, precision="highest")


def move(batch: Mapping[str, Any], window: Window, size: int) -> dict[str, Any]:
    """Return the batch with its annotations in the coordinates of the window's output.

    boxes: clipped; one that loses all its area becomes zeros with `box_label` -1, one that keeps
    less than a fifth is marked `box_ignore`. segmentation: nearest pixel, 255 beyond the input.
    joints: right and left swapped where mirrored; outside the window `joint_visible` is False.
    The image is left alone. Raises ValueError where an annotation lacks its companion or does not
    have its shape.
    """
    moved = dict(batch)
    if "boxes" in batch:
        _require(batch, "boxes", "box_label")
        moved |= _move_boxes(batch, window, size)
    if "segmentation" in batch:
        labels = jnp.asarray(batch["segmentation"])
        if labels.shape != batch["image"].shape[:3]:
            raise ValueError(
                f"segmentation has shape {labels.shape}, its image {batch['image'].shape}: "
                "give one label per image pixel, [B, H, W]"
            )
        moved["segmentation"] = take(labels, window, size, outside=VOID)
    if "joints" in batch:
        _require(batch, "joints", "joint_visible")
        moved |= _move_joints(batch, window, size)
    return moved


def _move_boxes(batch: Mapping[str, Any], window: Window, size: int) -> dict[str, jax.Array]:
    boxes = jnp.asarray(batch["boxes"], jnp.float32)
    first = _forward(boxes[..., :2], window, size)
    second = _forward(boxes[..., 2:], window, size)
    # A mirror exchanges the left and the right edge.
    whole = jnp.concatenate([jnp.minimum(first, second), jnp.maximum(first, second)], axis=-1)
    clipped = jnp.clip(whole, 0.0, size)
    area = _area(clipped)
    lost = area <= 0.0
    ignore = jnp.asarray(batch.get("box_ignore", jnp.zeros(lost.shape, bool)))
    return {
        "boxes": jnp.where(lost[..., None], 0.0, clipped),
        "box_label": jnp.where(lost, -1, jnp.asarray(batch["box_label"])),
        "box_ignore": (ignore | (area < FAINT * _area(whole))) & ~lost,
    }


def _move_joints(batch: Mapping[str, Any], window: Window, size: int) -> dict[str, jax.Array]:
    joints = jnp.asarray(batch["joints"], jnp.float32)
    visible = jnp.asarray(batch["joint_visible"])
    if joints.shape[2:] != (14, 2):
        raise ValueError(f"joints have shape {joints.shape}, expected [B, P, 14, 2]")
    points = _forward(joints, window, size)
    visible = visible & ((points >= 0.0) & (points < size)).all(-1)
    order = jnp.asarray(MIRRORED_JOINTS)
    flip = window.flip[:, None, None]
    return {
        "joints": jnp.where(flip[..., None], points[..., order, :], points),
        "joint_visible": jnp.where(flip, visible[..., order], visible),
    }


def _forward(points: jax.Array, window: Window, size: int) -> jax.Array:
    """Map input points [B, ..., 2] (y, x) to output coordinates."""
    shape = (-1,) + (1,) * (points.ndim - 2)
    y0, x0, height, width, flip = (field.reshape(shape) for field in window)
    y = (points[..., 0] - y0) * (size / height)
    x = (points[..., 1] - x0) * (size / width)
    return jnp.stack([y, jnp.where(flip, size - x, x)], axis=-1)


def _area(boxes: jax.Array) -> jax.Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _sources(start: jax.Array, extent: jax.Array, size: int) -> jax.Array:
    """Return the input pixel under the centre of each output pixel, int32 [B, size]."""
    centres = jnp.arange(size, dtype=jnp.float32) + 0.5
    positions = start[:, None] + centres * (extent[:, None] / size)
    return jnp.floor(positions).astype(jnp.int32)


def _into(index: jax.Array, length: int, outside: str | int) -> tuple[jax.Array, jax.Array]:
    """Bring indices into [0, length), and say which were there already."""
    inside = (index >= 0) & (index < length)
    if outside == "reflect":
        index = (length - 1) - jnp.abs((length - 1) - jnp.abs(index))
    return jnp.clip(index, 0, length - 1), inside


def _triangle(start: jax.Array, extent: jax.Array, length: int, size: int) -> jax.Array:
    """Return the weights of each input pixel in each output pixel, float32 [B, size, length]."""
    scale = extent[:, None] / size
    centres = start[:, None] + (jnp.arange(size, dtype=jnp.float32) + 0.5) * scale
    pixels = jnp.arange(length, dtype=jnp.float32) + 0.5
    distance = jnp.abs(pixels - centres[..., None]) / jnp.maximum(scale, 1.0)[..., None]
    weights = jnp.maximum(0.0, 1.0 - distance)
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0.0, total, 1.0)


def _require(batch: Mapping[str, Any], name: str, companion: str) -> None:
    if companion not in batch:
        raise ValueError(
            f"the batch has {name} but no {companion}: give both, or leave {name} out "
            f"(it has {', '.join(sorted(batch))})"
        )
