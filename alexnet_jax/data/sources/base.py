"""What a data set is to the rest of the package: splits, classes in a fixed order, an identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from alexnet_jax.data.stream import HOLD_OUT, philox


@runtime_checkable
class Split(Protocol):
    """Random access to the examples of one split. Reading must be safe from many threads.

    An example is a dict: `image` holds encoded bytes or uint8 [H, W, 3]; `label` an int;
    `segmentation` uint8 [H, W], 255 where no class is told, of the image as a viewer shows it;
    `boxes` float32 [n, 4] (y0, x0, y1, x1 in its pixels), `box_label` int32 [n], -1 for none, and
    `box_ignore` bool [n], with any number of boxes; `joints` float32 [P, 14, 2] (y, x) in its
    pixels, finite also where `joint_visible` bool [P, 14] is false; the other keys are those of a
    batch without its leading axis.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def name(self, index: int) -> str:
        """The example's name for messages: a path, or `street/a train[17]`."""
        ...


@dataclass(frozen=True)
class Source:
    """A data set with its identity.

    Attributes:
        name: what a person calls it.
        version: the version its makers gave it, or "0" where there is none.
        fingerprint: hex digest that changes when the content changes; checkpoints remember it.
        classes: class names; a label is an index into them. Empty where examples have no label.
        splits: "train", "validation" and, where the set has one, "test".
        notes: remarks for the report, such as "validation: 10 % of train, stratified, seed 0".
        pixel_classes: class names of the values in `segmentation`; empty where there are no masks.
        box_classes: class names of the values in `box_label`; empty where there are no boxes.
        joints: names of the joints in `joints`; empty where there are none, or of several people.
    """

    name: str
    version: str
    fingerprint: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    pixel_classes: tuple[str, ...] = ()
    box_classes: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()


NO_TEST = "no test split: figures are of validation, which was used for stopping"


class Subset:
    """Some examples of a split, in the order of `rows` (indices into it)."""

    def __init__(self, split: Split, rows: np.ndarray):
        self.split, self.rows = split, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.split[int(self.rows[index])]

    def name(self, index: int) -> str:
        return self.split.name(int(self.rows[index]))


def hold_out(
    train: Split, labels: np.ndarray | None, fraction: float, seed: int
) -> tuple[dict[str, Split], str]:
    """Take `fraction` of every class of train for validation, drawn by `seed`, in train's order.

    Every class with two examples or more gives at least one and keeps at least one; a class with a
    single example keeps it for training.

    Args:
        labels: int [N], the labels of `train`; None where all its examples are of one kind.

    Returns:
        {"train", "validation"} and the remark for the source's notes.

    Raises:
        ValueError: the fraction lies outside (0, 1), or no class has two examples.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction to hold out for validation is {fraction}, not in (0, 1)")
    stratified = "" if labels is None else ", stratified"
    labels = np.zeros(len(train), np.int64) if labels is None else labels
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        order = np.argsort(philox(seed, int(label), HOLD_OUT).random_raw(len(rows)), kind="stable")
        held[rows[order[:count]]] = True
    if not held.any():
        raise ValueError(
            f"cannot hold out a validation split from {len(labels)} examples: no class has two; "
            "give a validation split"
        )
    splits: dict[str, Split] = {
        "train": Subset(train, np.flatnonzero(~held)),
        "validation": Subset(train, np.flatnonzero(held)),
    }
    return splits, f"validation: {100 * fraction:g} % of train{stratified}, seed {seed}"


def completed(
    splits: Mapping[str, Split], labels: np.ndarray | None, fraction: float, seed: int
) -> tuple[dict[str, Split], list[str]]:
    """(a source's splits in the order train, validation, test; remarks for its notes).

    Where there is no validation it is held out of train; where there is no test, a note says so.
    Arguments and errors are those of `hold_out`.
    """
    notes: list[str] = []
    made = dict(splits)
    if "validation" not in splits:
        held, note = hold_out(splits["train"], labels, fraction, seed)
        made |= held
        notes.append(note)
    if "test" not in splits:
        notes.append(NO_TEST)
    return {split: made[split] for split in ("train", "validation", "test") if split in made}, notes
