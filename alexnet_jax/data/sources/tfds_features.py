"""What the records of a prepared set say of their images, recognized by the features it has.

    label                a ClassLabel: the image's class
    objects              a sequence of `bbox` (y0, x0, y1, x1 as shares of the image) and `label`
    segmentation_mask    an image whose values `KNOWN` explains
    xcoords, ycoords     sequences of the joints that `KNOWN` names, in pixels

What the features themselves cannot say stands in `KNOWN`, a line a set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from alexnet_jax.data.decode import BadImage, decode_rgb
from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.sources.boxes import Found, annotation, counted_from_one, example
from alexnet_jax.data.sources.masks import Values, values_of

IGNORED = ("is_difficult", "is_crowd")  # fields of an object that is neither learnt nor judged
PRECISION = 3  # decimals of a pixel that are told by shares of an image kept as float32


class Known(NamedTuple):
    """Of a set: whether the files it was made of count pixels from 1, as PASCAL VOC's do; the value
    that each class has in its masks, and those that do not count; where which joint stands."""

    from_one: bool = False
    masks: Mapping[str, int] = {}
    void: tuple[int, ...] = ()
    joints: Mapping[str, int] = {}


# FLIC's order is that of its authors' tools (Sapp and Taskar 2013); eyes and nose come after these,
# and knees and ankles are never told. Left is the person's own. That it counts pixels from 1, as
# MATLAB does, is assumed: nothing tells it.
FLIC = (
    "left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist",
    "left hip", "left knee", "left ankle", "right hip", "right knee", "right ankle",
)  # fmt: skip
KNOWN = {
    "voc": Known(from_one=True),
    "bccd": Known(from_one=True),
    "oxford_iiit_pet": Known(masks={"background": 2, "pet": 1}, void=(3,)),  # the border
    "flic": Known(from_one=True, joints={name: place for place, name in enumerate(FLIC)}),
}


class Annotation(Protocol):
    """One kind of annotation, read from the records of a set."""

    of: ClassVar[str]
    """The field of `Source` that `names` fills."""
    what: ClassVar[str]
    """In words, for notes."""
    keys: ClassVar[tuple[str, ...]]
    """What it is of an example (base.py)."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def told(self, record: Mapping[str, Any]) -> bool:
        """Whether the record says something; that of a test split may be kept secret."""
        ...

    def read(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        """{key: value} of an example, `image` among them where it had to be decoded.

        Raises BadImage or ValueError that begins with `name` or says it.
        """
        ...


@dataclass(frozen=True)
class Labels:
    names: tuple[str, ...]

    of: ClassVar[str] = "classes"
    what: ClassVar[str] = "labels"
    keys: ClassVar[tuple[str, ...]] = ("label",)

    def told(self, record: Mapping[str, Any]) -> bool:
        return int(record["label"]) >= 0

    def read(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        return {"label": _checked(record["label"], self.names, name)}


@dataclass(frozen=True)
class Boxes:
    """`ignored` is the field that says which objects do not matter, "" where none does."""

    names: tuple[str, ...]
    ignored: str
    from_one: bool

    of: ClassVar[str] = "box_classes"
    what: ClassVar[str] = "boxes"
    keys: ClassVar[tuple[str, ...]] = ("boxes", "box_label", "box_ignore")

    def told(self, record: Mapping[str, Any]) -> bool:
        return len(record["objects"]["bbox"]) > 0

    def read(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        image, objects = decode_rgb(record["image"], name), record["objects"]
        edge = np.array(image.shape[:2] * 2)
        hidden = objects[self.ignored] if self.ignored else [False] * len(objects["bbox"])
        found = []
        for share, label, ignored in zip(objects["bbox"], objects["label"], hidden, strict=True):
            y0, x0, y1, x1 = (np.float64(share) * edge).round(PRECISION).tolist()
            box = counted_from_one(y0, x0, y1, x1) if self.from_one else (y0, x0, y1, x1)
            found.append(
                Found(self.names[_checked(label, self.names, name)], box, bool(ignored), name)
            )
        return example(image, annotation(image.shape[:2], found), self.names)


@dataclass(frozen=True)
class Masks:
    names: tuple[str, ...]
    values: Values

    of: ClassVar[str] = "pixel_classes"
    what: ClassVar[str] = "masks"
    keys: ClassVar[tuple[str, ...]] = ("segmentation",)

    def told(self, record: Mapping[str, Any]) -> bool:
        return True

    def read(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        where = f"{name}: segmentation_mask"
        return {"segmentation": self.values.read(record["segmentation_mask"], where)}


@dataclass(frozen=True)
class Joints:
    """`places` are where our joints stand in the record's sequences, -1 for one that does not."""

    places: tuple[int, ...]
    from_one: bool

    of: ClassVar[str] = "joints"
    what: ClassVar[str] = "joints"
    keys: ClassVar[tuple[str, ...]] = ("joints", "joint_visible")
    names: ClassVar[tuple[str, ...]] = JOINTS

    def told(self, record: Mapping[str, Any]) -> bool:
        return True

    def read(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        """A joint that is not there, not a number or below 0 is not visible."""
        yx = [np.array(record[key], np.float64) for key in ("ycoords", "xcoords")]
        if yx[0].shape != yx[1].shape or len(yx[0]) <= max(self.places):
            raise BadImage(
                f"{name}: {len(yx[1])} xcoords and {len(yx[0])} ycoords; expected both of each "
                f"joint, {max(self.places) + 1} or more"
            )
        points = np.stack(yx, axis=-1)[list(self.places)]
        visible = (points >= 0).all(axis=-1) & np.isfinite(points).all(axis=-1)
        visible &= np.array(self.places) >= 0
        points = np.where(visible[:, None], points - (0.5 if self.from_one else 0), 0)
        return {"joints": points[None].astype(np.float32), "joint_visible": visible[None]}


def annotated(name: str, features: Mapping[str, Any]) -> tuple[Annotation, ...]:
    """What can be read of the set `name`, by its features; nothing where there is no image."""
    import tensorflow_datasets as tfds

    kinds, known = tfds.features, KNOWN.get(name, Known())
    if not isinstance(features.get("image"), kinds.Image):
        return ()
    found: list[Annotation] = []
    if isinstance(label := features.get("label"), kinds.ClassLabel):
        found.append(Labels(_names(label)))
    fields = getattr(features.get("objects"), "feature", {})  # of a sequence
    if isinstance(fields, kinds.FeaturesDict) and "bbox" in fields and "label" in fields:
        ignored = next((field for field in IGNORED if field in fields), "")
        found.append(Boxes(_names(fields["label"]), ignored, known.from_one))
    if known.masks and isinstance(features.get("segmentation_mask"), kinds.Image):
        values = values_of(tuple(known.masks.values()), known.void)
        found.append(Masks(tuple(known.masks), values))
    if known.joints and {"xcoords", "ycoords"} <= set(features):
        found.append(Joints(tuple(known.joints.get(j, -1) for j in JOINTS), known.from_one))
    return tuple(found)


def _names(labels: Any) -> tuple[str, ...]:
    return tuple(labels.int2str(number) for number in range(labels.num_classes))


def _checked(label: Any, names: tuple[str, ...], name: str) -> int:
    if not 0 <= label < len(names):
        raise ValueError(f"label {label} of {name} is out of range for {len(names)} classes")
    return int(label)
