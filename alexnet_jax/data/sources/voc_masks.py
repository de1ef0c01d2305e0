"""The masks of a folder in the form of PASCAL VOC as a source (Everingham et al. 2010).

    ROOT/JPEGImages/ID.jpg   ROOT/SegmentationClass/ID.png
    ROOT/ImageSets/Segmentation/{train,val,test}.txt

A mask is a PNG with a palette whose indices are classes: 0 the background, then VOC's twenty, or
those that `ROOT/classes.txt` lists, a line a class; 255, their outline, does not count. Each line
of a list is an ID; without lists all of SegmentationClass is for training, and without val a tenth
of train is held out. These lists are others than those of the boxes (voc.py), so a folder that has
both is opened for its masks by `ROOT/SegmentationClass`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from alexnet_jax.data.sources.base import Source, completed
from alexnet_jax.data.sources.folder import images_in
from alexnet_jax.data.sources.masks import MaskSplit, values_of
from alexnet_jax.data.sources.voc import id_lists, listed_classes

MASKS = "SegmentationClass"
LAYOUT = (
    f"expected ROOT/JPEGImages/ID.jpg, ROOT/{MASKS}/ID.png, ROOT/ImageSets/Segmentation/train.txt"
)
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def is_voc_masks(path: Path) -> bool:
    """Whether a path is meant to be such a folder, or its masks."""
    masks_alone = (path / MASKS).is_dir() and not (path / "Annotations").is_dir()
    return masks_alone or (path.name == MASKS and path.is_dir())


def from_voc_masks(path: str | os.PathLike[str], *, fraction: float = 0.1, seed: int = 0) -> Source:
    """The images and masks below `path`, which is ROOT or ROOT/SegmentationClass, in the order of
    its lists.

    The fingerprint covers the classes and lists, and the names and sizes of all files.

    Args:
        fraction, seed: without a list of validation so much of train is held out.

    Raises:
        FileNotFoundError: a folder, or the image or mask of an ID, is missing; it is named.
        ValueError: two lists of one split, or an empty one.
    """
    path = Path(path)
    root = path.parent if path.name == MASKS else path
    for folder in ("JPEGImages", MASKS):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root} has no folder {folder}; {LAYOUT}")
    images = {file.stem: file for file in images_in(root / "JPEGImages")}
    names = ("background", *(listed_classes(root) or NAMES))
    digest = hashlib.sha256(repr(names).encode())
    splits = {}
    for split, ids in id_lists(root, "Segmentation", f"{MASKS}/*.png", LAYOUT).items():
        pairs = []
        for name in ids:
            mask = root / MASKS / f"{name}.png"
            if name not in images or not mask.is_file():
                lacking = f"image {root / 'JPEGImages' / name}.*" if mask.is_file() else str(mask)
                raise FileNotFoundError(f"{lacking} is missing, of {name} in {split}; {LAYOUT}")
            pairs.append((images[name], mask))
            sizes = [file.stat().st_size for file in pairs[-1]]
            digest.update(f"{split}/{name} {sizes}\n".encode(errors="surrogateescape"))
        splits[split] = MaskSplit(tuple(pairs), values_of(range(len(names))))
    whole, notes = completed(splits, None, fraction, seed)
    return Source(
        name=root.resolve().name,
        version="0",
        fingerprint=digest.hexdigest(),
        classes=(),
        splits=whole,
        notes=tuple(notes),
        pixel_classes=names,
    )
