"""Both heads of pose: losses in closed form, what is not visible, findings, telling and drawing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.cascade import Cascade
from alexnet_jax.models.deep_pose import DeepPose
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.rules import Rules
from alexnet_jax.tasks.base import Context
from alexnet_jax.tasks.pose import pose
from alexnet_jax.train import parallel
from alexnet_jax.train.evaluate import evaluate
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, train_step

RNG = np.random.default_rng(0)
SIZE = 24
SPEC = Spec(
    name="tiny",
    image_size=20,
    convs=(
        Conv(16, 3, padding=(1, 1), then=("activation", "pool")),
        Conv(16, 3, padding=(1, 1), then=("activation", "pool")),
    ),
    dense=(32,),
    num_classes=14,
    dropout=("fc3",),
)
REGRESSION = pose(DeepPose(replace(SPEC, num_classes=28), exact=True))
HEATMAP = pose(FCN(SPEC, exact=True, skips=("pool1",), pixels=False))
# Kernels small at first, so that squares around the first joints do not miss the image.
SMALL = replace(REGRESSION.net.spec, kernel_init="gaussian_2012")
CASCADE = pose(Cascade(SMALL, exact=True, refinements=2, box=4.0))
ALL = pytest.mark.parametrize(
    "task",
    [REGRESSION, HEATMAP, pytest.param(CASCADE, marks=pytest.mark.slow)],
    ids=["regression", "heatmap", "cascade"],
)
VALID = np.array([1, 1, 1, 0, 1, 1, 0, 1], bool)
VISIBLE = RNG.random((8, 1, 14)) < 0.7
VISIBLE[4] = False  # nobody
COUNTED = VISIBLE[:, 0] & VALID[:, None]
BATCH = {
    "image": RNG.normal(size=(8, SIZE, SIZE, 3)).astype(np.float32),
    "joints": RNG.uniform(0, SIZE, (8, 1, 14, 2)).astype(np.float32),
    "joint_visible": VISIBLE,
    "valid": VALID,
}


def trained(task, steps=3):
    tx = optimizer("sgd", learning_rate=0.05)
    state = init_state(seed=0, task=task, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = jax.jit(partial(train_step, task=task, tx=tx))
    for _ in range(steps):
        state, _ = step(state, BATCH)
    return state


def test_a_regression_is_the_classifier_in_parts_of_the_image():
    state = trained(REGRESSION)
    outputs = jax.jit(AlexNet(REGRESSION.net.spec).apply)({"params": state.params}, BATCH["image"])
    joints = SIZE * (np.asarray(outputs).reshape(8, 14, 2) + 0.5)
    answer = REGRESSION.decode(
        jax.jit(REGRESSION.net.apply)({"params": state.params}, BATCH["image"])
    )
    np.testing.assert_allclose(answer["joints"], joints, rtol=1e-4, atol=1e-4)
    assert set(answer) == {"joints"}
    total, weight = REGRESSION.losses(state.params, {}, BATCH, Context())[0]["loss"]
    square = (((joints - BATCH["joints"][:, 0]) / SIZE) ** 2).sum(axis=-1)
    assert weight == COUNTED.sum()
    assert float(total) == pytest.approx(square[COUNTED].sum(), rel=1e-4)


@pytest.mark.slow
def test_stages_have_terms_of_their_own_in_torsos_of_the_truth():
    """In evaluation the mean over an example's joints, of examples whose torso is seen."""
    params, model_state = CASCADE.init(jax.random.key(0), (SIZE, SIZE, 3))
    for stage in CASCADE.net.later:
        params[stage]["head"]["bias"] = RNG.normal(size=28).astype(np.float32) / 8
    losses = partial(CASCADE.losses, params, model_state, BATCH)
    terms, outputs, _ = jax.jit(lambda: losses(Context()))()
    told = np.asarray(jax.jit(CASCADE.net.apply)({"params": params}, BATCH["image"]))
    assert told.shape == (8, 3, 14, 2)
    np.testing.assert_allclose(CASCADE.decode(outputs)["joints"], told[:, 2], rtol=1e-6)
    true = BATCH["joints"][:, 0].astype(float)
    expected, judged = np.zeros(2), 0
    for row, seen in enumerate(COUNTED):
        pairs = [(a, b) for a, b in ((8, 3), (9, 2)) if seen[a] and seen[b]]
        if pairs:
            torso = max(np.hypot(*(true[row, a] - true[row, b])) for a, b in pairs)
            away = (told[row, 1:] - true[row])[:, seen] / (4 * torso)
            expected += (away**2).sum(axis=-1).mean(axis=-1)
            judged += 1
    assert 0 < judged < 7
    for stage, total in zip(CASCADE.net.later, expected, strict=True):
        assert float(terms[stage][0]) == pytest.approx(total, rel=1e-3)
        assert terms[stage][1] == CASCADE.weights(BATCH)[stage] == judged
    learnt, outputs, state = jax.jit(lambda key: losses(Context(train=True, key=key)))(
        jax.random.key(0)
    )
    assert {k: float(w) for k, (_, w) in learnt.items()} == {
        "loss": COUNTED.sum(), "stage2": judged, "stage3": judged
    }  # fmt: skip
    np.testing.assert_array_equal(state["errors"]["errors2"]["count"][:, 0], [
        sum(1 for row in range(8) if COUNTED[row, j] and any(
            COUNTED[row, a] and COUNTED[row, b] for a, b in ((8, 3), (9, 2))
        )) for j in range(14)
    ])  # fmt: skip
    assert state["errors"]["errors3"]["count"].sum() == judged


@pytest.mark.slow
def test_what_is_frozen_of_a_stage_keeps_its_statistics():
    convs = tuple(replace(conv, then=("normalization", *conv.then)) for conv in SPEC.convs)
    spec = replace(SMALL, normalization="batch", convs=convs)
    task = pose(Cascade(spec, exact=True, box=4.0))
    for rules, still in (("^backbone/", "backbone"), ("^stage2/backbone/", "stage2")):
        tx = optimizer("sgd", learning_rate=0.05, rules=Rules(((rules, {"frozen": True}),)))
        state = init_state(seed=0, task=task, tx=tx, image_shape=(SIZE, SIZE, 3))
        after, _ = jax.jit(partial(train_step, task=task, tx=tx))(state, BATCH)
        for part in ("backbone", "stage2"):
            stats = [s.model_state["batch_stats"][part] for s in (state, after)]
            same = [
                np.array_equal(a, b)
                for a, b in zip(*(jax.tree.leaves(tree) for tree in stats), strict=True)
            ]
            assert all(same) if part == still else not any(same)


def test_at_the_start_every_place_is_as_likely():
    """The loss is then the logarithm of the number of places less the entropy of a Gaussian."""
    params, model_state = HEATMAP.init(jax.random.key(0), (SIZE, SIZE, 3))
    total, weight = HEATMAP.losses(params, model_state, BATCH, Context())[0]["loss"]
    at = 1.5 + 2 * np.arange(11)  # pool1: 3 x 3 of a padded 3 x 3, step 2
    assert HEATMAP.places.of(11).tolist() == (at - 0.5).tolist()
    expected = 0.0
    for y, x in BATCH["joints"][:, 0][COUNTED].astype(float):
        wanted = np.exp(-((at[:, None] - y) ** 2 + (at - x) ** 2) / 8)
        wanted /= wanted.sum()
        expected += np.log(121) + (wanted * np.log(wanted)).sum()
    assert weight == COUNTED.sum()
    assert float(total) == pytest.approx(expected, rel=1e-5)


@ALL
def test_what_is_not_visible_changes_neither_loss_nor_gradient_nor_metrics(task):
    state = trained(task)
    other = {**BATCH, "joints": np.where(COUNTED[:, None, :, None], BATCH["joints"], np.nan)}
    still = ("fc3", "stage2/backbone/fc3", "stage3/backbone/fc3")  # without dropout
    context = Context(train=True, key=jax.random.key(0), frozen=still)

    def loss(params, batch):
        return task.losses(params, {}, batch, context)[0]["loss"][0]

    found = [jax.jit(jax.value_and_grad(loss))(state.params, b) for b in (BATCH, other)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    step = jax.jit(partial(eval_step, task=task))
    sums = [evaluate(step, state, [b]) for b in (BATCH, other)]
    assert sums[0] == sums[1]
    assert task.counts(sums[0]) == {"joints": COUNTED.sum()}
    later = task.net.later if task is CASCADE else ()
    assert set(task.metrics(sums[0])) == {
        "loss", "mean_error", "pck", "pckh", "pdj_0.1", "pdj_0.5", "pcp", *later
    }  # fmt: skip


@ALL
def test_one_device_or_many_take_the_same_step(task):
    """The per-device form, whose shards hold unequal numbers of joints that count, some none."""
    tx = optimizer("sgd", learning_rate=0.02, momentum=0.9, l2=1e-3)
    start = init_state(seed=0, task=task, tx=tx, image_shape=(SIZE, SIZE, 3))
    step = partial(train_step, task=task, tx=tx)
    many, one = parallel.vmap_step(step, 8), jax.jit(step)
    a = b = start
    for _ in range(2):
        a, expected = one(a, BATCH)
        b, found = many(b, BATCH)
    assert found["loss"][1] == expected["loss"][1] and found["pck"][1] == expected["pck"][1]
    for x, y in zip(jax.tree.leaves(b.params), jax.tree.leaves(a.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def standing(count):
    """Persons whose torso is 10 pixels long, [count, 14, 2]."""
    joints = np.tile(np.arange(14, dtype=np.float32)[:, None] * (0, 1), (count, 1, 1))
    joints[:, 8], joints[:, 3] = (4, 2), (12, 8)  # right shoulder, left hip
    joints[:, 9], joints[:, 2] = (4, 8), (12, 2)
    return joints


def test_findings_tell_joint_by_joint_and_rank_by_the_mean_error():
    true = standing(4)
    said = true.copy()
    said[1, :, 0] += 1  # a tenth of the torso
    said[2, 13, 0] += 14  # head top alone
    visible = np.ones((4, 14), bool)
    visible[3] = False
    visible[:, 0] = False
    answers = {"true": true, "visible": visible, "joints": said, "index": np.arange(10, 14)}
    found = HEATMAP.findings(answers, JOINTS)
    assert [(e["index"], e["rank"], e["said"]) for e in found["examples"]] == [
        (10, "best", "mean error 0.0% of the torso"),
        (12, "worst", "mean error 10.8% of the torso"),
        (11, "worst", "mean error 10.0% of the torso"),
    ]
    top = found["per_class"]["head top"]
    assert top == {"pck": pytest.approx(2 / 3), "pdj_0.1": pytest.approx(2 / 3),
                   "pdj_0.5": pytest.approx(2 / 3), "error / torso": pytest.approx(0.5),
                   "joints": 3}  # fmt: skip
    assert found["per_class"]["right ankle"] == {
        "pck": None, "pdj_0.1": None, "pdj_0.5": None, "error / torso": None, "joints": 0
    }  # fmt: skip


def test_an_answer_is_told_in_x_and_y_and_drawn_where_it_is():
    joints = RNG.uniform(6, 54, (14, 2))
    answer = {"joints": joints, "score": np.linspace(0, 1, 14)}
    told = HEATMAP.tell(answer, JOINTS, top=1)
    assert [one["joint"] for one in told] == list(JOINTS)
    assert told[3] == {"joint": "left hip", "x": joints[3, 1], "y": joints[3, 0], "score": 3 / 13}
    assert set(REGRESSION.tell({"joints": joints}, JOINTS, 1)[0]) == {"joint", "x", "y"}

    image = np.full((60, 70, 3), 100, np.uint8)
    visible = np.zeros(14, bool)
    visible[[12, 13]] = True  # neck and head top, and the line between them
    drawn = HEATMAP.draw(image, {**answer, "true": joints, "visible": visible})
    assert (image == 100).all() and set(drawn) == {"answer", "truth"}
    changed = np.argwhere((drawn["truth"] != 100).any(axis=-1)) + 0.5
    a, b = joints[12], joints[13]
    share = np.clip((changed - a) @ (b - a) / ((b - a) ** 2).sum(), 0, 1)[:, None]
    assert np.hypot(*(changed - a - share * (b - a)).T).max() <= 1
    for joint in (a, b, (a + b) / 2):
        assert np.hypot(*(changed - joint).T).min() < 0.8
    everything = (drawn["answer"] != 100).any(axis=-1)
    assert all(everything[int(y), int(x)] for y, x in joints)
    beyond = HEATMAP.draw(image, {"joints": joints * 3 - 60})  # cut off, without harm
    assert beyond["answer"].shape == image.shape


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="14 classes; a regression of joints needs 28"):
        pose(DeepPose(SPEC))
    with pytest.raises(ValueError, match=r"FCN\(spec, pixels=False\) of 14 classes"):
        pose(FCN(SPEC, skips=()))
    with pytest.raises(ValueError, match="sigma is 0"):
        pose(HEATMAP.net, sigma=0)
