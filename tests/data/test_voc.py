"""PASCAL VOC folders: boxes as the kit means them, hostile and broken files refused by name."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import assemble
from alexnet_jax.data.decode import BadImage
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.rows import BOXES
from alexnet_jax.data.sources.arrays import from_arrays
from alexnet_jax.data.sources.voc import from_voc, parse
from alexnet_jax.tasks.detection import Detection

ANNOTATIONS = ("boxes", "box_label", "box_ignore")


def xml(objects, width=40, height=30):
    """An annotation; objects are (name, (xmin, ymin, xmax, ymax), difficult)."""
    said = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox>"
        + "".join(
            f"<{edge}>{value}</{edge}>"
            for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for name, box, difficult in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>elsewhere.jpg</filename>{size}{said}</annotation>"


def add(root, name, objects, shape=(30, 40)):
    """An image with each object painted in its own grey, and its annotation."""
    image = np.zeros((*shape, 3), np.uint8)
    for number, (_, (x0, y0, x1, y1), _) in enumerate(objects):
        image[max(y0 - 1, 0) : y1, max(x0 - 1, 0) : x1] = min(100 + 50 * number, 255)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(exist_ok=True)
    Image.fromarray(image).save(root / "JPEGImages" / f"{name}.png")
    (root / "Annotations" / f"{name}.xml").write_text(xml(objects, shape[1], shape[0]))


def lists(root, **splits):
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def root(tmp_path):
    add(tmp_path, "a", [("dog", (3, 5, 10, 20), False), ("cat", (20, 1, 40, 12), True)])
    add(tmp_path, "b", [])
    add(tmp_path, "c", [("cat", (-4, 11, 12, 44), False)])
    add(tmp_path, "d", [("dog", (1, 1, 40, 30), False)], shape=(60, 40))
    lists(tmp_path, train=["c", "a", "b"], val=["a"], test=["d"], trainval=["a", "b", "c"])
    return tmp_path


def test_boxes_hold_the_painted_pixels(root):
    """The kit counts pixels from 1 and includes the last; ours run from edge to edge."""
    source = from_voc(root)
    assert source.box_classes == Detection.classes(source) == ("cat", "dog")
    assert source.classes == () == source.pixel_classes
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 3, "validation": 1, "test": 1}
    train = source.splits["train"]
    assert train.name(1) == str(root / "JPEGImages" / "a.png")
    example = train[1]
    for grey, box in zip((100, 150), example["boxes"], strict=True):
        painted = (example["image"] == grey).all(axis=2)
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        assert box.tolist() == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    assert example["box_label"].tolist() == [1, 0]
    assert example["box_ignore"].tolist() == [False, True]
    assert train[0]["boxes"].tolist() == [[10, 0, 30, 12]]  # cut off at the image's edges
    assert train[2]["boxes"].shape == (0, 4)
    assert assemble.open_source(str(root), canvas=8, seed=0).fingerprint == source.fingerprint


@pytest.mark.parametrize("memory", [0, 2**20])
def test_the_reader_moves_boxes_with_the_letterboxed_image(root, memory):
    reader = Reader(
        from_voc(root).splits["train"], canvas=20, memory=memory, annotations=ANNOTATIONS
    )
    assert reader.in_memory == bool(memory)
    (batch,) = evaluation_batches(reader, batch_size=4)
    assert batch["boxes"].shape == (4, BOXES, 4) and batch["valid"].tolist() == [1, 1, 1, 0]
    # 40 x 30 becomes 20 x 15, which lies in rows 2 to 17; half of each number, two rows down.
    np.testing.assert_allclose(batch["boxes"][1, :2], [[4, 1, 12, 5], [2, 9.5, 8, 20]])
    assert batch["box_label"][1, :2].tolist() == [1, 0] and batch["box_ignore"][1, 1]
    assert not batch["boxes"][1, 2:].any() and not batch["boxes"][2:].any()
    training = next(training_batches(reader, seed=0, position=0, batch_size=6))
    for row, index in enumerate(training["index"]):
        np.testing.assert_array_equal(training["boxes"][row], batch["boxes"][index])


def test_more_boxes_than_a_batch_holds_are_refused(root):
    add(root, "b", [("dog", (1, 1, 5, 5), False)] * (BOXES + 1))
    with pytest.raises(BadImage, match=rf"b\.png: {BOXES + 1} boxes, more than a batch holds"):
        reader = Reader(from_voc(root).splits["train"], canvas=20, annotations=ANNOTATIONS)
        evaluation_batches(reader, batch_size=4)


def test_an_image_of_another_size_than_its_annotation_says_is_refused(root):
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(root / "JPEGImages" / "a.png")
    with pytest.raises(BadImage, match=r"a\.png: size is 40 x 30 in its annotation, and 30 x 40"):
        from_voc(root).splits["validation"][0]


def test_a_box_without_area_is_left_out_and_told(root):
    objects = [
        ("dog", (50, 3, 60, 9), False),  # beside the image
        ("dog", (9, 9, 9, 9), False),
        ("cat", (1, 1, 9, 9), False),
    ]
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "Annotations" / "a.xml").write_text(xml(objects))
    source = from_voc(root)
    assert source.splits["validation"][0]["boxes"].tolist() == [[0, 0, 9, 9]]
    (note,) = source.notes
    assert "object 1: bndbox (dog)" in note and "object 2: bndbox (dog)" in note
    assert str(root / "Annotations" / "a.xml") in note


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    + "]><annotation>&k;</annotation>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><size><width>4</width>'
    "<height>4</height></size><object><name>&x;</name></object></annotation>"
)


@pytest.mark.parametrize("hostile", [LAUGHS, OUTSIDE], ids=["entities", "external"])
def test_a_doctype_is_refused_before_anything_is_expanded(hostile):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"^x\.xml: no annotation that can be read: .* DOCTYPE"):
        parse(hostile.encode(), "x.xml")
    with pytest.raises(ValueError, match=r"^x\.xml: no annotation that can be read: .*utf-8"):
        parse(hostile.encode("utf-16"), "x.xml")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no annotation that can be read"),
        ("<annotation><size>", "no annotation that can be read"),
        ("<annotation/>", "size/height is missing; expected a number of pixels"),
        (xml([], width=0), "size is 0 x 30; expected the image's, in pixels"),
        (xml([("", (1, 1, 2, 2), False)]), "object 1: name is missing"),
        (xml([("dog", (1, "two", 2, 2), False)]), "object 1: bndbox/ymin is 'two'"),
        (xml([("dog", (1, 1, "inf", 2), False)]), "object 1: bndbox/xmax is 'inf'"),
        (
            xml([("cat", (1, 1, 3, 3), False), ("dog", (9, 1, 3, 2), False)]),
            r"object 2 \(dog\): bndbox runs from x 9, y 1 to x 3, y 2; expected xmin below xmax",
        ),
    ],
)
def test_a_broken_annotation_is_refused_by_file_and_field(root, text, said):
    (root / "Annotations" / "c.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"c\.xml: {said}"):
        from_voc(root)


def test_classes_are_those_of_the_list(root):
    (root / "classes.txt").write_text("dog\nfox\ncat\n")
    assert from_voc(root).box_classes == ("dog", "fox", "cat")
    assert from_voc(root).splits["train"][1]["box_label"].tolist() == [0, 2]
    (root / "classes.txt").write_text("dog\nfox\n")
    with pytest.raises(ValueError, match=r"c\.xml: object/name is 'cat', which .*txt has not: dog"):
        from_voc(root)
    (root / "classes.txt").unlink()
    add(root, "d", [("wolf", (1, 1, 9, 9), False)])
    with pytest.raises(ValueError, match=r"d\.xml: object/name is 'wolf', which train has not"):
        from_voc(root)


def test_what_is_missing_is_named(root):
    (root / "Annotations" / "d.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"Annotations/d\.xml is missing, of d in test"):
        from_voc(root)
    add(root, "d", [])
    (root / "JPEGImages" / "d.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"image .*JPEGImages/d\.\* is missing"):
        from_voc(root)
    (root / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list ImageSets/Main/train\.txt"):
        from_voc(root)


def test_without_lists_some_of_all_is_held_out(tmp_path):
    for i in range(10):
        add(tmp_path, str(i), [("dog", (1, 1, 9, 9), False)])
    source = from_voc(tmp_path, fraction=0.2)
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 8, "validation": 2}
    assert source.notes[0] == "validation: 20 % of train, seed 0"


def test_a_data_set_without_boxes_is_refused():
    source = from_arrays(np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2, ("a", "b"))
    with pytest.raises(ValueError, match="has no boxes, which detection learns"):
        Detection.classes(source)
