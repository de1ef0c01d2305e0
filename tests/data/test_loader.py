from __future__ import annotations

import io
import itertools
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.decode import BadImage, canvas
from alexnet_jax.data.loader import Crop, Reader, evaluation_batches, training_batches
from alexnet_jax.data.stream import indices

SIZE = 12


class Pictures:
    """Coloured PNGs of changing shape, some of them broken; label = index % 5."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), missing: tuple[int, ...] = ()):
        self.missing, self.broken = missing, broken
        rng = np.random.default_rng(count)
        shapes = [(SIZE + index % 4, SIZE + index % 3, 3) for index in range(count)]
        self.pixels = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self.missing:
            raise FileNotFoundError("gone")
        out = io.BytesIO()
        Image.fromarray(self.pixels[index]).save(out, "PNG")
        data = out.getvalue()
        return {"image": data[:60] if index in self.broken else data, "label": index % 5}

    def name(self, index: int) -> str:
        return f"ä folder/{index}.png"


def reader(split: Pictures, **options) -> Reader:
    return Reader(split, canvas=SIZE, **options)


def training(reader: Reader, count: int, position: int = 0, batch_size: int = 4, **options):
    batches = training_batches(reader, seed=3, position=position, batch_size=batch_size, **options)
    return list(itertools.islice(batches, count))


def joined(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a
    )


WAYS = {
    "memory": {},
    "streamed, 1 worker": {"memory": 0, "workers": 1},
    "streamed, 2 workers": {"memory": 0, "workers": 2},
    "streamed, 5 workers": {"memory": 0, "workers": 5},
}


@pytest.mark.parametrize("way", WAYS)
def test_training_batches_hold_the_examples_of_the_stream(way):
    split = Pictures(11)
    source = reader(split, **WAYS[way])
    assert source.in_memory == (way == "memory")
    batches = training(source, 8, position=9)
    got, expected = joined(batches), indices(3, 9, 32, 11)
    assert got["index"].tolist() == expected.tolist()
    assert got["label"].tolist() == [index % 5 for index in expected] and got["valid"].all()
    assert np.array_equal(got["image"], [canvas(split.pixels[i], SIZE) for i in expected])
    kinds = {key: (values.dtype.name, values.shape) for key, values in batches[0].items()}
    assert kinds == {
        "image": ("uint8", (4, SIZE, SIZE, 3)),
        "label": ("int32", (4,)),
        "valid": ("bool", (4,)),
        "index": ("int32", (4,)),
    }


@pytest.mark.parametrize("options", [{}, {"memory": 0}, {"crop": Crop()}], ids=str)
def test_any_position_and_batch_size_cut_the_same_stream(options):
    source = reader(Pictures(11), **options)
    whole = joined(training(source, 10))
    later = joined(training(source, 3, position=13, batch_size=6))
    assert equal(later, {key: values[13:31] for key, values in whole.items()})


def test_crops_depend_on_seed_and_position_alone():
    split = Pictures(6)
    runs = [training(reader(split, crop=Crop(), workers=workers), 6) for workers in (1, 2, 5)]
    assert all(equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
    drawn = joined(runs[0])
    same = drawn["image"][drawn["index"] == 0]  # once an epoch, four epochs
    assert len(np.unique(same, axis=0)) == len(same) == 4


@pytest.mark.parametrize("options", [{}, {"memory": 0}, {"crop": Crop()}], ids=str)
def test_processes_share_each_global_batch_in_order(options):
    source = reader(Pictures(11), **options)
    whole = training(source, 4, batch_size=6)
    shares = [training(source, 4, batch_size=6, shard=(process, 3)) for process in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert equal(joined(parts), batch)


@pytest.mark.parametrize("options", [{}, {"memory": 0}], ids=str)
def test_a_bad_image_is_skipped_and_listed_and_changes_nothing_else(options):
    whole = joined(training(reader(Pictures(11), **options), 11))
    source = reader(Pictures(11, broken=(2, 7)), **options)
    got = joined(training(source, 11))
    bad = np.isin(whole["index"], (2, 7))
    assert (got["valid"] == ~bad).all()
    assert not got["image"][bad].any() and (got["image"][~bad] == whole["image"][~bad]).all()
    assert (got["index"] == whole["index"]).all()
    assert source.bad.keys() == {"ä folder/2.png", "ä folder/7.png"}
    assert all(reason and "folder" not in reason for reason in source.bad.values())


def test_bad_images_are_known_at_once_in_memory_and_at_hand_over_otherwise():
    split = Pictures(11, broken=(2,))
    assert reader(split).bad.keys() == {"ä folder/2.png"}
    streamed = reader(split, memory=0)
    place = indices(3, 0, 11, 11).tolist().index(2)
    batches = training_batches(streamed, seed=3, position=0, batch_size=1)
    for drawn in range(1, 12):
        next(batches)
        assert len(streamed.bad) == (drawn > place)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 8, 11])
def test_evaluation_counts_every_example_once(way, count):
    split = Pictures(count)
    batches = list(evaluation_batches(reader(split, **WAYS[way]), batch_size=4))
    got = joined(batches)
    assert {batch["image"].shape for batch in batches} == {(4, SIZE, SIZE, 3)}
    assert len(got["valid"]) == -(-count // 4) * 4
    assert got["index"][got["valid"]].tolist() == list(range(count))
    assert got["label"][got["valid"]].tolist() == [index % 5 for index in range(count)]
    assert np.array_equal(got["image"][:count], [canvas(p, SIZE) for p in split.pixels])
    assert not got["image"][count:].any() and (got["index"][count:] == -1).all()


def test_evaluation_does_not_crop_and_is_shared_by_processes():
    split = Pictures(10)
    whole = list(evaluation_batches(reader(split, crop=Crop()), batch_size=4))
    assert all(map(equal, whole, evaluation_batches(reader(split), batch_size=4)))
    shares = [evaluation_batches(reader(split), batch_size=4, shard=(p, 2)) for p in (0, 1)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert equal(joined(parts), batch)


@pytest.mark.parametrize("options", [{}, {"memory": 0}], ids=str)
def test_evaluation_refuses_a_bad_image_by_name(options):
    source = reader(Pictures(11, broken=(9,)), **options)
    with pytest.raises(BadImage, match=r"ä folder/9\.png: .+every example"):
        list(evaluation_batches(source, batch_size=4))


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("decode")]


def test_a_failure_comes_at_its_own_batch_by_name_and_ends_the_threads():
    order = indices(3, 0, 24, 24)
    batches = training_batches(
        reader(Pictures(24, missing=(order[13],)), memory=0), seed=3, position=0, batch_size=4
    )
    for number in range(3):
        assert next(batches)["index"].tolist() == order[4 * number : 4 * number + 4].tolist()
    with pytest.raises(RuntimeError, match=rf"ä folder/{order[13]}\.png: FileNotFoundError: gone"):
        next(batches)
    assert not decoding_threads()


def test_closing_ends_the_threads():
    batches = training_batches(reader(Pictures(8), memory=0), seed=0, position=0, batch_size=4)
    next(batches)
    assert decoding_threads()
    batches.close()
    assert not decoding_threads()
    evaluation = evaluation_batches(reader(Pictures(40), memory=0), batch_size=4)
    next(evaluation)
    evaluation.close()
    assert not decoding_threads()


@pytest.mark.parametrize("options", [{}, {"memory": 0}], ids=str)
def test_a_batch_belongs_to_whom_it_was_handed(options):
    source = reader(Pictures(5), **options)
    first, second = training(source, 2)
    kept = {key: values.copy() for key, values in second.items()}
    for values in first.values():
        values[:] = 0
    assert equal(second, kept)
    assert equal(kept, training(source, 2)[1]) and training(source, 1)[0]["image"].any()


def test_arrays_are_read_without_decoding():
    class Arrays(Pictures):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"image": self.pixels[index], "label": index % 5}

    assert all(map(equal, training(reader(Arrays(7)), 3), training(reader(Pictures(7)), 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: training(r, 1, batch_size=5, shard=(0, 2)), "a batch of 5 .* 2 processes"),
        (lambda r: training(r, 1, batch_size=4, shard=(2, 2)), r"shard \(2, 2\)"),
        (lambda r: training(r, 1, position=-4), "position -4"),
        (lambda r: evaluation_batches(r, batch_size=0), "a batch of 0"),
        (lambda r: Reader(Pictures(0), canvas=8), "0 examples"),
        (lambda r: Reader(Pictures(1), canvas=8, workers=0), "workers 0"),
    ],
)
def test_impossible_requests_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(reader(Pictures(3)))
