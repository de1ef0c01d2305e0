"""Contact sheets: rows and columns of examples, with their annotation drawn in when asked."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from alexnet_jax.data.skeleton import JOINTS, LIMBS, TRUNK
from alexnet_jax.data.street.render import render

_GAP = 4
_COLOURS = (
    (0, 0, 0),
    (240, 80, 60),
    (70, 140, 255),
    (90, 220, 90),
    (250, 200, 40),
    (60, 220, 230),
    (240, 90, 220),
)
_SIDES = {"right": (255, 60, 60), "left": (60, 255, 60)}


def contact_sheet(
    config: str, seed: int, rows: int, columns: int, size: int, annotations: bool = False
) -> np.ndarray:
    """The first examples: uint8 [rows * (size + 4) + 4, columns * (size + 4) + 4, 3]."""
    step = size + _GAP
    sheet = np.full((rows * step + _GAP, columns * step + _GAP, 3), 255, np.uint8)
    for index in range(rows * columns):
        example = render(config, seed, index, size)
        image = annotate(example) if annotations else example["image"]
        y, x = (_GAP + step * place for place in divmod(index, columns))
        sheet[y : y + size, x : x + size] = image
    return sheet


def annotate(example: dict) -> np.ndarray:
    """The image with its mask tinted in, its boxes (grey where ignored) and its visible joints.

    Red joints are the person's right, green ones the left.
    """
    colours = np.array(_COLOURS, np.float32)[example["segmentation"]]
    share = 0.45 * (example["segmentation"] > 0)[:, :, None]
    picture = Image.fromarray((example["image"] * (1 - share) + colours * share).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for box, label, ignore in zip(
        example["boxes"], example["box_label"], example["box_ignore"], strict=True
    ):
        if label >= 0:
            y0, x0, y1, x1 = box.tolist()
            draw.rectangle(
                (x0, y0, x1 - 1, y1 - 1), outline=(150, 150, 150) if ignore else _COLOURS[1 + label]
            )
    for joints, visible in zip(example["joints"], example["joint_visible"], strict=True):
        places = [(x, y) for y, x in joints.tolist()]
        for a, b in (*TRUNK, *LIMBS):
            if visible[a] and visible[b]:
                draw.line([places[a], places[b]], fill=(255, 255, 255))
        for (x, y), shown, name in zip(places, visible, JOINTS, strict=True):
            if shown:
                fill = _SIDES.get(name.split()[0], (255, 255, 0))
                draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=fill)
    return np.asarray(picture)
