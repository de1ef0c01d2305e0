"""A folder of images and their masks as a source, in the form of CamVid.

    ROOT/classes.txt
    ROOT/train/*.jpg   ROOT/trainannot/*.png   ROOT/val/...   ROOT/valannot/...   ROOT/test/...

A mask is a PNG of class indices, of the size of its image and with its name. classes.txt has a line
a class, `0 sky` or just `sky`; a class whose line ends in (ignore) does not count, nor does 255.
Validation may be missing, as may test; splits may have the names that folder.py knows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data.decode import BadImage, decode_indices
from alexnet_jax.data.sources.base import Source, Split, completed
from alexnet_jax.data.sources.folder import EXTENSIONS, SPLIT_NAMES, images_in
from alexnet_jax.data.window import VOID

CLASSES = "classes.txt"
SUFFIX = "annot"
LAYOUT = f"expected ROOT/{CLASSES}, ROOT/train/NAME.jpg and ROOT/train{SUFFIX}/NAME.png"
IGNORED = re.compile(r"(.*\S)\s*\((ignore|ignored|void)\)", re.IGNORECASE)


@dataclass(frozen=True)
class Values:
    """What the values of masks mean: `to_class` uint8 [256] is what each becomes, `VOID` where it
    does not count; `known` bool [256] which may occur."""

    to_class: np.ndarray
    known: np.ndarray

    def read(self, data: bytes, name: str) -> np.ndarray:
        """The classes of a mask's pixels, uint8 [H, W]. Raises BadImage as `decode_indices` does,
        and for a value that may not occur."""
        values = decode_indices(data, name)
        if not self.known[values].all():
            wrong = np.unique(values[~self.known[values]])
            expected = ", ".join(map(str, np.flatnonzero(self.known)))
            raise BadImage(
                f"{name}: segmentation has the value {wrong[0]}, which is none of {expected}"
                f" ({len(wrong)} such values in all)"
            )
        return self.to_class[values]


def values_of(classes: Sequence[int], void: Sequence[int] = (VOID,)) -> Values:
    """Of masks in which class k has the value `classes[k]`, and what does not count those in
    `void`."""
    to_class, known = np.full(256, VOID, np.uint8), np.zeros(256, bool)
    to_class[list(classes)] = range(len(classes))
    known[[*classes, *void]] = True
    return Values(to_class, known)


@dataclass(frozen=True)
class MaskSplit:
    """Images and masks below a folder, read when asked for."""

    pairs: tuple[tuple[Path, Path], ...]
    values: Values

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.pairs[index]
        said = self.values.read(mask.read_bytes(), str(mask))
        return {"image": image.read_bytes(), "segmentation": said}

    def name(self, index: int) -> str:
        return str(self.pairs[index][0])


def is_mask_folder(root: Path) -> bool:
    """Whether a folder is meant to be one of images and masks."""
    return (root / CLASSES).is_file() or any(root.glob(f"*{SUFFIX}/"))


def from_mask_folder(
    path: str | os.PathLike[str], *, fraction: float = 0.1, seed: int = 0
) -> Source:
    """The images and masks below `path`, in the order of their names.

    The fingerprint covers classes.txt and the names and sizes of all files.

    Args:
        fraction, seed: without a validation folder so much of train is held out.

    Raises:
        FileNotFoundError: no classes.txt, no images, an image without a mask; it is named.
        ValueError: a classes.txt that cannot be read.
    """
    root = Path(path)
    if not (root / CLASSES).is_file():
        raise FileNotFoundError(f"{root} has no {CLASSES}, a line a class; {LAYOUT}")
    text = (root / CLASSES).read_text(encoding="utf-8")
    names, *meaning = read_classes(text, str(root / CLASSES))
    digest, notes = hashlib.sha256(text.encode()), []
    splits: dict[str, Split] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and p.name in SPLIT_NAMES):
        split = SPLIT_NAMES[folder.name]
        if split in splits:
            raise ValueError(f"{root}: {folder.name} is another {split} split; keep one")
        pairs, unused = _pairs(folder, root / f"{folder.name}{SUFFIX}")
        for files in pairs:
            for file in files:
                name = f"{split}/{file.parent.name}/{file.name}"
                digest.update(b"%s\0%d\n" % (os.fsencode(name), file.stat().st_size))
        splits[split] = MaskSplit(pairs, Values(*meaning))
        if unused:
            notes.append(f"masks without an image in {folder.name}{SUFFIX}: {unused}")
    if "train" not in splits:
        raise FileNotFoundError(f"{root} has no folder train; {LAYOUT}")
    splits, missing = completed(splits, None, fraction, seed)
    notes += missing
    return Source(
        name=root.resolve().name,
        version="0",
        fingerprint=digest.hexdigest(),
        classes=(),
        splits=splits,
        notes=tuple(notes),
        pixel_classes=names,
    )


def read_classes(text: str, name: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(names, class of each value uint8 [256], whether the value may occur) of a classes.txt.

    Values that do not count become `VOID`. Raises ValueError with the line that is wrong.
    """
    classes: list[str] = []
    to_class, known = np.full(256, VOID, np.uint8), np.zeros(256, bool)
    known[VOID] = True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        value, said = number, line
        if match := re.fullmatch(r"(\d+)[\s:,]+(.+)", line):
            value, said = int(match[1]), match[2].strip()
        if value > VOID or (known[value] and value != VOID):
            what = "is above 255" if value > VOID else "is there twice"
            raise ValueError(f"{name}: the value {value} {what} (line {line!r})")
        known[value] = True
        if IGNORED.fullmatch(said) or value == VOID:
            continue
        if said in classes:
            raise ValueError(f"{name}: the class {said!r} is there twice")
        to_class[value] = len(classes)
        classes.append(said)
    if len(classes) < 2:
        raise ValueError(
            f"{name} names {len(classes)} classes; expected two or more, a line each: `0 sky`"
        )
    return tuple(classes), to_class, known


def _pairs(folder: Path, masks: Path) -> tuple[tuple[tuple[Path, Path], ...], int]:
    """The images of a folder with their masks, by name, and how many masks have no image."""
    images = images_in(folder)
    if not images:
        raise FileNotFoundError(f"{folder} has no images ({' '.join(EXTENSIONS)}); {LAYOUT}")
    if not masks.is_dir():
        raise FileNotFoundError(f"{masks} does not exist, the masks of {folder}; {LAYOUT}")
    found = {file.stem: file for file in sorted(masks.glob("*.png"))}
    if lacking := [file for file in images if file.stem not in found]:
        raise FileNotFoundError(
            f"{masks / lacking[0].stem}.png does not exist, the mask of {lacking[0]}; "
            f"{len(lacking)} of {len(images)} images have none"
        )
    unused = set(found) - {file.stem for file in images}
    return tuple((file, found[file.stem]) for file in images), len(unused)
