"""A folder of images, one folder a class, as a source.

    ROOT/train/CLASS/*.jpg   ROOT/validation/CLASS/*.jpg   ROOT/test/CLASS/*.jpg

Validation may be called validation, val, valid or dev, and may be missing, as may test. With train
alone the classes may lie in ROOT itself (ROOT/CLASS/*.jpg).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.sources.base import Source, Split, completed

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
LAYOUT = (
    "expected ROOT/train/CLASS/*.jpg, with validation/ and test/ beside train/ if there are any"
)


class FolderSplit:
    """Files below a folder, read when asked for."""

    def __init__(self, root: Path, files: list[str], labels: np.ndarray):
        self.root, self.files, self.labels = root, files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": Path(self.name(index)).read_bytes(), "label": int(self.labels[index])}

    def name(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])


def from_folder(path: str | os.PathLike[str], *, fraction: float = 0.1, seed: int = 0) -> Source:
    """The images below `path`; classes are the folder names of train, sorted.

    A class folder is searched to any depth. The fingerprint covers the images' relative names and
    sizes: both survive copying, and reading every byte of a large set would cost minutes.

    Args:
        fraction, seed: without a validation folder so much of train is held out, class by class.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder (an archive: unpack it).
        ValueError: another layout, a class without images, or a class of validation or test that
            train lacks; the message names the folder.
    """
    root = Path(path)
    _check_folder(root)
    found = _split_folders(root)
    classes = _folders(found["train"])
    if len(classes) < 2:
        raise ValueError(
            f"{found['train']}: class folders: {', '.join(classes) or 'none'}; a classifier needs "
            f"two or more; {LAYOUT}; {root} has {_contents(root)}"
        )
    digest = hashlib.sha256()
    splits: dict[str, Split] = {}
    ignored = [
        name
        for name in sorted(os.listdir(root))
        if found["train"] != root and not name.startswith(".") and root / name not in found.values()
    ]
    labels = np.empty(0, np.int64)
    for split, folder in found.items():
        files, counts, others = _scan(folder, classes, complete=split == "train")
        ignored += others
        for file in files:
            # os.fsencode, since names on disk need not be valid text
            relative = os.fsencode(f"{split}/{file.name.replace(os.sep, '/')}")
            digest.update(b"%s\0%d\n" % (relative, file.size))
        split_labels = np.repeat(np.arange(len(classes)), counts)
        splits[split] = FolderSplit(folder, [file.name for file in files], split_labels)
        if split == "train":
            labels = split_labels
    splits, notes = completed(splits, labels, fraction, seed)
    if ignored:
        more = ", ..." if len(ignored) > 3 else ""
        notes.append(f"ignored, not images: {len(ignored)} ({', '.join(ignored[:3])}{more})")
    name = root.resolve().name
    return Source(name, "0", digest.hexdigest(), tuple(classes), splits, tuple(notes))


class _File(NamedTuple):
    name: str  # relative to the split's folder
    size: int


def _check_folder(root: Path) -> None:
    if root.is_dir():
        return
    if root.suffix.lower() in ARCHIVES and root.is_file():
        raise NotADirectoryError(
            f"{root} is an archive: unpack it (unzip or tar -xf) and give the folder it makes"
        )
    if root.exists():
        raise NotADirectoryError(f"{root} is a file, not a folder of images; {LAYOUT}")
    parent = next(folder for folder in root.absolute().parents if folder.is_dir())
    raise FileNotFoundError(f"{root} does not exist; {parent} has {_contents(parent)}; {LAYOUT}")


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split, train first; a root with class folders only is train itself."""
    found: dict[str, Path] = {}
    for name in _folders(root):
        split = SPLIT_NAMES.get(name.lower())
        if split in found:
            raise ValueError(f"{root}: {found[split].name} and {name} are both {split}; keep one")
        if split:
            found[split] = root / name
    if not found and _folders(root):
        return {"train": root}
    if "train" not in found:
        raise ValueError(f"{root} has no train folder but {_contents(root)}; {LAYOUT}")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _scan(
    folder: Path, classes: list[str], *, complete: bool
) -> tuple[list[_File], list[int], list[str]]:
    """The images of a split by class and name, how many each class has, and the files ignored."""
    unknown = [name for name in _folders(folder) if name not in classes]
    if unknown:
        raise ValueError(
            f"{folder / unknown[0]}: train has no class {unknown[0]!r}; it has {', '.join(classes)}"
        )
    files: list[_File] = []
    counts = []
    ignored = [
        f"{folder.name}/{entry.name}"
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if not entry.is_dir() and not entry.name.startswith(".")
    ]
    for name in classes:
        present = (folder / name).is_dir()
        below = sorted(_walk(folder, name, set())) if present else []
        images = [file for file in below if _is_image(file)]
        ignored += [f"{folder.name}/{file.name}" for file in below if not _is_image(file)]
        if not images and (present or complete):
            raise ValueError(
                f"{folder / name}: no images in this class folder "
                f"(looked for {' '.join(EXTENSIONS)}); add some or remove the folder"
            )
        files += images
        counts.append(len(images))
    if not files:
        raise ValueError(f"{folder}: no images; it has {_contents(folder)}; {LAYOUT}")
    return files, counts, ignored


def images_in(folder: Path) -> list[Path]:
    """The image files that lie in a folder itself, by name; hidden ones do not count."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
    )


def _is_image(file: _File) -> bool:
    return file.name.lower().endswith(EXTENSIONS)


def _walk(root: Path, folder: str, seen: set[str]) -> Iterator[_File]:
    """The files below, hidden ones left out; a folder is entered once, so links may form loops."""
    real = os.path.realpath(root / folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(root / folder) as entries:
        for entry in entries:
            name = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(root, name, seen)
            elif entry.is_file():
                yield _File(name, entry.stat().st_size)
            else:
                raise ValueError(f"{root / name}: a link to nothing; repair or remove it")


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def _contents(root: Path) -> str:
    names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "nothing") + more
