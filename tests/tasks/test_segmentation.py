"""Loss, confusion, mean IoU and answers against NumPy, PyTorch and counting by hand."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alexnet_jax.data.window import VOID
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks.base import Context
from alexnet_jax.tasks.palette import paint, palette
from alexnet_jax.tasks.segmentation import confusion, iou, segmentation
from alexnet_jax.train import parallel
from alexnet_jax.train.evaluate import evaluate, sums_from_json, sums_to_json
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, train_step

RNG = np.random.default_rng(0)
CLASSES, SIZE = 4, 24
SPEC = Spec(
    name="tiny",
    image_size=20,
    convs=(
        Conv(16, 3, padding=(1, 1), then=("activation", "pool")),
        Conv(16, 3, padding=(1, 1), then=("activation", "pool")),
    ),
    dense=(32,),
    num_classes=CLASSES,
    dropout=("fc3",),
)
TASK = segmentation(FCN(SPEC, exact=True, skips=("pool1",)))
IMAGES = RNG.normal(size=(8, SIZE, SIZE, 3)).astype(np.float32)
MASKS = RNG.integers(0, CLASSES, (8, SIZE, SIZE)).astype(np.uint8)
MASKS[RNG.random(MASKS.shape) < 0.3] = VOID
VALID = np.array([1, 1, 1, 0, 1, 1, 0, 1], bool)
BATCH = {"image": IMAGES, "segmentation": MASKS, "valid": VALID}


@pytest.fixture(scope="module")
def state():
    """Scores begin at zero; after some steps they differ from pixel to pixel."""
    tx = optimizer("sgd", learning_rate=0.5)
    state = init_state(seed=0, task=TASK, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = jax.jit(partial(train_step, task=TASK, tx=tx))
    for _ in range(3):
        state, _ = step(state, BATCH)
    return state


def logits_of(state):
    return np.asarray(TASK.net.apply({"params": state.params}, IMAGES))


def test_at_the_start_every_class_is_as_likely():
    @jax.jit
    def loss(key):
        params, model_state = TASK.init(key, (SIZE, SIZE, 3))
        return TASK.losses(params, model_state, BATCH, Context())[0]["loss"]

    total, weight = loss(jax.random.key(0))
    assert weight == (MASKS[VALID] != VOID).sum()
    assert total / weight == pytest.approx(np.log(CLASSES), rel=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "weights"), [(0.0, ()), (0.2, ()), (0.0, (0.5, 1.0, 2.0, 4.0))]
)
def test_loss_is_torchs_over_the_pixels_that_count(state, smoothing, weights):
    task = segmentation(TASK.net, smoothing, weights)
    terms, _, _ = task.losses(
        state.params,
        {},
        BATCH,
        Context(train=True, frozen=("fc3",)),  # without dropout
    )
    total, weight = terms["loss"]
    assert weight == task.weights(BATCH)["loss"]
    logits = torch.from_numpy(logits_of(state)[VALID]).permute(0, 3, 1, 2)
    said = {"weight": torch.tensor(weights) if weights else None, "label_smoothing": smoothing}
    for reduction, found in (("sum", total), ("mean", total / weight)):
        expected = torch.nn.functional.cross_entropy(
            logits,
            torch.from_numpy(MASKS[VALID].astype(np.int64)),
            ignore_index=VOID,
            reduction=reduction,
            **said,
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_jaccard_term_is_what_each_class_of_each_image_lacks_of_its_overlap(state):
    task = segmentation(TASK.net, jaccard=0.5)
    terms, _, _ = task.losses(state.params, {}, BATCH, Context(train=True, frozen=("fc3",)))
    logits = logits_of(state).astype(np.float64)
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    lost = []
    for i in np.flatnonzero(VALID):
        counted = MASKS[i] != VOID
        for k in np.unique(MASKS[i][counted]):
            wanted = (MASKS[i] == k)[counted]
            both = share[i][counted][wanted, k].sum()
            lost.append(1 - both / (share[i][counted][:, k].sum() + wanted.sum() - both))
    total, count = terms["jaccard"]
    assert count == task.weights(BATCH)["jaccard"] == len(lost)
    assert float(total) == pytest.approx(0.5 * np.sum(lost), rel=1e-5)
    assert "jaccard" not in TASK.weights(BATCH)


def test_the_jaccard_term_asks_for_no_class_that_an_image_lacks():
    """Nor is it ever not a number: of an image of void alone, it has no gradient."""
    task = segmentation(TASK.net, jaccard=1.0)
    masks = np.full_like(MASKS, 1)
    masks[:4] = VOID
    batch = {"image": IMAGES, "segmentation": masks}
    assert task.weights(batch)["jaccard"] == 4  # one class in each of four images

    def total(logits):
        return task.terms(logits, batch, True)["jaccard"][0]

    gradient = jax.grad(total)(jnp.zeros((*masks.shape, CLASSES)))
    assert np.all(gradient[:4] == 0) and np.all(gradient[4:, ..., 1] < 0)


def test_void_pixels_and_rows_that_do_not_count_change_nothing(state):
    other = {
        "image": np.where(VALID[:, None, None, None], IMAGES, np.nan),
        "segmentation": np.where(VALID[:, None, None], MASKS, 3).astype(np.uint8),
        "valid": VALID,
    }
    context = Context(train=True, frozen=("fc3",))

    def loss(params, batch):
        return TASK.losses(params, {}, batch, context)[0]["loss"][0]

    assert loss(state.params, other) == loss(state.params, BATCH)
    logits = jnp.asarray(logits_of(state))
    gradient = jax.grad(lambda x: loss_of_logits(x).sum())(logits)
    assert np.all(gradient[~VALID] == 0) and np.all(gradient[MASKS == VOID] == 0)
    assert np.all(np.abs(gradient[VALID][MASKS[VALID] != VOID]).sum(-1) > 0)


def loss_of_logits(logits):
    """The task's loss with a network that gives these logits."""

    class Fixed:
        spec, skips = SPEC, ()

        def apply(self, *_, **__):
            return logits, {}

    return segmentation(Fixed()).losses({}, {}, BATCH, Context())[0]["loss"][0]


def test_a_value_that_is_no_class_is_loud(state):
    wrong = {**BATCH, "segmentation": np.full_like(MASKS, CLASSES)}
    assert np.isnan(TASK.losses(state.params, {}, wrong, Context())[0]["loss"][0])


def by_hand(true, said):
    """The confusion matrix, pixel by pixel."""
    counts = np.zeros((CLASSES, CLASSES), int)
    for t, s in zip(true.ravel(), said.ravel(), strict=True):
        if t != VOID:
            counts[t, s] += 1
    return counts


def test_sums_are_the_confusion_of_the_pixels_that_count(state):
    logits = logits_of(state)
    counts, pixels = jax.jit(TASK.sums)(logits, BATCH)["confusion"]
    expected = by_hand(MASKS[VALID], logits.argmax(-1)[VALID])
    np.testing.assert_array_equal(counts, expected)
    assert pixels == expected.sum()
    np.testing.assert_array_equal(confusion(MASKS[VALID], logits.argmax(-1)[VALID], 4), expected)


def test_mean_iou_is_that_of_sets_of_pixels(state):
    """Added over uneven batches, in JSON in between; a class that never occurs does not count."""
    said = logits_of(state).argmax(-1)
    true = np.where((MASKS == 2) | (said == 2), VOID, MASKS)

    def batches():
        for rows in ([0, 1, 2], [3, 4, 5], [6, 7, 0]):
            valid = VALID[rows] & (np.array(rows) + np.arange(3) < 9)
            valid[-1] &= rows[-1] != 0
            yield {"image": IMAGES[rows], "segmentation": true[rows], "valid": valid}

    sums = evaluate(jax.jit(partial(eval_step, task=TASK)), state, batches())
    sums = sums_from_json(sums_to_json(sums))
    counted = VALID & (np.arange(8) < 9)
    shares = []
    for k in (0, 1, 3):
        here = true[counted] != VOID
        a, b = (true[counted] == k) & here, (said[counted] == k) & here
        shares.append((a & b).sum() / (a | b).sum())
    metrics = TASK.metrics(sums)
    assert metrics["mean_iou"] == pytest.approx(np.mean(shares), rel=1e-12)
    right = (true[counted] == said[counted]).sum() / (true[counted] != VOID).sum()
    assert metrics["pixel_accuracy"] == pytest.approx(right, rel=1e-12)
    assert TASK.counts(sums) == {"pixels": (true[counted] != VOID).sum()}
    assert np.isnan(iou(sums["confusion"][0])[2])


def test_nothing_labelled_has_no_mean():
    zero = {"loss": (0.0, 0), "confusion": (np.zeros((4, 4)), 0)}
    assert all(np.isnan(value) for value in TASK.metrics(zero).values())


def test_findings_rank_the_pictures_by_their_own_iou():
    true = np.zeros((4, 6, 6), np.uint8)
    true[:, :3] = 1
    said = true.copy()
    said[1, 0] = 0  # a row of six wrong
    said[2] = 0  # half
    true[3] = VOID
    answers = {"true": true, "mask": said, "index": np.array([10, 11, 12, 13])}
    found = TASK.findings(answers, ("a", "b", "c", "d"))
    assert [(e["index"], e["rank"]) for e in found["examples"]] == [
        (10, "best"), (12, "worst"), (11, "worst"),
    ]  # fmt: skip
    assert found["examples"][1]["said"] == "mean IoU 25.0%"
    assert found["confusion"]["counts"][1] == [6 + 18, 18 + 12, 0, 0]
    assert found["per_class"]["b"] == {"iou": 30 / 54, "recall": 30 / 54, "pixels": 54}
    assert found["per_class"]["c"] == {"iou": None, "recall": None, "pixels": 0}


def test_an_answer_is_told_and_drawn():
    mask = np.array([[0, 0, 2], [VOID, 2, 2]], np.uint8)
    answer = {"mask": np.where(mask == VOID, 1, mask), "true": mask}
    told = TASK.tell(answer, ("sky", "road", "car", "tree"), top=2)
    assert told == [{"class": "car", "share": 0.5}, {"class": "sky", "share": 1 / 3}]
    image = np.full((2, 3, 3), 100, np.uint8)
    drawn = TASK.draw(image, answer)
    assert set(drawn) == {"answer", "truth"} and set(TASK.draw(image, {"mask": mask})) == {"answer"}
    assert drawn["truth"][1, 0].tolist() == [100, 100, 100]  # void is left as it is
    np.testing.assert_array_equal(drawn["truth"], paint(image, mask))
    assert drawn["truth"][0, 2].tolist() == [40, 117, 40]  # 0.4 of 100, and 0.6 of (0, 128, 0)


def test_the_palette_is_pascal_vocs():
    """Its first colours, as the development kit's documentation lists them, and that of void."""
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert [tuple(c) for c in palette()[:6].tolist()] == first
    assert palette()[15].tolist() == [192, 128, 128] and palette()[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("jaccard", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_one_device_or_many_take_the_same_step(jaccard):
    """The per-device form, whose shards hold unequal numbers of pixels that count, some none."""
    task = segmentation(TASK.net, jaccard=jaccard)
    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=1e-3)
    start = init_state(seed=0, task=task, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = partial(train_step, task=task, tx=tx)
    many, one = parallel.vmap_step(step, 8), jax.jit(step)
    a = b = start
    for _ in range(2):
        a, expected = one(a, BATCH)
        b, found = many(b, BATCH)
    np.testing.assert_array_equal(found["confusion"][0], expected["confusion"][0])
    assert found["loss"][1] == expected["loss"][1]
    for x, y in zip(jax.tree.leaves(b.params), jax.tree.leaves(a.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.0, 0.0, 1.0)])
def test_class_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="expected 4, one a class, each above 0"):
        segmentation(TASK.net, class_weights=weights)


def test_more_classes_than_a_mask_holds_are_refused():
    with pytest.raises(ValueError, match="255 classes do not fit beside 255"):
        segmentation(FCN(Spec("many", 20, SPEC.convs, num_classes=255, dropout=()), skips=()))
