"""A folder of images and masks: pairs by name, classes by classes.txt, and refusals that name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import assemble
from alexnet_jax.data.decode import BadImage, canvas, canvas_mask
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.sources.masks import from_mask_folder, read_classes
from alexnet_jax.data.window import VOID

RNG = np.random.default_rng(0)
CLASSES = "0 sky\n1 road\n2 unlabelled (ignore)\n7 car\n"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """Three training, two validation and one test image; brightness is 50 times the class."""
    (tmp_path / "classes.txt").write_text(CLASSES)
    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        for i in range(count):
            mask = RNG.choice(np.array([0, 1, 2, 7], np.uint8), (10 + i, 14))
            image = np.repeat(30 * mask[..., None], 3, axis=2)
            save(tmp_path / split / f"{i}.png", image)
            save(tmp_path / f"{split}annot" / f"{i}.png", mask)
    return tmp_path


def test_pairs_are_read_and_values_become_classes(root):
    source = from_mask_folder(root)
    assert source.pixel_classes == ("sky", "road", "car") and source.classes == ()
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 3, "validation": 2, "test": 1}
    example = source.splits["train"][1]
    with Image.open(root / "trainannot" / "1.png") as image:
        stored = np.asarray(image)
    expected = np.select([stored == 0, stored == 1, stored == 7], [0, 1, 2], VOID)
    np.testing.assert_array_equal(example["segmentation"], expected)
    assert source.splits["train"].name(1) == str(root / "train" / "1.png")
    assert assemble.open_source(str(root), canvas=8, seed=0).fingerprint == source.fingerprint


def test_a_mask_with_a_palette_is_read_by_its_indices(root):
    expected = from_mask_folder(root).splits["train"][0]["segmentation"]
    with Image.open(root / "trainannot" / "0.png") as stored:
        stored.putpalette([255 - i % 256 for i in range(768)])
        assert stored.mode == "P"
        stored.save(root / "trainannot" / "0.png")
    found = from_mask_folder(root).splits["train"][0]["segmentation"]
    np.testing.assert_array_equal(found, expected)


def test_the_reader_cuts_and_scales_a_mask_as_its_image(root):
    """Block by block: the nearest pixel of the middle square, where the image has its value."""
    source = from_mask_folder(root)
    both = {"canvas": 5, "annotations": ("segmentation",)}
    for memory in (2**20, 0):
        reader = Reader(source.splits["train"], memory=memory, **both)
        (batch,) = evaluation_batches(reader, batch_size=4)
        assert batch["segmentation"].dtype == np.uint8 and batch["segmentation"].shape == (4, 5, 5)
        assert batch["valid"].tolist() == [True] * 3 + [False] and "label" not in batch
        mask = source.splits["train"][0]["segmentation"]  # 10 x 14: every second pixel
        np.testing.assert_array_equal(batch["segmentation"][0], mask[1::2, 3:12:2])
        stream = training_batches(reader, seed=0, position=0, batch_size=3)
        first = next(stream)
        stream.close()
        for row, index in enumerate(first["index"]):
            expected = canvas_mask(source.splits["train"][int(index)]["segmentation"], 5)
            np.testing.assert_array_equal(first["segmentation"][row], expected)


def test_a_square_of_the_right_size_is_not_touched():
    mask = RNG.integers(0, 9, (6, 6)).astype(np.uint8)
    np.testing.assert_array_equal(canvas_mask(mask, 6), mask)
    image = np.zeros((33, 50, 3), np.uint8)
    image[10:20, 20:30] = 255
    big, small = canvas(image, 66), canvas_mask(image[..., 0], 66)
    assert small[25, 30] == 255 and np.all(
        np.abs(big[..., 0].astype(int) - small)[21:38, 24:41] == 0
    )


def test_without_validation_some_of_train_is_held_out(root):
    for folder in ("val", "valannot", "test", "testannot"):
        for file in (root / folder).iterdir():
            file.unlink()
        (root / folder).rmdir()
    source = from_mask_folder(root, fraction=0.4)
    assert {s: len(x) for s, x in source.splits.items()} == {"train": 2, "validation": 1}
    assert source.notes[0] == "validation: 40 % of train, seed 0" and "no test" in source.notes[1]


def bad_of(root):
    reader = Reader(from_mask_folder(root).splits["train"], canvas=5, annotations=("segmentation",))
    return reader.bad


def test_a_mask_of_another_size_is_named(root):
    save(root / "trainannot" / "1.png", np.zeros((4, 3), np.uint8))
    assert bad_of(root) == {
        str(
            root / "train" / "1.png"
        ): "segmentation is 3 x 4, its image 14 x 11; a mask has a value for every pixel"
    }
    with pytest.raises(BadImage, match=r"1\.png: segmentation is 3 x 4"):
        split = from_mask_folder(root).splits["train"]
        evaluation_batches(Reader(split, canvas=5, annotations=("segmentation",)), batch_size=2)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda f: save(f, np.full((11, 14), 9, np.uint8)), "segmentation has the value 9, which"),
        (lambda f: save(f, np.zeros((11, 14, 3), np.uint8)), "its pixels are RGB; a mask has one"),
        (lambda f: f.write_bytes(b""), "not a mask of type PNG"),
        (lambda f: Image.new("L", (14, 11)).save(f, "JPEG"), "not a mask of type PNG"),
        (lambda f: f.write_bytes(f.read_bytes()[:60]), "1.png"),
    ],
)
def test_a_mask_that_cannot_be_is_named(root, write, said):
    file = root / "trainannot" / "1.png"
    write(file)
    (bad,) = bad_of(root).values()
    assert str(file) in bad and said in bad


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda r: (r / "trainannot" / "2.png").unlink(), "trainannot/2.png does not exist"),
        (lambda r: (r / "classes.txt").unlink(), "has no classes.txt"),
        (lambda r: (r / "valannot").rename(r / "other"), "valannot does not exist, the masks of"),
        (lambda r: (r / "train").rename(r / "other"), "has no folder train"),
        (lambda r: [f.unlink() for f in (r / "test").iterdir()], "test has no images"),
    ],
)
def test_what_is_missing_is_named(root, break_it, said):
    break_it(root)
    with pytest.raises(FileNotFoundError, match=said):
        assemble.open_source(str(root), canvas=8, seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 a\n0 b\n", "value 0 is there twice"),
        ("0 a\n300 b\n", "value 300 is above 255"),
        ("0 a\n1 a\n", "class 'a' is there twice"),
        ("0 a\n1 void (ignore)\n", "names 1 classes"),
    ],
)
def test_a_classes_file_that_cannot_be_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read_classes(text, "classes.txt")


def test_names_alone_are_numbered_by_line():
    names, to_class, known = read_classes("sky\nno parking\n255 border (void)\n", "classes.txt")
    assert names == ("sky", "no parking")
    assert to_class[:3].tolist() == [0, 1, VOID] and np.flatnonzero(known).tolist() == [0, 1, 255]


def test_a_set_without_the_tasks_annotations_is_refused(root):
    from alexnet_jax.tasks.registry import task_type

    with pytest.raises(ValueError, match="no label for each image"):
        task_type("classification").classes(from_mask_folder(root))
    with pytest.raises(ValueError, match="there are classification, segmentation, detection"):
        task_type("detektion")
    with pytest.raises(ValueError, match="cannot read 'depth'"):
        Reader(from_mask_folder(root).splits["train"], canvas=5, annotations=("depth",))
