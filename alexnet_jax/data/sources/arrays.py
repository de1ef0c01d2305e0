"""Images and labels in memory as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax.data.sources.base import Source, Split, completed


class ArraySplit:
    """Images uint8 [N, H, W, 3] and labels int [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, title: str):
        self.images, self.labels, self.title = images, labels, title

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
    name: str = "arrays",
    version: str = "0",
) -> Source:
    """A source over arrays, which must not be changed afterwards.

    Args:
        images: uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W] (grey).
        labels: integers [N] in [0, len(classes)).
        validation, test: (images, labels) likewise, of any size.
        fraction, seed: without `validation` so much of train is held out, class by class.

    Raises:
        TypeError, ValueError: a wrong dtype, shape or length, or a label out of range (which one).
    """
    classes = tuple(classes)
    if len(set(classes)) != len(classes) or not classes:
        raise ValueError(f"{name}: the class names must be given and differ, not {classes}")
    given = {"train": (images, labels), "validation": validation, "test": test}
    digest = hashlib.sha256(repr((name, version, classes)).encode())
    splits: dict[str, Split] = {}
    for key, pair in given.items():
        if pair is None:
            continue
        split = _split(*pair, classes, f"{name} {key}")
        splits[key] = split
        digest.update(repr((key, split.images.shape)).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(split.labels.data)
    splits, notes = completed(splits, np.asarray(labels), fraction, seed)
    return Source(name, version, digest.hexdigest(), classes, splits, tuple(notes))


def _split(images: Any, labels: Any, classes: tuple[str, ...], title: str) -> ArraySplit:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8:
        raise TypeError(f"{title}: images are {images.dtype}; give uint8, 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"{title}: images have shape {images.shape}; give [N, H, W, 3]")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{title}: labels are {labels.dtype}; give integers (class numbers)")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{title}: {len(images)} images but labels of shape {labels.shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise ValueError(
            f"{title}[{wrong[0]}]: label {labels[wrong[0]]} is out of range for {len(classes)} "
            f"classes (0 to {len(classes) - 1}); {len(wrong)} such labels in all"
        )
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    return ArraySplit(images, labels.astype(np.int64), title)
