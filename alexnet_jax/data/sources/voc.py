"""A folder in the form of PASCAL VOC as a source of boxes (Everingham et al. 2010).

    ROOT/JPEGImages/ID.jpg   ROOT/Annotations/ID.xml   ROOT/ImageSets/Main/{train,val,test}.txt

Each line of a list is an ID. Without lists all of Annotations is for training; without val a tenth
of train is held out. `ROOT/classes.txt`, a line a class, fixes the classes and their order; without
it they are those of train, sorted. Pixels count from 1 in the files, and xmax and ymax are inside
the box; what is `difficult` is neither learnt nor judged.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from alexnet_jax.data.sources.base import Source
from alexnet_jax.data.sources.boxes import (
    Annotation,
    Found,
    annotation,
    box_source,
    counted_from_one,
)
from alexnet_jax.data.sources.folder import SPLIT_NAMES, images_in

CLASSES = "classes.txt"
LAYOUT = "expected ROOT/JPEGImages/ID.jpg, ROOT/Annotations/ID.xml, ROOT/ImageSets/Main/train.txt"
EDGES = ("ymin", "xmin", "ymax", "xmax")


def is_voc(root: Path) -> bool:
    """Whether a folder is meant to be one of PASCAL VOC's form."""
    return (root / "JPEGImages").is_dir() or any((root / "Annotations").glob("*.xml"))


def from_voc(path: str | os.PathLike[str], *, fraction: float = 0.1, seed: int = 0) -> Source:
    """The images and boxes below `path`, in the order of its lists.

    All annotations are read at once. The fingerprint covers them, the lists, the classes, and the
    names and sizes of the images. Boxes are cut off at their image's edges; those of which nothing
    is left are left out, and the notes say so.

    Args:
        fraction, seed: without a list of validation so much of train is held out.

    Raises:
        FileNotFoundError: a folder, or the image or annotation of an ID, is missing; it is named.
        ValueError: an annotation that cannot be read, or a class not in the list; file and field
            are named.
    """
    root = Path(path)
    for folder in ("JPEGImages", "Annotations"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root} has no folder {folder}; {LAYOUT}")
    images = {file.stem: file for file in images_in(root / "JPEGImages")}
    digest = hashlib.sha256()
    read: dict[str, tuple[tuple[Path, ...], tuple[Annotation, ...]]] = {}
    for split, ids in id_lists(root, "Main", "Annotations/*.xml", LAYOUT).items():
        files, found = [], []
        for name in ids:
            file = root / "Annotations" / f"{name}.xml"
            if name not in images or not file.is_file():
                lacking = f"image {root / 'JPEGImages' / name}.*" if file.is_file() else str(file)
                raise FileNotFoundError(f"{lacking} is missing, of {name} in {split}; {LAYOUT}")
            data, image = file.read_bytes(), images[name]
            files.append(image)
            found.append(parse(data, str(file)))
            digest.update(b"%s\0%s\0" % (os.fsencode(f"{split}/{image.name}"), data))
            digest.update(b"%d\n" % image.stat().st_size)
        read[split] = tuple(files), tuple(found)
    classes = _classes(root, read)
    digest.update(repr(classes).encode())
    return box_source(root, read, classes, digest.hexdigest(), fraction=fraction, seed=seed)


def parse(data: bytes, name: str) -> Annotation:
    """An annotation file's content; one without objects has no boxes.

    Raises ValueError with the file's name and the field: no XML in UTF-8, a DOCTYPE (entities that
    are declared there may expand without end), a field missing or no number, corners in the wrong
    order.
    """
    try:
        text = data.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it has a DOCTYPE, which annotations need not and may not have")
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{name}: no annotation that can be read: {error}") from None
    height, width = (int(_number(tree, f"size/{side}", name)) for side in ("height", "width"))
    if min(height, width) < 1:
        raise ValueError(f"{name}: size is {width} x {height}; expected the image's, in pixels")
    objects = []
    for number, item in enumerate(tree.findall("object"), 1):
        where = f"{name}: object {number}"
        kind = (item.findtext("name") or "").strip()
        if not kind:
            raise ValueError(f"{where}: name is missing")
        y0, x0, y1, x1 = (_number(item, f"bndbox/{edge}", where) for edge in EDGES)
        if y1 < y0 or x1 < x0:
            raise ValueError(
                f"{where} ({kind}): bndbox runs from x {x0:g}, y {y0:g} to x {x1:g}, y {y1:g}; "
                "expected xmin below xmax and ymin below ymax"
            )
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        box = counted_from_one(y0, x0, y1, x1)
        objects.append(Found(kind, box, difficult, f"{where}: bndbox"))
    return annotation((height, width), objects)


def _number(tree: Any, field: str, where: str) -> float:
    text = tree.findtext(field)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        said = "missing" if text is None else repr(text.strip())
        raise ValueError(f"{where}: {field} is {said}; expected a number of pixels")
    return value


def id_lists(root: Path, kind: str, files: str, layout: str) -> dict[str, list[str]]:
    """The IDs of each split, by the lists in ImageSets/`kind`; without any, those of all `files`
    are for training.

    Raises FileNotFoundError, which ends with `layout`, where nothing is for training; ValueError
    for two lists of a split, or an empty one.
    """
    folder, found = root / "ImageSets" / kind, {}
    for file in sorted(folder.glob("*.txt")):
        if split := SPLIT_NAMES.get(file.stem):
            if split in found:
                raise ValueError(f"{folder}: {file.name} is another list of {split}; keep one")
            lines = file.read_text(encoding="utf-8").splitlines()
            found[split] = [line.split()[0] for line in lines if line.strip()]
            if not found[split]:
                raise ValueError(f"{file} lists no image")
    if not found:
        found["train"] = sorted(file.stem for file in root.glob(files))
    if not found.get("train"):
        raise FileNotFoundError(f"{root} has no list ImageSets/{kind}/train.txt; {layout}")
    return found


def listed_classes(root: Path) -> tuple[str, ...] | None:
    """The names in classes.txt, a line each; None where there is no such file."""
    file = root / CLASSES
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _classes(root: Path, read: dict[str, Any]) -> tuple[str, ...]:
    """The names in classes.txt, or those of train; raises ValueError for any other."""
    known, source = listed_classes(root), str(root / CLASSES)
    if known is None:
        named = {name for said in read["train"][1] for name in said.names}
        known, source = tuple(sorted(named)), "train"
    if not known:
        raise ValueError(f"{root}: {source} has no class; annotations of train have no objects")
    for image, said in (pair for found in read.values() for pair in zip(*found, strict=True)):
        if unknown := [name for name in said.names if name not in known]:
            raise ValueError(
                f"{root / 'Annotations' / image.stem}.xml: object/name is {unknown[0]!r}, which "
                f"{source} has not: {', '.join(known)}"
            )
    return known
