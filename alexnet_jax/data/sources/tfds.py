"""A prepared set of tensorflow-datasets as a source, read without TensorFlow.

The set must lie on disk as array_record; `scripts/prepare_dataset NAME` makes it so, once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax.data.sources.base import Source, completed
from alexnet_jax.data.sources.tfds_features import Annotation, Labels, annotated

DEFAULT_DIR = os.path.join("~", "tensorflow_datasets")
SPLITS = ("train", "validation", "test")
FIRST = 100  # records that tell whether a test split's annotations are kept secret


class TfdsSplit:
    """The records of one split and what is annotated in them, decoded when asked for: all of it, or
    what has some of these `keys` of an example."""

    def __init__(
        self,
        records: Any,
        annotations: tuple[Annotation, ...],
        title: str,
        keys: Sequence[str] | None = None,
    ):
        self.records, self.annotations, self.title = records, annotations, title
        self._asked = [one for one in annotations if keys is None or {*one.keys} & {*keys}]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, name = self.records[index], self.name(index)
        example = {"image": record["image"]}
        for annotation in self._asked:
            example |= annotation.read(record, name)
        return example

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"

    def untold(self) -> list[str]:
        """The annotations of which the first records say nothing."""
        first = [self.records[index] for index in range(min(len(self), FIRST))]
        return [one.what for one in self.annotations if not any(map(one.told, first))]


def from_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
    annotations: Sequence[str] | None = None,
) -> Source:
    """The prepared set `name`, `name/config` or `name:version`, found without the network.

    What its examples have is recognized by the set's features (tfds_features.py): labels, boxes,
    masks and joints. Its own splits are kept: "validation" serves for stopping, and its figures
    stand in for a missing "test", as they do in what is published on such sets; a test split whose
    labels or boxes are kept secret is left out. The notes say so. The fingerprint covers name,
    version, classes, and the names and sizes of the record files.

    Args:
        data_dir: where prepared sets lie; None: TFDS_DATA_DIR, else ~/tensorflow_datasets.
        fraction, seed: without a validation split so much of train is held out, class by class
            where images have labels.
        annotations: keys of an example besides its image (base.py) that will be asked for; the
            others are not decoded. None: all.

    Raises:
        FileNotFoundError: the set is not prepared; the message is the command to run.
        ValueError: the set has no images, nothing is annotated that can be read, or there is no
            train split.
    """
    folder = os.fspath(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DIR)
    builder = _prepared(name, os.path.expanduser(folder))
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    found = annotated(builder.name, features)
    if not found:
        raise ValueError(
            f"{name} has nothing that can be learnt: expected the features image and label, or "
            "objects with bbox and label, or masks as oxford_iiit_pet's, or joints as flic's; "
            f"it has {', '.join(sorted(features))}"
        )
    encoded = {
        key: tfds.decode.SkipDecoding()
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Image)
    }
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    read = {
        split: TfdsSplit(_records(builder, split, encoded), found, f"{name} {split}", annotations)
        for split in SPLITS
        if sizes.get(split)
    }
    if "train" not in read:
        raise ValueError(f"{name} has no train split; it has {', '.join(sizes) or 'none at all'}")
    notes = []
    if "test" in read and (secret := read["test"].untold()):
        notes.append(f"the set's test split has no {' and no '.join(secret)} and is left out")
        del read["test"]
    splits, missing = completed(read, _labels(read), fraction, seed)
    notes += missing
    unused = [f"{split} ({count})" for split, count in sizes.items() if split not in SPLITS]
    if unused:
        notes.append(f"splits not used: {', '.join(unused)}")
    names = {"classes": ()} | {one.of: one.names for one in found}
    version = str(builder.info.version)
    return Source(
        name,
        version,
        _fingerprint(builder, found[0].names),
        splits=splits,
        notes=tuple(notes),
        **names,
    )


def _labels(read: dict[str, TfdsSplit]) -> np.ndarray | None:
    """The labels of train where it is to be held out by them; reading all takes its time."""
    train = read["train"]
    labels = next((one for one in train.annotations if isinstance(one, Labels)), None)
    if labels is None or "validation" in read:
        return None
    said = (labels.read(train.records[i], train.name(i)) for i in range(len(train)))
    return np.array([one["label"] for one in said])


def _prepared(name: str, data_dir: str) -> Any:
    """The builder of a set that lies on disk, read from its files alone.

    The code that prepares a set is not asked, since that of some (coco) needs TensorFlow merely to
    say what it would prepare. The folder is looked for first, since importing the library takes up
    to seconds.
    """
    if os.path.isdir(os.path.join(data_dir, re.split("[/:]", name)[0])):
        from tensorflow_datasets.core.read_only_builder import builder_from_files
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        try:
            return builder_from_files(name, data_dir=data_dir)
        except DatasetNotFoundError:
            pass  # nor this config or version
        except Exception as error:  # an impossible name, damaged files
            reason = " ".join(str(error).split())
            raise ValueError(f"{name} in {data_dir}: {reason[:300]}") from None
    raise FileNotFoundError(
        f"{name} is not prepared in {data_dir}; "
        f"run: scripts/prepare_dataset {name} --data-dir {shlex.quote(data_dir)}"
    )


def _records(builder: Any, split: str, decoders: dict[str, Any]) -> Any:
    try:
        return builder.as_data_source(split, decoders=decoders)
    except NotImplementedError:
        raise ValueError(
            f"{builder.data_dir} holds {builder.info.file_format.value}, which only TensorFlow "
            f"reads; run: scripts/prepare_dataset {builder.name} --data-dir ANOTHER_FOLDER"
        ) from None


def _fingerprint(builder: Any, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((builder.info.full_name, classes)).encode())
    for split in sorted(builder.info.splits):
        for path in builder.info.splits[split].filepaths:
            digest.update(f"{path.name} {os.path.getsize(path)}\n".encode())
    return digest.hexdigest()
