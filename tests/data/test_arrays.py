from __future__ import annotations

import numpy as np
import pytest

from alexnet_jax.data.sources.arrays import from_arrays
from alexnet_jax.data.sources.base import Source, Split


def data(count: int = 60, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Images whose every pixel is their number, in three classes of very unequal size."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, size, size, 3)
    )
    labels = np.where(np.arange(count) % 10 == 0, np.where(np.arange(count) < 20, 2, 1), 0)
    return images.copy(), labels


def drawn(split: Split) -> list[int]:
    return [int(split[index]["image"][0, 0, 0]) for index in range(len(split))]


def labels_of(split: Split) -> list[int]:
    return [split[index]["label"] for index in range(len(split))]


def test_given_splits_are_kept():
    images, labels = data()
    source = from_arrays(
        images[:30],
        labels[:30],
        ["a", "b", "c"],
        validation=(images[30:40], labels[30:40]),
        test=(images[40:], labels[40:]),
    )
    assert source.classes == ("a", "b", "c") and source.notes == ()
    assert drawn(source.splits["train"]) == list(range(30))
    assert drawn(source.splits["validation"]) == list(range(30, 40))
    assert labels_of(source.splits["test"]) == labels[40:].tolist()
    assert all(isinstance(split, Split) for split in source.splits.values())
    assert source.splits["test"].name(3) == "arrays test[3]"


def test_validation_is_held_out_class_by_class():
    images, labels = data()
    source = from_arrays(images, labels, "abc", fraction=0.2, seed=4)
    train, validation = source.splits["train"], source.splits["validation"]
    assert sorted(drawn(train) + drawn(validation)) == list(range(60))
    # 54, 4 and 2 examples: a fifth is 10.8, 0.8 and 0.4, and every class gives at least one.
    assert np.bincount(labels_of(validation)).tolist() == [11, 1, 1]
    assert [labels[number] for number in drawn(train)] == labels_of(train)
    assert source.notes == (
        "validation: 20 % of train, stratified, seed 4",
        "no test split: figures are of validation, which was used for stopping",
    )


def test_the_seed_decides_who_is_held_out():
    def held(seed: int) -> list[int]:
        return drawn(from_arrays(*data(), "abc", seed=seed).splits["validation"])

    assert held(1) == held(1) and held(1) != held(2)


def test_a_single_example_stays_in_train():
    images, _ = data(5)
    source = from_arrays(images, np.array([0, 0, 0, 0, 1]), "ab")
    assert 1 in labels_of(source.splits["train"]) and len(source.splits["validation"]) == 1
    with pytest.raises(ValueError, match="no class has two"):
        from_arrays(images[:2], np.array([0, 1]), "ab")


def test_grey_images_get_three_channels():
    source = from_arrays(np.full((8, 5, 6), 9, np.uint8), np.zeros(8, int), ["only"])
    image = source.splits["train"][0]["image"]
    assert image.shape == (5, 6, 3) and (image == 9).all()


def test_fingerprint_follows_the_content():
    def fingerprint(images, labels, classes="abc") -> str:
        return from_arrays(images, labels, classes).fingerprint

    images, labels = data()
    same = fingerprint(images.copy(), labels.astype(np.int32))
    assert fingerprint(images, labels) == same
    pixel, label = images.copy(), labels.copy()
    pixel[17, 0, 0, 0] ^= 1
    label[17] = 1
    assert len({same, fingerprint(pixel, labels), fingerprint(images, label)}) == 3
    assert fingerprint(images, labels, "acb") != same


def wrong(**changes) -> Source:
    images, labels = data()
    given = {"images": images, "labels": labels, "classes": "abc"}
    return from_arrays(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"labels": np.array([0] * 41 + [3] * 19)},
            ValueError,
            r"arrays train\[41\]: label 3 .*0 to 2",
        ),
        ({"labels": np.array([0, -1] * 30)}, ValueError, r"arrays train\[1\]: label -1 .* 30 such"),
        ({"labels": np.zeros(60)}, TypeError, "labels are float64"),
        (
            {"labels": np.zeros((60, 1), int)},
            ValueError,
            r"60 images but labels of shape \(60, 1\)",
        ),
        ({"labels": np.zeros(59, int)}, ValueError, r"60 images but labels of shape \(59,\)"),
        ({"images": np.zeros((60, 4, 4, 3), np.float32)}, TypeError, "float32; give uint8"),
        ({"images": np.zeros((60, 3, 4, 4), np.uint8)}, ValueError, r"\(60, 3, 4, 4\); give"),
        ({"images": np.zeros((60, 12), np.uint8)}, ValueError, r"\(60, 12\); give"),
        ({"classes": ["a", "a", "b"]}, ValueError, "must be given and differ"),
        ({"fraction": 0.0}, ValueError, r"0\.0, not in \(0, 1\)"),
        (
            {"test": (np.zeros((1, 4, 4, 3), np.uint8), np.array([7]))},
            ValueError,
            r"arrays test\[0\]: label 7",
        ),
    ],
)
def test_wrong_arrays_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        wrong(**changes)
