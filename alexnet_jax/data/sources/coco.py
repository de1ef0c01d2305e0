"""A folder in the form of COCO as a source of boxes (Lin et al. 2014, arXiv:1405.0312).

    ROOT/annotations/instances_NAME.json   ROOT/NAME/*.jpg

NAME is train, val or test, with or without a year (train2017); a file may be called NAME.json, too.
Without val a tenth of train is held out. Classes are the categories of train in the order of their
ids; `bbox` is [x, y, width, height] in pixels from 0; what is `iscrowd` is neither learnt nor
judged.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

from alexnet_jax.data.sources.base import Source
from alexnet_jax.data.sources.boxes import Annotation, Found, annotation, box_source
from alexnet_jax.data.sources.folder import SPLIT_NAMES

LAYOUT = "expected ROOT/annotations/instances_train.json and the images it names in ROOT/train"
PREFIX = "instances_"


def is_coco(root: Path) -> bool:
    """Whether a folder is meant to be one of COCO's form."""
    return any((root / "annotations").glob("*.json"))


def from_coco(path: str | os.PathLike[str], *, fraction: float = 0.1, seed: int = 0) -> Source:
    """The images and boxes below `path`, in the order of each file's `images`.

    The fingerprint covers the annotation files, and the names and sizes of the images. Boxes are
    cut off at their image's edges; those of which nothing is left are left out, and the notes say
    so.

    Args:
        fraction, seed: without a file of validation so much of train is held out.

    Raises:
        FileNotFoundError: no file of train, or an image is missing; it is named.
        ValueError: what cannot be read, by file and field; a class that train has not.
    """
    root = Path(path)
    digest = hashlib.sha256()
    read: dict[str, tuple[tuple[Path, ...], tuple[Annotation, ...]]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for split, file in _files(root).items():
        data = file.read_bytes()
        found, classes[split] = parse(data, str(file))
        folder = root / file.stem.removeprefix(PREFIX)
        files = tuple(folder / name for name in found)
        digest.update(b"%s\0%s\0" % (split.encode(), data))
        for image in files:
            if not image.is_file():
                raise FileNotFoundError(f"{image} is missing, an image of {file}; {LAYOUT}")
            digest.update(b"%d\n" % image.stat().st_size)
        read[split] = files, tuple(found.values())
        if unknown := sorted(set(classes[split]) - set(classes["train"])):
            raise ValueError(
                f"{file}: categories/name is {unknown[0]!r}, which train has not: "
                + ", ".join(classes["train"])
            )
    return box_source(
        root, read, classes["train"], digest.hexdigest(), fraction=fraction, seed=seed
    )


def parse(data: bytes, name: str) -> tuple[dict[str, Annotation], tuple[str, ...]]:
    """({file name: annotation}, classes) of an annotation file; an image may have no objects.

    Raises ValueError with the file's name and the field: no JSON, a field missing or of another
    type, an id that is not there or there twice, a file name that leads out of the images' folder,
    a box of negative size.
    """
    try:
        content = json.loads(data)
    except ValueError as error:  # also of UTF-8
        raise ValueError(f"{name}: no JSON that can be read: {error}") from None
    categories = _by_id(content, "categories", name)
    kinds = {number: _field(one, "name", str, where) for number, (one, where) in categories.items()}
    classes = tuple(kinds[number] for number in sorted(kinds))
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"{name}: categories are {', '.join(classes) or 'none'}; expected names")
    images = _by_id(content, "images", name)
    objects: dict[int, list[Found]] = {number: [] for number in images}
    for one, where in _rows(content, "annotations", name):
        image, kind = (_field(one, field, int, where) for field in ("image_id", "category_id"))
        for field, number, known in (("image_id", image, images), ("category_id", kind, kinds)):
            if number not in known:
                raise ValueError(f"{where}/{field} is {number}, which {name} does not describe")
        box = _field(one, "bbox", list, where)
        if len(box) != 4 or not all(_is_number(value) for value in box) or min(box[2:]) < 0:
            raise ValueError(
                f"{where}/bbox is {box}; expected [x, y, width, height] in pixels, the last two "
                "not below 0"
            )
        x, y, width, height = map(float, box)
        ignored = bool(one.get("iscrowd", 0))
        corners = (y, x, y + height, x + width)
        objects[image].append(Found(kinds[kind], corners, ignored, f"{where}/bbox"))
    found = {}
    for number, (one, where) in images.items():
        file = _field(one, "file_name", str, where)
        shape = _field(one, "height", int, where), _field(one, "width", int, where)
        if min(shape) < 1:
            raise ValueError(f"{where}: height and width are {shape}; expected pixels")
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or file in found:
            raise ValueError(
                f"{where}/file_name is {file!r}; expected one below the images' folder, once"
            )
        found[file] = annotation(shape, objects[number])
    if not found:
        raise ValueError(f"{name}: images is empty")
    return found, classes


def _files(root: Path) -> dict[str, Path]:
    """The annotation file of each split, train first."""
    found: dict[str, Path] = {}
    folder = root / "annotations"
    for file in sorted(folder.glob("*.json")):
        name = file.stem.removeprefix(PREFIX).rstrip("0123456789_-")
        if split := SPLIT_NAMES.get(name):
            if split in found:
                raise ValueError(f"{folder}: {file.name} is another file of {split}; keep one")
            found[split] = file
    if "train" not in found:
        names = ", ".join(sorted(file.name for file in folder.glob("*.json")))
        raise FileNotFoundError(f"{folder} has no file of train, only {names}; {LAYOUT}")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _rows(content: Any, field: str, name: str) -> list[tuple[dict, str]]:
    """The objects of one of the file's lists, and how to call each."""
    rows = content.get(field) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{name}: {field} is missing or no list of objects; is it in COCO's form?")
    return [(row, f"{name}: {field}[{number}]") for number, row in enumerate(rows)]


def _by_id(content: Any, field: str, name: str) -> dict[int, tuple[dict, str]]:
    found: dict[int, tuple[dict, str]] = {}
    for row, where in _rows(content, field, name):
        number = _field(row, "id", int, where)
        if number in found:
            raise ValueError(f"{where}/id is {number}, which is there twice")
        found[number] = row, where
    return found


def _field(row: dict, field: str, kind: type, where: str) -> Any:
    value = row.get(field)
    if not isinstance(value, kind) or isinstance(value, bool):
        said = "missing" if field not in row else repr(value)[:60]
        raise ValueError(f"{where}/{field} is {said}; expected {kind.__name__}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
