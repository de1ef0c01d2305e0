"""Targets, losses, boxes and average precision against NumPy, closed forms and pycocotools."""

from __future__ import annotations

import contextlib
import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alexnet_jax.models.detector import Detector, Extent, Maps
from alexnet_jax.models.fcn import Places
from alexnet_jax.models.spec import Conv, Spec, spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks import centers
from alexnet_jax.tasks.base import Context
from alexnet_jax.tasks.detection import detection
from alexnet_jax.tasks.nms import suppress
from alexnet_jax.tasks.palette import outline, palette
from alexnet_jax.train import parallel
from alexnet_jax.train.evaluate import sums_from_json, sums_to_json
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import train_step

CLASSES, SIZE = 3, 32
SPEC = Spec(
    name="tiny",
    image_size=SIZE,
    convs=(
        Conv(8, 3, padding=(1, 1), then=("activation", "pool")),
        Conv(8, 3, padding=(1, 1), then=("activation", "pool")),
        Conv(8, 3, padding=(1, 1)),
    ),
    dense=(),
    num_classes=CLASSES,
    dropout=(),
)
TASK = detection(Detector(SPEC, exact=True, features=16))
RNG = np.random.default_rng(0)
BOXES = np.zeros((8, 5, 4), np.float32)
LABEL = np.full((8, 5), -1, np.int32)
IGNORE = np.zeros((8, 5), bool)
for i, count in enumerate([2, 3, 0, 4, 1, 0, 2, 3]):
    corner = RNG.uniform(0, 20, (count, 2))
    BOXES[i, :count] = np.concatenate([corner, corner + RNG.uniform(4, 12, (count, 2))], 1)
    LABEL[i, :count] = RNG.integers(0, CLASSES, count)
IGNORE[3, 0] = IGNORE[7, 2] = True
VALID = np.array([1, 1, 1, 0, 1, 1, 0, 1], bool)
BATCH = {
    "image": RNG.normal(size=(8, SIZE, SIZE, 3)).astype(np.float32),
    "boxes": BOXES,
    "box_label": LABEL,
    "box_ignore": IGNORE,
    "valid": VALID,
}


@pytest.fixture(scope="module")
def state():
    tx = optimizer("adam", learning_rate=1e-3)
    return init_state(seed=0, task=TASK, tx=tx, image_shape=(SIZE, SIZE, 3))


def test_a_box_becomes_its_centre_offset_and_size():
    """By hand: the middle (13, 21) is that of pixel 12.5, 20.5; elements lie at 3 + 4 i."""
    boxes = np.zeros((1, 2, 4), np.float32)
    boxes[0, 0] = 9, 15, 17, 27
    label, present = np.array([[1, -1]]), np.array([[True, False]])
    found = centers.targets(boxes, label, present, ~present, Places(3.0, 4), (8, 8, 2))
    assert found.cell[0, 0].tolist() == [2, 4]
    np.testing.assert_allclose(found.offset[0, 0], [9.5 / 4 - 2, 17.5 / 4 - 4])
    np.testing.assert_allclose(found.size[0, 0], [2, 3])
    rows, columns = np.mgrid[:8, :8]
    down, across = 0.54 / 6 * 2, 0.54 / 6 * 3
    expected = np.exp(-((rows - 2) ** 2) / (2 * down**2) - (columns - 4) ** 2 / (2 * across**2))
    np.testing.assert_allclose(found.heat[0, :, :, 1], expected, atol=1e-6)
    assert np.all(found.heat[0, :, :, 0] == 0) and np.all(found.counted)


def test_inside_an_ignored_box_its_class_does_not_count():
    boxes = np.array([[[0, 0, 16, 16], [4, 4, 8, 8]]], np.float32)
    ignored, present = np.array([[True, False]]), np.array([[False, True]])
    label = np.array([[0, 0]])
    found = centers.targets(boxes, label, present, ignored, Places(1.5, 4), (8, 8, 2))
    expected = np.ones((8, 8, 2), bool)
    expected[:4, :4, 0] = False  # elements 0 to 3 look at 2, 6, 10 and 14
    expected[1, 1, 0] = True  # the centre of one that is to be found
    np.testing.assert_array_equal(found.counted[0], expected)


def loss_by_hand(maps):
    """(sum, weight) of each term, element by element and box by box, as the paper has it."""
    at, (_, height, width, classes) = TASK.at, maps.heat.shape
    sums, objects, images = {"heat": 0.0, "size": 0.0, "offset": 0.0}, 0, 0
    for b in np.flatnonzero(VALID):
        heat, counted = np.zeros((height, width, classes)), np.ones((height, width, classes), bool)
        chosen = [n for n in range(5) if LABEL[b, n] >= 0]
        for n in chosen:
            y0, x0, y1, x1 = BOXES[b, n].astype(np.float64)
            if IGNORE[b, n]:
                for i, j in np.ndindex(height, width):
                    y, x = at.first + at.step * np.array([i, j]) + 0.5
                    counted[i, j, LABEL[b, n]] &= not (y0 <= y < y1 and x0 <= x < x1)
                continue
            exact = (np.array([y0 + y1, x0 + x1]) / 2 - 0.5 - at.first) / at.step
            cell = np.clip(np.round(exact), 0, [height - 1, width - 1]).astype(int)
            size = np.array([y1 - y0, x1 - x0]) / at.step
            for i, j in np.ndindex(height, width):
                far = (np.array([i, j]) - cell) / (0.09 * size)
                value = np.exp(-0.5 * (far**2).sum())
                heat[i, j, LABEL[b, n]] = max(heat[i, j, LABEL[b, n]], value)
            sums["size"] += 0.1 * np.abs(np.asarray(maps.size)[(b, *cell)] - size).sum()
            sums["offset"] += np.abs(np.asarray(maps.offset)[(b, *cell)] - (exact - cell)).sum()
        real = [n for n in chosen if not IGNORE[b, n]]
        objects, images = objects + len(real), images + max(len(real), 1)
        p = 1 / (1 + np.exp(-np.asarray(maps.heat[b], np.float64)))
        each = np.where(
            heat == 1, -((1 - p) ** 2) * np.log(p), -((1 - heat) ** 4) * p**2 * np.log(1 - p)
        )
        sums["heat"] += each[counted | (heat == 1)].sum()
    return sums, {"heat": images, "size": objects, "offset": objects}


def random_maps(scale=1.0):
    shape = jax.eval_shape(
        lambda: TASK.net.init_with_output(jax.random.key(0), jnp.zeros((8, SIZE, SIZE, 3)))[0]
    )
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, scale, x.shape).astype(np.float32), shape)


class Fixed:
    """A network that gives these maps."""

    def __init__(self, maps):
        self.maps, self.spec = maps, SPEC

    def apply(self, *_, **__):
        return self.maps, {}


def test_losses_are_the_papers_of_what_counts():
    maps = random_maps()
    terms, _, _ = detection(Fixed(maps)).losses({}, {}, BATCH, Context())
    sums, weights = loss_by_hand(maps)
    for name, (total, weight) in terms.items():
        assert weight == weights[name] == TASK.weights(BATCH)[name]
        assert float(total) == pytest.approx(sums[name], rel=1e-4), name
    metrics = TASK.metrics(sums_from_json(sums_to_json(jax.device_get(terms))))
    assert metrics["loss"] == pytest.approx(sum(sums[n] / weights[n] for n in sums), rel=1e-4)
    assert TASK.counts(terms) == {"objects": weights["size"]}


def test_padding_and_rows_that_do_not_count_change_nothing(state):
    boxes, label = BOXES.copy(), LABEL.copy()
    boxes[LABEL < 0], label[~VALID] = 7.0, 2  # without area, in rows that count
    label[LABEL < 0] = 1
    image = np.where(VALID[:, None, None, None], BATCH["image"], np.nan)
    other = {**BATCH, "image": image, "boxes": boxes, "box_label": label}

    @jax.jit
    def losses(batch):
        return TASK.losses(state.params, {}, batch, Context())[0]

    jax.tree.map(np.testing.assert_array_equal, losses(other), losses(BATCH))


def test_a_batch_without_objects_teaches_that_nothing_is_there(state):
    empty = {**BATCH, "box_label": np.full_like(LABEL, -1)}
    tx = optimizer("adam", learning_rate=1e-2)
    state = init_state(seed=0, task=TASK, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = jax.jit(partial(train_step, task=TASK, tx=tx))
    first = None
    for _ in range(4):
        state, measured = step(state, empty)
        first = measured["objective"] if first is None else first
    assert np.isfinite(measured["objective"]) and measured["objective"] < 0.8 * first
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert (
        TASK.metrics(jax.device_get({k: measured[k] for k in ("heat", "size", "offset")}))["size"]
        == 0
    )


def test_what_the_maps_should_say_is_decoded_as_the_boxes():
    at, height = TASK.at, 15
    boxes = np.array([[[2, 3, 9, 11], [12, 16, 30, 28], [0, 20, 6, 32]]], np.float32)
    label = np.array([[0, 2, 0]])
    present = np.ones((1, 3), bool)
    wanted = centers.targets(boxes, label, present, ~present, at, (height, height, CLASSES))
    size, offset = np.zeros((2, 1, height, height, 2), np.float32)
    for n, (y, x) in enumerate(np.asarray(wanted.cell[0])):
        size[0, y, x], offset[0, y, x] = wanted.size[0, n], wanted.offset[0, n]
    heat = np.asarray(wanted.heat) * np.array([0.9, 0.9, 0.8], np.float32)
    maps = Maps(np.log((heat + 1e-6) / (1 - heat)), size, offset, Extent(SIZE, SIZE))
    found = jax.device_get(jax.jit(TASK.decode)(maps))
    assert found["boxes"].shape == (1, 100, 4) and found["box_label"].dtype == np.int32
    best = found["score"][0] > 0.5
    order = np.lexsort(found["boxes"][0][best].T[::-1])
    np.testing.assert_allclose(found["boxes"][0][best][order], boxes[0][[2, 0, 1]], atol=1e-3)
    assert found["box_label"][0][best][order].tolist() == [0, 0, 2]
    assert np.all((found["score"] == 0) == (found["box_label"] < 0))
    assert found["boxes"].min() >= 0 and found["boxes"].max() <= SIZE


def test_suppression_is_greedy_within_a_class():
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 30, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 25, (60, 2))], 1).astype(np.float32)
    label = rng.integers(0, 2, 60)

    def overlap(a, b):
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        both = np.prod(np.maximum(high - low, 0))
        return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)

    kept: list[int] = []
    for i in range(60):
        if all(label[i] != label[j] or overlap(boxes[i], boxes[j]) <= 0.4 for j in kept):
            kept.append(i)
    found = np.flatnonzero(jax.jit(partial(suppress, threshold=0.4))(boxes, label))
    assert found.tolist() == kept and 10 < len(kept) < 50


def test_one_device_or_many_take_the_same_step():
    """The per-device form, whose shards hold unequal numbers of objects, some none."""
    tx = optimizer("sgd", learning_rate=0.01, momentum=0.9)
    a = b = init_state(seed=0, task=TASK, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = partial(train_step, task=TASK, tx=tx)
    many, one = parallel.vmap_step(step, 8), jax.jit(step)
    for _ in range(2):
        a, expected = one(a, BATCH)
        b, found = many(b, BATCH)
    assert found["size"][1] == expected["size"][1]
    for x, y in zip(jax.tree.leaves(b.params), jax.tree.leaves(a.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


# Average precision


def answers(images):
    """Of [(true [(box, label, ignored)], said [(box, label, score)])], padded."""
    found = {
        name: np.zeros((len(images), 9, *shape), kind)
        for name, shape, kind in (
            ("true_boxes", (4,), np.float32), ("true", (), np.int32), ("true_ignore", (), bool),
            ("boxes", (4,), np.float32), ("box_label", (), np.int32), ("score", (), np.float32),
        )
    }  # fmt: skip
    found["true"][:], found["box_label"][:] = -1, -1
    for i, rows in enumerate(images):
        for names, row in zip(
            (("true_boxes", "true", "true_ignore"), ("boxes", "box_label", "score")),
            rows,
            strict=True,
        ):
            for n, values in enumerate(row):
                for name, value in zip(names, values, strict=True):
                    found[name][i, n] = value
    return {**found, "index": np.arange(len(images)) + 50}


A, B, C = (0, 0, 10, 10), (20, 20, 30, 40), (40, 0, 60, 10)


def test_average_precision_of_cases_that_can_be_counted():
    """COCO's precision is read at 101 points of recall, 0 to 1."""
    names = ("cat", "dog")
    perfect = [([(A, 0, 0), (B, 1, 0)], [(A, 0, 0.9), (B, 1, 0.8)]), ([], [])]
    assert TASK.score(answers(perfect), names) == pytest.approx({"ap50": 1.0, "ap": 1.0})
    half = [([(A, 0, 0), (B, 0, 0)], [(A, 0, 0.9)])]  # all right up to recall 0.5: 51 points
    assert TASK.score(answers(half), names)["ap50"] == pytest.approx(51 / 101)
    # In an image without objects a box that is surer than the right one: precision 1 / 2.
    alarm = [([(A, 0, 0)], [(A, 0, 0.5)]), ([], [(B, 0, 0.9)])]
    assert TASK.score(answers(alarm), names)["ap50"] == pytest.approx(0.5)
    # Height 10 of 12: IoU 0.83, right at 0.5 to 0.8, which are seven of ten.
    loose = [([(A, 0, 0)], [((0, 0, 12, 10), 0, 0.5)])]
    assert TASK.score(answers(loose), names) == pytest.approx({"ap50": 1.0, "ap": 0.7})
    # B is neither right nor wrong.
    ignored = [([(A, 0, 0), (B, 0, 1)], [(B, 0, 0.9), (A, 0, 0.8)])]
    assert TASK.score(answers(ignored), names)["ap50"] == pytest.approx(1)
    for nothing in ([([], [(A, 0, 0.9)])], [([], [])]):
        assert all(np.isnan(x) for x in TASK.score(answers(nothing), names).values())
    missed = [([(A, 0, 0)], []), ([], [])]
    assert TASK.score(answers(missed), names) == {"ap50": 0.0, "ap": 0.0}


def test_it_is_what_pycocotools_says_of_files(tmp_path):
    """Its own reading of annotations and results, and its own summary, on random answers."""
    rng = np.random.default_rng(3)
    images, truth, results = [], [], []
    for image in range(12):
        true, said = [], []
        for _ in range(rng.integers(0, 5)):
            corner = rng.uniform(0, 40, 2)
            box = np.concatenate([corner, corner + rng.uniform(5, 20, 2)]).astype(np.float32)
            true.append((box, int(rng.integers(2)), bool(rng.random() < 0.15)))
            if rng.random() < 0.8:
                moved = (box + rng.normal(0, 1.0, 4)).astype(np.float32)
                said.append((moved, true[-1][1], float(np.float32(rng.uniform(0.1, 1)))))
        if rng.random() < 0.5:
            said.append((np.float32([1, 1, 9, 9]), int(rng.integers(2)), 0.5))
        images.append((true, said))
        for (y0, x0, y1, x1), label, ignored in np.array(true, object).reshape(-1, 3):
            box = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
            truth.append({
                "id": len(truth) + 1, "image_id": image + 1, "category_id": label + 1, "bbox": box,
                "area": box[2] * box[3], "iscrowd": int(ignored),
            })  # fmt: skip
        told = TASK.tell({k: v[0] for k, v in answers([(true, said)]).items()}, ("a", "b"), 5)
        results += [{"image_id": image + 1, **one} for one in told]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": i + 1} for i in range(12)],
            "categories": [{"id": 1}, {"id": 2}],
            "annotations": truth,
            "info": {},
        }
        known.createIndex()
        judge = COCOeval(known, known.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    found = TASK.score(answers(images), ("a", "b"))
    assert 0.1 < found["ap"] < found["ap50"] < 1
    # `tell` rounds boxes to a hundredth of a pixel.
    assert [found["ap"], found["ap50"]] == pytest.approx(judge.stats[:2], abs=2e-3)


def test_findings_count_what_is_shown_and_rank_the_pictures():
    found = TASK.findings(
        answers([
            ([(A, 0, 0), (B, 1, 0)], [(A, 0, 0.9), (B, 1, 0.8)]),
            ([(A, 0, 0), (C, 0, 0)], [(A, 0, 0.9), (B, 0, 0.4), (C, 0, 0.1)]),
            ([], []),
            ([], [(A, 1, 0.7)]),
        ]),
        ("cat", "dog", "cow"),
    )  # fmt: skip
    cat, dog, cow = found["per_class"].values()
    assert (cat["precision"], cat["recall"], cat["objects"]) == (2 / 3, 2 / 3, 3)
    assert (dog["precision"], dog["recall"], dog["ap50"]) == pytest.approx((0.5, 1.0, 1.0))
    assert cow == {"ap50": None, "ap": None, "precision": None, "recall": None, "objects": 0}
    # The two surest are right, up to recall 2/3; the third right one comes fourth.
    assert found["precision_at_recall"]["cat"] == [1.0] * 7 + [0.75] * 4
    assert found["precision_at_recall"]["cow"] is None
    assert [(e["index"], e["rank"], e["said"]) for e in found["examples"]] == [
        (50, "best", "2 of 2 found, 0 wrong"),
        (53, "worst", "0 of 0 found, 1 wrong"),
        (51, "worst", "1 of 2 found, 1 wrong"),
    ]


def test_an_answer_is_told_in_cocos_form_and_drawn():
    boxes = np.array([(2, 5, 12, 25), (0, 0, 4, 4), (0, 0, 9, 9), (8, 0, 8, 9)], np.float32)
    answer = {
        "boxes": boxes,
        "box_label": np.array([1, 0, -1, 0]),
        "score": np.array([0.75, 0.25, 0, 0.2], np.float32),
    }
    told = TASK.tell(answer, ("cat", "dog"), top=1)
    assert told == [
        {"class": "dog", "category_id": 2, "bbox": [5, 2, 20, 10], "score": 0.75},
        {"class": "cat", "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.25},
    ]
    image = np.full((30, 40, 3), 100, np.uint8)
    drawn = TASK.draw(image, answer)
    assert set(drawn) == {"answer"}  # and what is below 0.3 is not shown
    changed = (drawn["answer"] != 100).any(axis=2)
    inside = np.zeros((30, 40), bool)
    inside[2:12, 5:25] = True
    inside[5:9, 8:22] = False
    np.testing.assert_array_equal(changed, inside)
    assert drawn["answer"][3, 10].tolist() == palette()[1].tolist()
    true = {"true": np.array([0, -1, -1, -1]), "true_boxes": boxes}
    np.testing.assert_array_equal(
        TASK.draw(image, answer | true)["truth"], outline(image, boxes[:1], np.array([0]))
    )


def test_a_network_without_a_second_convolution_is_refused():
    with pytest.raises(ValueError, match="has no conv2, at whose places objects are found"):
        detection(Detector(Spec("one", 32, SPEC.convs[:1], dense=(), num_classes=2, dropout=())))
    assert "conv2" in spec("notes_224").tap_names()
