"""From decoded pixels to what the network sees: crop, subtract the mean, divide.

`Preprocessing` is stored with every checkpoint, so that a network is always fed as it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import window as windows


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input; everything in grey levels of 0..255."""

    canvas: int
    """Side of the square image that the decoder hands over, in pixels."""
    size: int
    """Side of the network's input, in pixels; equal to the canvas where nothing is cropped."""
    mean: tuple[float, float, float]
    """Mean of red, green and blue, in this order whatever `channels` says; 0..255."""
    std: tuple[float, float, float]
    """Standard deviation of red, green and blue, likewise; (1, 1, 1) subtracts the mean only."""
    channels: str = "rgb"
    """Order of the channels in the network's input, "rgb" or "bgr" (Caffe's networks)."""

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.canvas:
            raise ValueError(
                f"size {self.size} does not fit in canvas {self.canvas}: "
                "the network's input is cut out of the canvas"
            )
        if self.channels not in ("rgb", "bgr"):
            raise ValueError(f'channels is {self.channels!r}, expected "rgb" or "bgr"')
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"mean {self.mean} and std {self.std}: expected three numbers each, "
                "std above zero, in grey levels of 0..255"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from `to_json`; an unknown or missing field raises TypeError."""
        mean, std = (tuple(float(value) for value in fields[name]) for name in ("mean", "std"))
        return cls(**{**fields, "mean": mean, "std": std})


def normalize(images: jax.Array, p: Preprocessing) -> jax.Array:
    """Map RGB images [..., 3] of 0..255 (any dtype) to float32 (x - mean) / std in `p.channels`."""
    mean = np.asarray(p.mean, np.float32)
    scale = np.float32(1.0) / np.asarray(p.std, np.float32)
    images = (jnp.asarray(images).astype(jnp.float32) - mean) * scale
    return images[..., ::-1] if p.channels == "bgr" else images


def center_crop(images: Any, size: int) -> Any:
    """Cut the middle `size` x `size` out of [..., H, W, C]; odd margins round to the top left.

    Raises ValueError where the images are smaller than `size`.
    """
    height, width = images.shape[-3:-1]
    check_covers(height, width, size)
    y, x = (height - size) // 2, (width - size) // 2
    return images[..., y : y + size, x : x + size, :]


def preprocess(batch: Mapping[str, Any], p: Preprocessing) -> dict[str, Any]:
    """Prepare a batch for evaluation: centre crop, then `normalize`; no randomness.

    `image` [B, H, W, 3] becomes float32 [B, size, size, 3]; boxes, segmentation and joints move
    with it (see `window.move`), every other entry is passed on.
    """
    batch_size, height, width = check_images(batch["image"])
    cropped = center_crop(batch["image"], p.size)
    moved = windows.move(batch, windows.centered(batch_size, height, width, p.size), p.size)
    return moved | {"image": normalize(cropped, p)}


def ten_views(images: jax.Array, p: Preprocessing) -> jax.Array:
    """Return float32 [10, B, size, size, 3]: four corners and centre, then their mirror images.

    Krizhevsky et al. 2012, section 4.1: the predictions of the ten are averaged at test time.
    Corners go top left, top right, bottom left, bottom right.
    """
    _, height, width = check_images(images)
    check_covers(height, width, p.size)
    top_left = images[:, : p.size, : p.size]
    top_right = images[:, : p.size, width - p.size :]
    bottom_left = images[:, height - p.size :, : p.size]
    bottom_right = images[:, height - p.size :, width - p.size :]
    views = [top_left, top_right, bottom_left, bottom_right, center_crop(images, p.size)]
    stacked = jnp.stack(views)
    return normalize(jnp.concatenate([stacked, stacked[:, :, :, ::-1]]), p)


def check_images(images: Any) -> tuple[int, int, int]:
    """Return (B, H, W) of [B, H, W, 3], or raise ValueError."""
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"image has shape {images.shape}, expected RGB images [B, H, W, 3]")
    batch_size, height, width, _ = images.shape
    return batch_size, height, width


def check_covers(height: int, width: int, size: int) -> None:
    """Raise ValueError where a `size` x `size` crop does not fit."""
    if min(height, width) < size:
        raise ValueError(
            f"images of {height} x {width} pixels are smaller than the network's input of "
            f"{size} x {size}: decode to a larger canvas, or choose a smaller size"
        )
