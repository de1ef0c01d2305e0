"""`street` as a source of the package: rendered into memory, or read back from a cache folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.sources.base import Source
from alexnet_jax.data.street.render import CLASSES, VERSION, render

# The place of a name is the split's share in the seed: splits of all seeds are disjoint.
SPLITS = ("train", "validation", "test")
COUNTS: dict[str, dict[str, int]] = {
    "a": {"train": 4000, "validation": 800, "test": 1000},
    "b": {"train": 4000, "validation": 800, "test": 1000},
    "scenes": {"train": 3000, "validation": 500, "test": 500},
    "people": {"train": 4000, "validation": 800, "test": 1000},
}
ONE_PERSON = ("b", "people")  # configurations whose joints are those of one person at most

Arrays = dict[str, np.ndarray]  # an array of examples a key


@dataclass(frozen=True)
class Rendered:
    """The examples of one split in memory; the arrays it hands out are read-only views."""

    title: str
    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays["label"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {key: values[index] for key, values in self.arrays.items()}
        return {**example, "label": int(example["label"])}

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"


def split_seed(seed: int, split: str) -> int:
    """The seed that `render` gets for a split of the source of the given seed."""
    if split not in SPLITS:
        raise ValueError(f"street has no split {split!r}: choose from {', '.join(SPLITS)}")
    return len(SPLITS) * seed + SPLITS.index(split)


def source(
    config: str = "a",
    size: int = 64,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Source:
    """Renders the splits, some hundred examples a second; with `cache_dir` only once.

    Args:
        config: "a" (car or bus), "b" (bicycle, motorbike, man, woman), "people" (man, woman) or
            "scenes" (one to six of all).
        size: the side of the pictures in pixels.
        seed: other seeds give other pictures.
        counts: examples in each split, by name; default `COUNTS[config]`. Classes take turns, so
            they are balanced.
        cache_dir: a folder for the rendered arrays, made when missing. A damaged cache is rendered
            anew, and one that cannot be written is done without, with a warning.
    """
    if config not in CLASSES:
        raise ValueError(
            f"street has no configuration {config!r}: choose one of {', '.join(CLASSES)}"
        )
    counts = dict(COUNTS[config] if counts is None else counts)
    for split, count in counts.items():
        split_seed(seed, split)
        if count < 1:
            raise ValueError(
                f"street: counts[{split!r}] is a number of examples, 1 or more; got {count}"
            )
    path = None if cache_dir is None else Path(cache_dir) / _file_name(config, size, seed, counts)
    splits = None if path is None else _load(path, counts)
    if splits is None:
        splits = {s: _render_split(config, size, split_seed(seed, s), n) for s, n in counts.items()}
        if path is not None:
            try:
                _save(path, splits)
            except OSError as error:  # a home that is read-only, a disk that is full
                warnings.warn(f"street: nothing is kept for the next time: {error}", stacklevel=2)
    for arrays in splits.values():
        for values in arrays.values():
            values.setflags(write=False)
    return Source(
        name=f"street/{config}",
        version=VERSION,
        fingerprint=_fingerprint(splits),
        classes=CLASSES[config],
        splits={s: Rendered(f"street/{config} {s}", arrays) for s, arrays in splits.items()},
        notes=(f"rendered at {size} x {size} pixels from seed {seed}, version {VERSION}",),
        pixel_classes=("background", *CLASSES[config]),
        box_classes=CLASSES[config],
        joints=JOINTS if config in ONE_PERSON else (),
    )


def _render_split(config: str, size: int, seed: int, count: int) -> Arrays:
    examples = [render(config, seed, index, size) for index in range(count)]
    arrays = {key: np.stack([example[key] for example in examples]) for key in examples[0]}
    return {**arrays, "label": arrays["label"].astype(np.int32)}


def _fingerprint(splits: Mapping[str, Arrays]) -> str:
    digest = hashlib.sha256()
    for split, arrays in sorted(splits.items()):
        for key, values in sorted(arrays.items()):
            digest.update(f"{split}/{key} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _file_name(config: str, size: int, seed: int, counts: Mapping[str, int]) -> str:
    # Another Pillow may draw other pixels.
    key = f"{VERSION} {config} {size} {seed} {sorted(counts.items())} Pillow {PIL.__version__}"
    return f"street-{config}-{size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _load(path: Path, counts: Mapping[str, int]) -> dict[str, Arrays] | None:
    """The cached splits; None where there are none or, with a warning, where they cannot be read.

    The zip format's own checksums notice a damaged file.
    """
    splits: dict[str, Arrays] = {split: {} for split in counts}
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            for name in stored.files:
                split, key = name.split("/")
                splits[split][key] = stored[name]
        complete = all(len(splits[s]["label"]) == n for s, n in counts.items())
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        complete = False
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = "its counts are wrong"
    if not complete:
        warnings.warn(f"street: {path} cannot be read ({reason}); rendering anew", stacklevel=3)
        return None
    return splits


def _save(path: Path, splits: Mapping[str, Arrays]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat: dict[str, Any] = {f"{s}/{k}": v for s, a in splits.items() for k, v in a.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **flat)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
