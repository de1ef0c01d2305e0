"""Images and what is annotated of each as boxes: what the forms of such data sets share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.decode import BadImage, decode_rgb
from alexnet_jax.data.sources.base import Source, completed


class Found(NamedTuple):
    """An object as a file has it: `box` (y0, x0, y1, x1), continuous pixels; `where` it stands."""

    name: str
    box: tuple[float, float, float, float]
    ignored: bool
    where: str


class Annotation(NamedTuple):
    """Of one image: size (H, W), boxes float32 [n, 4], names and whether ignored bool [n]; and the
    objects that were left out since nothing of them lies in the image, in words."""

    shape: tuple[int, int]
    boxes: np.ndarray
    names: tuple[str, ...]
    ignored: np.ndarray
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class BoxSplit:
    """Images below a folder, read when asked for, with what is annotated of each."""

    files: tuple[Path, ...]
    annotations: tuple[Annotation, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, said = self.name(index), self.annotations[index]
        image = decode_rgb(self.files[index].read_bytes(), name)
        if image.shape[:2] != said.shape:
            raise BadImage(
                f"{name}: size is {said.shape[1]} x {said.shape[0]} in its annotation, and "
                f"{image.shape[1]} x {image.shape[0]} as a viewer shows it: its boxes may lie "
                "elsewhere"
            )
        return example(image, said, self.classes)

    def name(self, index: int) -> str:
        return str(self.files[index])


def example(image: np.ndarray, said: Annotation, classes: tuple[str, ...]) -> dict[str, Any]:
    """An image uint8 [H, W, 3] and its boxes as a split hands them out (base.py)."""
    return {
        "image": image,
        "boxes": said.boxes,
        "box_label": np.array([classes.index(kind) for kind in said.names], np.int32),
        "box_ignore": said.ignored,
    }


def counted_from_one(
    ymin: float, xmin: float, ymax: float, xmax: float
) -> tuple[float, float, float, float]:
    """A box as PASCAL VOC's tools write it, from edge to edge: pixels count from 1 there, and the
    last ones are inside it."""
    if (ymin, xmin) == (ymax, xmax):  # what tools write that count from 0 when nothing was drawn
        return ymin, xmin, ymin, xmin
    return ymin - 1, xmin - 1, ymax, xmax


def annotation(shape: tuple[int, int], objects: Sequence[Found]) -> Annotation:
    """Boxes cut off at the image's edges; those without area there are left out."""
    edge = np.array(shape * 2, np.float64)
    boxes = np.clip(np.array([one.box for one in objects]).reshape(-1, 4), 0, edge)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = [one for one, stays in zip(objects, solid, strict=True) if stays]
    return Annotation(
        shape,
        boxes[solid].astype(np.float32),
        tuple(one.name for one in kept),
        np.array([one.ignored for one in kept], bool),
        tuple(f"{one.where} ({one.name})" for one in objects if one not in kept),
    )


def box_source(
    root: Path,
    read: Mapping[str, tuple[tuple[Path, ...], tuple[Annotation, ...]]],
    classes: tuple[str, ...],
    fingerprint: str,
    *,
    fraction: float,
    seed: int,
) -> Source:
    """The source of files and annotations a split, train among them; without validation `fraction`
    of train is held out. The notes tell what was left out."""
    whole = {split: BoxSplit(*found, classes) for split, found in read.items()}
    splits, notes = completed(whole, None, fraction, seed)
    left_out = [said for _, found in read.values() for one in found for said in one.left_out]
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        notes.append(f"left out, boxes of no area in their image: {'; '.join(left_out[:3])}{more}")
    return Source(
        name=root.resolve().name,
        version="0",
        fingerprint=fingerprint,
        classes=(),
        splits=splits,
        notes=tuple(notes),
        box_classes=classes,
    )
