"""A batch of canvases, and how an example of a split becomes one of its rows.

A batch holds `image` uint8 [B, S, S, 3], `valid` bool [B], `index` int32 [B] and the annotations
that were asked for: `label` int32 [B]; `segmentation` uint8 [B, S, S], cut and scaled as its image;
`boxes` float32 [B, N, 4], `box_label` int32 [B, N] and `box_ignore` bool [B, N], N = `BOXES`, a
box without area being padding; `joints` float32 [B, 1, 14, 2] (y, x) in pixels of the canvas,
outside of which `joint_visible` bool [B, 1, 14] is false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alexnet_jax.data.decode import BadImage, decode_rgb
from alexnet_jax.data.framing import framing
from alexnet_jax.data.letterbox import boxes_into
from alexnet_jax.data.skeleton import JOINTS

Batch = dict[str, np.ndarray]
Cut = Callable[[np.ndarray, int], np.ndarray]  # (image [H, W, 3], S) -> [S, S, 3]

BOXES = 128  # of an image, at most
IN_PIXELS = ("segmentation", "boxes", "joints")  # what is told in pixels of the whole image


def blank(count: int, canvas: int, annotations: tuple[str, ...]) -> Batch:
    """A batch of rows that do not count: black, `valid` False.

    Raises ValueError for annotations that cannot be read.
    """
    kinds: dict[str, tuple[tuple[int, ...], Any]] = {
        "label": ((), np.int32),
        "segmentation": ((canvas, canvas), np.uint8),
        "boxes": ((BOXES, 4), np.float32),
        "box_label": ((BOXES,), np.int32),
        "box_ignore": ((BOXES,), bool),
        "joints": ((1, len(JOINTS), 2), np.float32),
        "joint_visible": ((1, len(JOINTS)), np.bool_),
    }
    if unknown := [name for name in annotations if name not in kinds]:
        raise ValueError(f"a reader cannot read {unknown[0]!r}; it knows {', '.join(kinds)}")
    return {
        "image": np.zeros((count, canvas, canvas, 3), np.uint8),
        **{name: np.zeros((count, *kinds[name][0]), kinds[name][1]) for name in annotations},
        "valid": np.zeros(count, bool),
        "index": np.zeros(count, np.int32),
    }


def fill_row(
    batch: Batch, row: int, example: Mapping[str, Any], name: str, cut: Cut | None = None
) -> None:
    """Write an example (sources/base.py), and of its annotations those that the batch has.

    `cut` makes the canvas in place of the framing that the annotations ask for; with a label only.
    Raises BadImage, which begins with `name`, for what cannot be decoded or does not fit.
    """
    if "label" in batch:
        batch["label"][row] = example["label"]
    size, frame = batch["image"].shape[1], framing(tuple(batch))
    image = example["image"]
    if isinstance(image, bytes):
        # A JPEG may come smaller, which is faster, where nothing is told in its full size's pixels.
        # The codec's own shrinking aliases: half of it at least is left to `canvas`, as in Pillow's
        # thumbnails (reducing_gap).
        full = cut is not None or any(kind in batch for kind in IN_PIXELS)
        image = decode_rgb(image, name, min_side=None if full else 2 * size)
    if "segmentation" in batch:
        mask = example["segmentation"]
        if mask.shape != image.shape[:2]:
            raise BadImage(
                f"{name}: segmentation is {_size(mask)}, its image {_size(image)}; a mask has a "
                "value for every pixel"
            )
        batch["segmentation"][row] = frame.mask(mask, size)
    if "boxes" in batch:
        count = len(example["boxes"])
        if count > BOXES:
            raise BadImage(f"{name}: {count} boxes, more than a batch holds ({BOXES})")
        batch["boxes"][row, :count] = boxes_into(example["boxes"], image.shape, size)
        for key in ("box_label", "box_ignore"):
            batch[key][row, :count] = example[key]
    if "joints" in batch:
        points = frame.points(example["joints"], image.shape, size)
        inside = ((points >= 0) & (points < size)).all(axis=-1)
        batch["joints"][row] = points
        batch["joint_visible"][row] = example["joint_visible"] & inside
    batch["image"][row] = (cut or frame.image)(image, size)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
