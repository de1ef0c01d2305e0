"""The masks of PASCAL VOC folders: palettes, void, lists of their own, refusals that name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import assemble
from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.sources.voc_masks import from_voc_masks
from alexnet_jax.data.window import VOID
from alexnet_jax.tasks.detection import Detection
from alexnet_jax.tasks.segmentation import Segmentation

MASK = np.resize(np.array([0, 0, 15, 20, VOID], np.uint8), (6, 8))


def add(root, name, mask=MASK):
    """A picture and a mask whose palette says nothing of its classes' order, as VOC's."""
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*mask.shape, 3), 9, np.uint8)).save(
        root / "JPEGImages" / f"{name}.png"
    )
    picture = Image.fromarray(mask)
    picture.putpalette([255 - i % 256 for i in range(768)])
    picture.save(root / "SegmentationClass" / f"{name}.png")


def lists(root, kind, **splits):
    folder = root / "ImageSets" / kind
    folder.mkdir(parents=True)
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "VOC2012"
    for name in "abcd":
        add(root, name)
    lists(root, "Segmentation", train="ca", val="b", trainval="cab")
    lists(root, "Main", train="abcd", val="a")
    return root


def test_masks_are_read_by_their_own_lists(root):
    source = from_voc_masks(root)
    assert len(source.pixel_classes) == 21 and source.pixel_classes[::15] == (
        "background",
        "person",
    )
    assert source.pixel_classes[20] == "tvmonitor" and Segmentation.classes(source)
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 2, "validation": 1}
    assert source.splits["train"].name(0) == str(root / "JPEGImages" / "c.png")
    np.testing.assert_array_equal(source.splits["train"][0]["segmentation"], MASK)
    reader = Reader(source.splits["train"], canvas=6, annotations=("segmentation",))
    (batch,) = evaluation_batches(reader, batch_size=2)
    np.testing.assert_array_equal(batch["segmentation"], [MASK[:, 1:7]] * 2)


def test_a_folder_with_boxes_too_is_opened_by_the_one_or_the_other(root):
    def opened(path):
        return assemble.open_source(str(path), canvas=8, seed=0)

    assert opened(root).fingerprint == from_voc_masks(root).fingerprint
    (root / "Annotations").mkdir()
    for name in "abcd":
        (root / "Annotations" / f"{name}.xml").write_text(
            "<annotation><size><height>6</height><width>8</width></size><object><name>dog</name>"
            "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
            "</annotation>"
        )
    boxes, masks = opened(root), opened(root / "SegmentationClass")
    assert Detection.classes(boxes) == ("dog",) and len(boxes.splits["train"]) == 4
    assert Segmentation.classes(masks)[0] == "background" and len(masks.splits["train"]) == 2
    with pytest.raises(ValueError, match=r"VOC2012 has no masks.*/SegmentationClass"):
        Segmentation.classes(boxes)


def test_classes_are_those_of_the_list(root):
    (root / "classes.txt").write_text("cat\ndog\n")
    for name in "abcd":
        add(root, name, np.resize(np.array([0, 1, 2, VOID], np.uint8), (6, 8)))
    add(root, "a")
    source = from_voc_masks(root)
    assert source.pixel_classes == ("background", "cat", "dog")
    assert Reader(source.splits["train"], canvas=6, annotations=("segmentation",)).bad == {
        str(root / "JPEGImages" / "a.png"): f"{root / 'SegmentationClass' / 'a.png'}: segmentation "
        "has the value 15, which is none of 0, 1, 2, 255 (2 such values in all)"
    }


def test_without_lists_some_of_all_is_held_out(tmp_path):
    for number in range(10):
        add(tmp_path, str(number))
    source = from_voc_masks(tmp_path)
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 9, "validation": 1}
    assert source.notes[0] == "validation: 10 % of train, seed 0"


def test_what_is_missing_is_named(root):
    (root / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"SegmentationClass/b\.png is missing, of b in val"
    ):
        from_voc_masks(root)
    add(root, "b")
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"image .*JPEGImages/b\.\* is missing"):
        from_voc_masks(root / "SegmentationClass")
    (root / "ImageSets" / "Segmentation" / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list ImageSets/Segmentation/train\.txt"):
        from_voc_masks(root)
