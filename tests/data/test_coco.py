"""COCO folders: boxes as pycocotools has them, broken files refused by file and field."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from alexnet_jax import assemble
from alexnet_jax.data.sources.coco import from_coco, parse

TRAIN = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "deep/b.png", "width": 20, "height": 50},
        {"id": 9, "file_name": "c.png", "width": 20, "height": 20},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [2, 3.5, 10, 8], "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [1, 40, 9, 30], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 40, 30]},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [5, 5, 0, 4]},
    ],
}
VAL = {
    "images": [{"id": 1, "file_name": "v.png", "width": 20, "height": 20}],
    "categories": [{"id": 1, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name, content in (("train2017", TRAIN), ("val2017", VAL)):
        (tmp_path / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
        for image in content["images"]:
            file = tmp_path / name / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
            Image.fromarray(pixels).save(file)
    (tmp_path / "annotations" / "captions_train2017.json").write_text("not read")
    return tmp_path


def test_boxes_are_those_that_pycocotools_reads(root):
    source = from_coco(root)
    assert source.box_classes == ("cat", "dog")  # in the order of their ids
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 3, "validation": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(root / "annotations" / "instances_train2017.json"))
    train = source.splits["train"]
    assert train.name(1) == str(root / "train2017" / "deep" / "b.png")
    for index, image in enumerate((7, 3, 9)):
        expected = [one for one in known.loadAnns(known.getAnnIds(image)) if min(one["bbox"][2:])]
        example = train[index]
        assert len(example["boxes"]) == len(expected)
        for n, one in enumerate(expected):
            x, y, width, height = one["bbox"]
            bottom = min(y + height, example["image"].shape[0])  # cut off at the image's edge
            assert example["boxes"][n].tolist() == [y, x, bottom, x + width]
            (kind,) = known.loadCats(one["category_id"])
            assert source.box_classes[example["box_label"][n]] == kind["name"]
            assert example["box_ignore"][n] == bool(one.get("iscrowd"))
    assert source.splits["validation"][0]["box_label"].tolist() == [1]  # by name, not by id
    assert any("annotations[3]/bbox (cat)" in note for note in source.notes)
    assert assemble.open_source(str(root), canvas=8, seed=0).fingerprint == source.fingerprint


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("annotations", 1, "bbox"), [1, 2, 3], r"annotations\[1\]/bbox is \[1, 2, 3\]; expected"),
        (("annotations", 0, "bbox"), [1, 2, -3, 4], r"annotations\[0\]/bbox is .*not below 0"),
        (("annotations", 0, "bbox"), [1, 2, float("nan"), 4], r"annotations\[0\]/bbox is"),
        (("annotations", 2, "category_id"), 99, r"annotations\[2\]/category_id is 99, which"),
        (("annotations", 2, "image_id"), 99, r"annotations\[2\]/image_id is 99, which"),
        (("images", 1, "file_name"), "../secret.png", r"images\[1\]/file_name is '\.\./secret"),
        (("images", 1, "file_name"), "/etc/x.png", r"images\[1\]/file_name is '/etc"),
        (("images", 1, "id"), 7, r"images\[1\]/id is 7, which is there twice"),
        (("images", 0, "height"), None, r"images\[0\]/height is None; expected int"),
        (("categories", 0, "name"), "cat", "categories are cat, cat; expected names"),
    ],
)
def test_what_is_wrong_is_refused_by_file_and_field(where, value, said):
    content = copy.deepcopy(TRAIN)
    field, number, key = where
    content[field][number][key] = value
    with pytest.raises(ValueError, match=rf"^t\.json: {said}"):
        parse(json.dumps(content).encode(), "t.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b'{"images": 3}'])
def test_what_is_no_annotation_file_is_refused(data):
    with pytest.raises(ValueError, match=r"^t\.json: "):
        parse(data, "t.json")


def test_what_is_missing_is_named(root):
    (root / "train2017" / "c.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"c\.png is missing, an image of .*train2017\.json"
    ):
        from_coco(root)
    (root / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no file of train, only captions_train2017"):
        from_coco(root)


def test_a_class_that_train_has_not_is_refused(root):
    content = {**VAL, "categories": [{"id": 1, "name": "wolf"}]}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"val2017\.json: categories/name is 'wolf', which train"):
        from_coco(root)
