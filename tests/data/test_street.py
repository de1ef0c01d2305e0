"""Rendered street scenes: pure, the same at every size, annotated where things really are."""

from __future__ import annotations

import hashlib
import io
import warnings

import numpy as np
import PIL
import pytest
from PIL import Image

from alexnet_jax.data.sources.base import Split
from alexnet_jax.data.street import CLASSES, VERSION, render, source
from alexnet_jax.data.street.render import MAX_OBJECTS, MAX_PEOPLE
from alexnet_jax.data.street.sheet import contact_sheet
from alexnet_jax.data.street.source import split_seed

CONFIGS = tuple(CLASSES)

# Recorded with Pillow 13.0.0 for the version named here.
DIGESTS = {
    "version": "1.1.0",
    "a": "c82c695d36eb67231a3235a41ea12e76ceefd4fd5a1b2ae483464e48162c9053",
    "b": "af6b2249fda547dbdfd09650235a458af77d0de3c634c564dcdce0b08902fa5d",
    "scenes": "64d182f4e4feea3c0db4be77711867821a0df62a7c3d3dd16323d4d346dc9370",
    "people": "20d34f24172734294bed6a780addab71fae5caaa7a583167ebdfa79b35fd2597",
}


def examples(config: str, count: int, size: int = 64) -> list[dict]:
    return [render(config, 0, index, size) for index in range(count)]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_example_is_a_function_of_seed_and_index(config):
    first = render(config, 3, 5)
    np.random.seed(0)  # no global state is read ...
    before = np.random.get_state()[1].copy()
    assert same(first, render(config, 3, 5))
    assert np.array_equal(before, np.random.get_state()[1])  # ... and none is written
    assert not np.array_equal(first["image"], render(config, 3, 6)["image"])
    assert not np.array_equal(first["image"], render(config, 4, 5)["image"])


@pytest.mark.parametrize("config", CONFIGS)
def test_shapes_and_types(config):
    number, people = MAX_OBJECTS[config], MAX_PEOPLE[config]
    for example in examples(config, 12, 48):
        kinds = {key: (np.asarray(v).shape, np.asarray(v).dtype) for key, v in example.items()}
        assert kinds == {
            "image": ((48, 48, 3), np.uint8),
            "label": ((), np.int64),
            "boxes": ((number, 4), np.float32),
            "box_label": ((number,), np.int32),
            "box_ignore": ((number,), np.bool_),
            "segmentation": ((48, 48), np.uint8),
            "joints": ((people, 14, 2), np.float32),
            "joint_visible": ((people, 14), np.bool_),
        }


@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_scene_at_every_size(config):
    for small, large in zip(examples(config, 24), examples(config, 24, 128), strict=True):
        halved = large["image"].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        # What is left is sensor noise (at most 9 grey levels, drawn anew) and antialiasing.
        assert np.abs(halved - small["image"]).mean() < 12
        assert np.array_equal(small["box_label"], large["box_label"])
        drift = np.abs(2 * small["boxes"] - large["boxes"])
        assert drift.mean() < 0.7 and drift.max() <= 6
        assert np.abs(2 * small["joints"] - large["joints"]).max() < 1e-3
        thinned = large["segmentation"][::2, ::2]
        assert np.mean(thinned == small["segmentation"]) > 0.9


@pytest.mark.parametrize("config", ["a", "b"])
def test_the_box_of_the_main_object_bounds_its_mask(config):
    errors = []
    for example in examples(config, 60):
        rows, columns = np.nonzero(example["segmentation"] == 1 + example["label"])
        assert len(rows) > 20, "the main object is to be seen"
        bounds = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        errors.append(np.abs(example["boxes"][0] - bounds).max())
        assert set(np.unique(example["segmentation"])) <= {0, 1 + example["label"]}
        assert example["box_label"].tolist() == [example["label"]]
    # Thin parts, such as what shows beside a rail, may lie between the pixel centres of the mask.
    assert np.quantile(errors, 0.9) <= 1 and max(errors) <= 4


def test_boxes_of_scenes_cover_the_mask_and_stay_inside():
    counts = []
    for example in examples("scenes", 60):
        shown = example["box_label"] >= 0
        counts.append(int(shown.sum()))
        boxes = example["boxes"][shown]
        assert (boxes >= 0).all() and (boxes <= 64).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert not example["boxes"][~shown].any()
        for kind in np.unique(example["segmentation"])[1:]:
            rows, columns = np.nonzero(example["segmentation"] == kind)
            inside = np.zeros(len(rows), bool)
            for y0, x0, y1, x1 in boxes[example["box_label"][shown] == kind - 1]:
                inside |= (rows + 1 > y0) & (rows < y1) & (columns + 1 > x0) & (columns < x1)
            assert inside.all(), f"a pixel of {CLASSES['scenes'][kind - 1]} outside all its boxes"
    assert set(counts) >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("config", ["b", "scenes", "people"])
def test_joints_lie_on_the_people(config):
    persons = [CLASSES[config].index(kind) for kind in ("man", "woman")]
    seen = []
    for example in examples(config, 60):
        boxes = example["boxes"][np.isin(example["box_label"], persons)]
        assert not example["joints"][len(boxes) :].any()
        assert not example["joint_visible"][len(boxes) :].any()
        for box, joints, visible in zip(
            boxes, example["joints"], example["joint_visible"], strict=False
        ):
            seen.append(visible.mean())
            inside = (joints[visible] > box[:2] - 2) & (joints[visible] < box[2:] + 2)
            assert inside.all()
            assert ((joints[visible] >= 0) & (joints[visible] <= 64)).all()
            for y, x in joints[visible].astype(int):
                near = example["segmentation"][max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                assert np.isin(near - 1, persons).any()
            # People stand on their feet here.
            assert joints[13, 0] < joints[12, 0] < joints[[2, 3], 0].min()
            assert joints[[2, 3], 0].max() < joints[[0, 5], 0].max()
    assert 0.85 < np.mean(seen) < 1.0


def test_left_and_right_are_the_persons_own():
    """Whoever looks at us has the right shoulder on the left of the picture, and shows a face."""
    spans = []
    for example in (render("b", 0, index, 96) for index in range(2, 160, 4)):  # men
        joints = example["joints"][0]
        spans.append(joints[9, 1] - joints[8, 1])
        hips = joints[3, 1] - joints[2, 1]
        if abs(spans[-1]) > 6:
            assert np.sign(hips) == np.sign(spans[-1])
    assert min(spans) < -6 and max(spans) > 6  # seen from behind and from before


@pytest.mark.parametrize("config", CONFIGS)
def test_classes_are_balanced_and_splits_disjoint(config):
    counts = {"train": 12, "validation": 12, "test": 12}
    data = source(config, size=32, counts=counts)
    number = len(CLASSES[config])
    pictures = set()
    for split, n in counts.items():
        assert isinstance(data.splits[split], Split) and len(data.splits[split]) == n
        labels = [data.splits[split][i]["label"] for i in range(n)]
        assert np.bincount(labels, minlength=number).tolist() == [n // number] * number
        pictures |= {data.splits[split][i]["image"].tobytes() for i in range(n)}
    assert len(pictures) == 36
    assert data.classes == CLASSES[config] and data.version == VERSION
    assert len(data.joints) == (14 if config in ("b", "people") else 0)  # of one person
    assert data.splits["test"].name(7) == f"street/{config} test[7]"


def test_no_two_splits_of_any_seed_share_a_seed():
    seeds = [split_seed(s, name) for s in range(50) for name in ("train", "validation", "test")]
    assert len(set(seeds)) == len(seeds)


def test_without_a_place_for_the_cache_it_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"nothing is kept for the next time: .*file"):
        made = source("b", 32, counts={"test": 2}, cache_dir=tmp_path / "file")
    assert len(made.splits["test"]) == 2


def test_the_cache_returns_the_same_and_a_damaged_one_is_rendered_anew(tmp_path):
    options = {"config": "b", "size": 32, "counts": {"train": 8, "test": 4}, "cache_dir": tmp_path}
    first = source(**options)
    (path,) = tmp_path.iterdir()
    stamp = path.stat().st_mtime_ns
    again = source(**options)
    assert path.stat().st_mtime_ns == stamp, "read, not written"
    assert all(same(first.splits["test"][i], again.splits["test"][i]) for i in range(4))
    assert first.fingerprint == again.fingerprint
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    for damaged in (content[:middle], b"", b"not a zip file at all", flipped):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"cannot be read .* rendering anew"):
            assert source(**options).fingerprint == first.fingerprint
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert source(**options).fingerprint == first.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "no temporary file stays behind"


def test_the_fingerprint_tells_contents_apart():
    def fingerprint(**changes):
        return source(**{"size": 32, "counts": {"train": 2}, **changes}).fingerprint

    kinds = [{}, {"seed": 1}, {"size": 48}, {"counts": {"train": 3}}, {"config": "b"}]
    assert len({fingerprint(**changes) for changes in kinds}) == len(kinds)
    assert fingerprint() == fingerprint()


def test_examples_in_memory_cannot_be_written():
    example = source(size=32, counts={"train": 1}).splits["train"][0]
    with pytest.raises(ValueError, match="read-only"):
        example["image"][0] = 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render("c", 0, 0), "no configuration 'c': choose one of a, b, scenes"),
        (lambda: render("a", -1, 0), "got seed=-1"),
        (lambda: render("a", 0, 0, size=8), "16 or more; got 8"),
        (lambda: source("cars"), "no configuration 'cars'"),
        (lambda: source(counts={"dev": 3}), "no split 'dev': choose from train, validation, test"),
        (lambda: source(counts={"train": 0}), "1 or more; got 0"),
    ],
)
def test_errors_say_what_was_given_and_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("config", CONFIGS)
def test_pixels_and_annotations_belong_to_the_version(config):
    if PIL.__version__.split(".")[0] != "13":
        pytest.skip(f"the digest was recorded with Pillow 13, this is {PIL.__version__}")
    digest = hashlib.sha256()
    for example in examples(config, 12):
        for key in sorted(example):
            digest.update(np.ascontiguousarray(example[key]).tobytes())
    assert DIGESTS["version"] == VERSION and digest.hexdigest() == DIGESTS[config], (
        "pixels changed: raise VERSION in render.py and record the new digests here "
        f"({VERSION}, {config}: {digest.hexdigest()})"
    )


def test_no_statistic_of_size_or_colour_gives_cars_and_buses_away():
    """One threshold on any of these, chosen with hindsight, stays well below a person's eye."""
    rows, labels = [], []
    for example in examples("a", 400):
        y0, x0, y1, x1 = example["boxes"][0]
        mask = example["segmentation"] > 0
        colour = example["image"][mask].mean(axis=0)
        rows.append([y1 - y0, x1 - x0, (x1 - x0) / (y1 - y0), mask.mean(), y1, *colour])
        labels.append(example["label"])
    truth = np.array(labels)
    for values in np.array(rows).T:
        hits = [np.mean((values > cut) == truth) for cut in np.quantile(values, np.linspace(0, 1))]
        assert max(*hits, 1 - min(hits)) < 0.7


def test_the_tfds_builder_writes_and_reads_without_tensorflow(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    from alexnet_jax.data.street.builder import Street, StreetConfig

    assert [c.name for c in Street.BUILDER_CONFIGS] == list(CONFIGS)
    config = StreetConfig(name="tiny", kind="scenes", size=48, counts={"train": 6, "test": 2})
    builder = Street(config=config, data_dir=tmp_path)
    builder.download_and_prepare(file_format="array_record")
    assert str(builder.version) == VERSION
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_data_source("train", decoders=decoders)
    assert len(examples) == 6 and len(builder.as_data_source("test")) == 2
    assert builder.info.features["label"].names == list(CLASSES["scenes"])
    for index in range(6):
        read, made = examples[index], render("scenes", split_seed(0, "train"), index, 48)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(read["image"]))), made["image"])
        assert np.array_equal(read["segmentation"][..., 0], made["segmentation"])
        assert read["label"] == made["label"]
        shown = made["box_label"] >= 0
        boxes = np.stack(read["objects"]["bbox"]) * 48
        np.testing.assert_allclose(boxes, made["boxes"][shown], atol=1e-4)
        assert list(read["objects"]["label"]) == made["box_label"][shown].tolist()
        assert list(read["objects"]["ignore"]) == made["box_ignore"][shown].tolist()
        for row, (joints, visible) in enumerate(
            zip(read["people"]["joints"], read["people"]["visible"], strict=True)
        ):
            assert np.array_equal(joints, made["joints"][row])
            assert np.array_equal(visible, made["joint_visible"][row])
        assert len(read["people"]["joints"]) == np.isin(made["box_label"], (4, 5)).sum()


def test_contact_sheet():
    sheet = contact_sheet("a", 0, rows=2, columns=3, size=32)
    assert sheet.shape == (2 * 36 + 4, 3 * 36 + 4, 3)
    assert np.array_equal(sheet[40:72, 76:108], render("a", 0, 5, 32)["image"])
    marked = contact_sheet("scenes", 0, rows=1, columns=2, size=64, annotations=True)
    assert not np.array_equal(marked, contact_sheet("scenes", 0, rows=1, columns=2, size=64))
