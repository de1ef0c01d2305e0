"""Several tasks on one backbone against each of them alone, on the same parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.deep_pose import OUTPUTS, DeepPose
from alexnet_jax.models.detector import Detector, without_dense
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks.base import Context
from alexnet_jax.tasks.classification import classification
from alexnet_jax.tasks.detection import detection
from alexnet_jax.tasks.multi import multi
from alexnet_jax.tasks.pose import pose
from alexnet_jax.tasks.registry import task_type
from alexnet_jax.tasks.segmentation import segmentation
from alexnet_jax.train import parallel
from alexnet_jax.train.diagnostics import data_gradient
from alexnet_jax.train.evaluate import add
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, predict_step, train_step

SIZE, BOXES, MASKS = 32, 3, 4
THEN = ("normalization", "activation")
SPEC = Spec(
    name="tiny",
    image_size=SIZE,
    convs=(
        Conv(8, 3, padding=(1, 1), then=(*THEN, "pool")),
        Conv(8, 3, padding=(1, 1), then=(*THEN, "pool")),
        Conv(8, 3, padding=(1, 1), then=THEN),
    ),
    dense=(8,),
    num_classes=BOXES,
    dropout=(),
    normalization="batch",
    kernel_init="zeros",
)
DETECTION = detection(Detector(SPEC, exact=True, features=16))
ALONE = detection(Detector(without_dense(SPEC), exact=True, features=16))
SEGMENTATION = segmentation(
    FCN(replace(SPEC, num_classes=MASKS), exact=True, skips=("conv2", "conv1"), refine=8)
)
BOTH = (DETECTION, SEGMENTATION)
TASK = multi(BOTH, {"segmentation": 0.5})
TX = optimizer("sgd", learning_rate=0.01, momentum=0.9)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    boxes = np.zeros((8, 5, 4), np.float32)
    label = np.full((8, 5), -1, np.int32)
    for i, count in enumerate([2, 3, 0, 4, 1, 0, 2, 3]):
        corner = rng.uniform(0, 20, (count, 2))
        boxes[i, :count] = np.concatenate([corner, corner + rng.uniform(4, 12, (count, 2))], 1)
        label[i, :count] = rng.integers(0, BOXES, count)
    mask = rng.integers(0, MASKS, (8, SIZE, SIZE)).astype(np.uint8)
    mask[:, :4], mask[1] = 255, 255
    return {
        "image": rng.normal(size=(8, SIZE, SIZE, 3)).astype(np.float32),
        "boxes": boxes,
        "box_label": label,
        "box_ignore": np.zeros((8, 5), bool),
        "segmentation": mask,
        "valid": np.array([1, 1, 1, 0, 1, 1, 0, 1], bool),
    }


@pytest.fixture(scope="module")
def states(he_kernels):
    """The state of both tasks, and those of each alone with its parameters put into place."""
    state = init_state(seed=0, task=TASK, tx=TX, image_shape=(SIZE, SIZE, 3))
    params = he_kernels(jax.tree.map(np.asarray, state.params))
    backbone, stats = params["backbone"], state.model_state["batch_stats"]["backbone"]
    convolutions = {k: v for k, v in backbone.items() if "conv" in k or k in stats}
    state = state.replace(params=params)

    def of(backbone, task):
        return state.replace(params={"backbone": backbone, **params[task]}, opt_state=None)

    return state, of(convolutions, "detection"), of(backbone, "segmentation")


def close(found, expected):
    """To 2e-5 of each array's largest element."""

    def leaf(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max() + 1e-9)

    jax.tree.map(leaf, dict(found), dict(expected))


@pytest.fixture(scope="module")
def alone(states, batch):
    """(gradient, {term: mean}) of each task alone."""
    found = []
    for task, state in zip((ALONE, SEGMENTATION), states[1:], strict=True):

        @jax.jit
        def both(state, batch, task=task):
            how = state.params, state.model_state, batch, Context(train=True)
            return data_gradient(state, batch, task=task), task.losses(*how)[0]

        gradient, terms = jax.device_get(both(state, batch))
        found.append((gradient, {name: s / n for name, (s, n) in terms.items()}))
    return found


@pytest.fixture(scope="module")
def step():
    return jax.jit(partial(train_step, task=TASK, tx=TX))


def test_parameters_are_a_backbone_and_each_tasks_own(states):
    state, found, segmented = states
    alone = init_state(seed=0, task=ALONE, tx=TX, image_shape=(SIZE, SIZE, 3)).params
    assert jax.tree.structure(alone) == jax.tree.structure(found.params)
    alone = init_state(seed=0, task=SEGMENTATION, tx=TX, image_shape=(SIZE, SIZE, 3)).params
    assert jax.tree.structure(alone) == jax.tree.structure(segmented.params)
    assert set(state.params) == {"backbone", "detection", "segmentation"}


@pytest.mark.parametrize("which", [0, 1], ids=["detection", "segmentation"])
def test_with_the_others_weight_zero_a_task_learns_as_alone(which, states, batch, alone):
    name, other = (BOTH[which].name, BOTH[1 - which].name)
    task = multi(BOTH, {other: 0})
    found = jax.device_get(jax.jit(partial(data_gradient, task=task))(states[0], batch))
    expected = dict(alone[which][0])
    backbone = expected.pop("backbone")
    close({layer: found["backbone"][layer] for layer in backbone}, backbone)
    close(found[name], expected)
    assert any(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(backbone))
    rest = {k: v for k, v in found["backbone"].items() if k not in backbone}
    assert not any(np.any(x) for x in jax.tree.leaves([found[other], rest]))


def test_what_is_minimized_is_the_weighted_sum(states, batch, alone, step):
    """Of the losses that each task has alone, and so is the gradient where they share."""
    state, losses = states[0], [terms for _, terms in alone]
    expected = sum(losses[0].values()) + 0.5 * losses[1]["loss"]
    _, measured = step(state, batch)
    assert measured["objective"] == pytest.approx(expected, rel=1e-4)
    sums = {k: v for k, v in jax.device_get(measured).items() if isinstance(v, tuple)}
    metrics = TASK.metrics(sums)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    assert metrics["detection/heat"] == pytest.approx(losses[0]["heat"], rel=1e-4)
    assert metrics["segmentation/loss"] == pytest.approx(losses[1]["loss"], rel=1e-4)
    found = jax.device_get(jax.jit(partial(data_gradient, task=TASK))(state, batch))["backbone"]
    for layer in ("conv1", "norm2", "conv3"):
        first, second = (gradient["backbone"][layer] for gradient, _ in alone)
        close(found[layer], jax.tree.map(lambda a, b: a + 0.5 * b, first, second))


def test_each_is_judged_and_answers_as_alone(states, batch):
    """Sums, counts, scores and findings, from the same parameters."""
    names = (tuple("abc"), tuple("wxyz"))
    classes = tuple(
        f"{task.name}/{one}" for task, own in zip(BOTH, names, strict=True) for one in own
    )

    def judged(task, state):
        sums = jax.device_get(jax.jit(partial(eval_step, task=task))(state, batch))
        answers = jax.jit(partial(predict_step, task=task))(state, batch["image"])
        truth = task.truth({k: jnp.asarray(v) for k, v in batch.items()})
        index = {"index": np.arange(8)}
        sums = add({}, sums)
        return sums, {**jax.device_get({**answers, **truth}), **index}

    sums, answers = judged(TASK, states[0])
    found = TASK.metrics(sums) | TASK.score(answers, classes) | TASK.counts(sums)
    findings = TASK.findings(answers, classes)
    assert findings["key"] == {"detection": names[0], "segmentation": names[1]}
    assert TASK.scores == ("detection/ap50", "detection/ap")
    assert TASK.monitor == ("detection/ap50", "max")
    told = 0
    image = batch["image"][0].astype(np.uint8)
    for task, state, own in zip((ALONE, SEGMENTATION), states[1:], names, strict=True):
        its, said = judged(task, state)
        expected = task.metrics(its) | task.score(said, own) | task.counts(its)
        for name, value in expected.items():
            assert found[f"{task.name}/{name}"] == pytest.approx(value, rel=1e-4, nan_ok=True), name
        alone = task.findings(said, own)
        for name, row in alone["per_class"].items():
            shared = findings["per_class"][f"{task.name}/{name}"]
            for kind, value in row.items():
                same = value is None or shared[kind] == pytest.approx(value, rel=1e-4)
                assert same and (shared[kind] is None) == (value is None), kind
        rows = [one for one in findings["examples"] if one["task"] == task.name]
        assert [{**one, "task": task.name} for one in alone["examples"]] == rows
        one = {k: v[0] for k, v in said.items()}
        both = {k: v[0] for k, v in answers.items()}
        for name, picture in task.draw(image, one).items():
            drawn = TASK.draw(image, both)[f"{task.name}/{name}"]
            np.testing.assert_array_equal(drawn, picture)
        first = task.tell(one, own, 2)
        lines = [line for line in TASK.tell(both, classes, 2) if line["task"] == task.name]
        assert [line["class"] for line in lines] == [line["class"] for line in first]
        told += len(first)
    assert told and findings["confusion"]["classes"] == names[1]
    assert found["segmentation/pixels"] == 5 * 28 * 32  # valid, without the one that is void


def test_one_device_or_many_take_the_same_step(states, batch, step):
    """The per-device form, whose shards hold unequal numbers of objects and pixels, some none."""
    a = b = states[0]
    many = parallel.vmap_step(partial(train_step, task=TASK, tx=TX), 8)
    for _ in range(2):
        a, expected = step(a, batch)
        b, found = many(b, batch)
    assert found["segmentation/loss"][1] == expected["segmentation/loss"][1] == 5 * 28 * 32
    close(b.params, a.params)
    close(b.model_state["batch_stats"], a.model_state["batch_stats"])


def test_poses_heat_maps_share_it_too():
    net = FCN(replace(SPEC, num_classes=14), exact=True, skips=("conv2",), pixels=False, refine=8)
    task = multi((pose(net), *BOTH))
    assert task.monitor == ("pose/pck", "max") and task.name == "pose+detection+segmentation"

    @jax.eval_shape
    def answers():
        outputs, variables = task.net.init_with_output(
            jax.random.key(0), jnp.zeros((2, SIZE, SIZE, 3))
        )
        return task.decode(outputs), variables["params"]

    found, params = answers
    assert found["pose/joints"].shape == (2, 14, 2) and found["pose/score"].shape == (2, 14)
    assert found["segmentation/mask"].shape == (2, SIZE, SIZE)
    assert set(params) == {"backbone", "pose", "detection", "segmentation"}


def test_tasks_that_do_not_go_together_are_refused():
    for name, said in (
        ("detection+detection", "has detection more than once"),
        ("detection+depth", "no task is called 'depth'; there are classification"),
        ("detection+", "no task is called ''"),
        ("segmentation+classification", "classification reads a picture as a whole"),
    ):
        with pytest.raises(ValueError, match=said):
            task_type(name)
    regression = pose(DeepPose(replace(SPEC, num_classes=OUTPUTS), exact=True))
    for tasks, said in (
        ((DETECTION, classification(AlexNet(SPEC, exact=True))), "classification reads"),
        ((DETECTION, regression), r"pose has a DeepPose.*--pose\.head heatmap"),
        ((ALONE, SEGMENTATION), "networks of detection and segmentation differ in their spec"),
        ((replace(DETECTION, net=DETECTION.net.clone(exact=False)), SEGMENTATION), "or dtype"),
    ):
        with pytest.raises(ValueError, match=said):
            multi(tasks)
    for weights, said in (
        ({"pose": 1.0}, "given for 'pose'; the tasks are detection, segmentation"),
        ({"detection": -1.0}, "weight of detection is -1.0; expected at least 0"),
        ({"detection": float("nan")}, "weight of detection is nan"),
        ({"detection": 0, "segmentation": 0}, "nothing would be learnt"),
    ):
        with pytest.raises(ValueError, match=said):
            multi(BOTH, weights)


def test_its_name_and_annotations_are_those_of_all():
    kind = task_type("detection+segmentation")
    assert (kind.name, kind.annotations) == (TASK.name, TASK.annotations)
    assert TASK.name == "detection+segmentation"
    assert TASK.annotations == ("boxes", "box_label", "box_ignore", "segmentation")
    assert hash(TASK) == hash(multi(BOTH, {"segmentation": 0.5})) and multi(BOTH) != TASK
