"""Any prepared classification set of tensorflow-datasets as a source, read without TensorFlow.

The set must lie on disk as array_record; `scripts/prepare_dataset NAME` makes it so, once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from typing import Any

import numpy as np

from alexnet_jax.data.sources.base import Source, Split, completed

DEFAULT_DIR = os.path.join("~", "tensorflow_datasets")
SPLITS = ("train", "validation", "test")


class TfdsSplit:
    """The records of one split, images left encoded."""

    def __init__(self, records: Any, classes: tuple[str, ...], title: str):
        self.records, self.classes, self.title = records, classes, title

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        label = int(record["label"])
        if not 0 <= label < len(self.classes):
            raise ValueError(
                f"label {label} of {self.name(index)} is out of range for "
                f"{len(self.classes)} classes"
            )
        return {"image": record["image"], "label": label}

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"


def from_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
) -> Source:
    """The prepared set `name`, `name/config` or `name:version`, found without the network.

    Its own splits are kept: "validation" serves for stopping, and its figures stand in for a
    missing "test", as they do in what is published on such sets; a test split without labels is
    left out. The notes say so. The fingerprint covers name, version, classes, and the names and
    sizes of the record files.

    Args:
        data_dir: where prepared sets lie; None: TFDS_DATA_DIR, else ~/tensorflow_datasets.
        fraction, seed: without a validation split so much of train is held out, class by class.

    Raises:
        FileNotFoundError: the set is not prepared; the message is the command to run.
        ValueError: the set has no features `image` and `label`, or no train split.
    """
    folder = os.fspath(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DIR)
    builder = _prepared(name, os.path.expanduser(folder))
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    labels = features.get("label")
    if not isinstance(features.get("image"), tfds.features.Image) or not isinstance(
        labels, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"{name} is not a classification set: expected the features image and label, "
            f"it has {', '.join(sorted(features))}"
        )
    classes = tuple(labels.int2str(number) for number in range(labels.num_classes))
    encoded = {
        key: tfds.decode.SkipDecoding()
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Image)
    }
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    splits: dict[str, Split] = {}
    notes = []
    for split in SPLITS:
        if not sizes.get(split):
            continue
        records = _records(builder, split, encoded)
        if split == "test" and int(records[0]["label"]) < 0:
            notes.append("the set's test split has no labels and is left out")
        else:
            splits[split] = TfdsSplit(records, classes, f"{name} {split}")
    if "train" not in splits:
        raise ValueError(f"{name} has no train split; it has {', '.join(sizes) or 'none at all'}")
    train, labels = splits["train"], None
    if "validation" not in splits:  # reading them all takes its time
        labels = np.array([train[index]["label"] for index in range(len(train))])
    splits, missing = completed(splits, labels, fraction, seed)
    notes += missing
    unused = [f"{split} ({count})" for split, count in sizes.items() if split not in SPLITS]
    if unused:
        notes.append(f"splits not used: {', '.join(unused)}")
    version = str(builder.info.version)
    return Source(name, version, _fingerprint(builder, classes), classes, splits, tuple(notes))


def _prepared(name: str, data_dir: str) -> Any:
    """The builder of a set that lies on disk.

    The folder is looked for first: importing the library takes up to seconds, and the code of some
    sets asks for TensorFlow merely to say what it would prepare.
    """
    if os.path.isdir(os.path.join(data_dir, re.split("[/:]", name)[0])):
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(name, data_dir=data_dir)
        except Exception as error:  # no such config or version, an impossible name
            reason = " ".join(str(error).split())
            raise ValueError(f"{name} in {data_dir}: {reason[:300]}") from None
        if os.path.isfile(os.path.join(builder.data_path, "dataset_info.json")):
            return builder
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
