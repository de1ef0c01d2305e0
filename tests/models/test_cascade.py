"""DeepPose's later stages: where their squares lie, what they learn, and that they keep apart."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data.skeleton import JOINTS, MIRRORED_JOINTS
from alexnet_jax.models.cascade import KEPT, Cascade, Errors, crops
from alexnet_jax.models.deep_pose import DeepPose
from alexnet_jax.models.spec import Conv, Spec

RNG = np.random.default_rng(0)
SIZE = 24
SPEC = Spec(
    name="tiny",
    image_size=SIZE,
    convs=(
        Conv(8, 3, padding=(1, 1), then=("activation", "pool")),
        Conv(8, 3, padding=(1, 1), then=("activation", "pool")),
    ),
    dense=(16,),
    num_classes=28,
    dropout=(),
)
NET = Cascade(SPEC, exact=True, refinements=2, box=1.5)
tell = jax.jit(NET.apply)
rehearsal = jax.jit(partial(NET.apply, method="rehearse", mutable=["errors"]))
IMAGES = RNG.normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)
JOINTS_TRUE = RNG.uniform(4, SIZE - 4, (4, 14, 2)).astype(np.float32)
VISIBLE = np.ones((4, 14), bool)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(NET.init)(jax.random.key(0), IMAGES[:1])


def rehearse(variables, images=IMAGES, joints=JOINTS_TRUE, visible=VISIBLE, key=1):
    return rehearsal(variables, images, joints, visible, rngs={"dropout": jax.random.key(key)})


def changed(variables, path, change):
    """The variables with one leaf of the parameters changed."""

    def at(where, leaf):
        return (
            change(leaf)
            if jax.tree_util.keystr(where, simple=True, separator="/") == path
            else leaf
        )

    params = jax.tree_util.tree_map_with_path(at, variables["params"])
    return {**variables, "params": params}


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_an_impulse_lies_in_the_square_where_the_closed_form_says(factor):
    """Pixel p, whose centre is p + 1/2, comes to (p + 1/2 - corner) x size / side."""
    side = SIZE / factor
    for pixel, centre in (((10, 13), (11.0, 12.5)), ((8, 9), (9.25, 10.75))):
        image = np.zeros((1, SIZE, SIZE, 1), np.float32)
        image[0, *pixel] = 1.0
        seen = crops(image, np.array([[centre]], np.float32), np.array([side], np.float32))
        assert seen.shape == (1, 1, SIZE, SIZE, 1)
        weight = np.asarray(seen)[0, 0, :, :, 0]
        at = np.arange(SIZE) + 0.5
        found = weight.sum(1) @ at / weight.sum(), weight.sum(0) @ at / weight.sum()
        expected = (np.array(pixel) + 0.5 - (np.array(centre) - side / 2)) * factor
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_square_of_the_whole_image_is_the_image_and_beyond_it_is_nothing():
    middle = np.full((4, 1, 2), SIZE / 2, np.float32)
    whole = crops(IMAGES, middle, np.full(4, SIZE, np.float32))
    np.testing.assert_allclose(whole[:, 0], IMAGES, atol=1e-6)
    beyond = crops(IMAGES, middle - (0, SIZE // 2), np.full(4, SIZE, np.float32))[:, 0]
    assert not np.asarray(beyond)[:, :, : SIZE // 2 - 1].any() and np.isfinite(beyond).all()
    np.testing.assert_allclose(beyond[:, :, SIZE // 2 :], IMAGES[:, :, : SIZE // 2], atol=1e-6)


def test_the_square_around_a_mirrored_joint_is_the_mirrored_square():
    side = np.array([5.0, 9.0, 14.0, 30.0], np.float32)
    mirrored = (JOINTS_TRUE * (1, -1) + (0, SIZE)).astype(np.float32)
    seen = crops(IMAGES, JOINTS_TRUE, side)
    other = crops(IMAGES[:, :, ::-1], mirrored[:, MIRRORED_JOINTS], side)
    np.testing.assert_allclose(other[:, MIRRORED_JOINTS, :, ::-1], seen, atol=1e-4)


def test_stages_whose_heads_are_zero_leave_every_joint_where_the_first_one_has_it(variables):
    first = {name: variables["params"][name] for name in ("backbone", "head")}
    said = jax.jit(DeepPose(SPEC, exact=True).apply)({"params": first}, IMAGES)
    told = tell({"params": variables["params"]}, IMAGES)
    assert told.shape == (4, 3, 14, 2)
    for stage in range(3):
        np.testing.assert_array_equal(told[:, stage], said)


def test_a_displacement_comes_back_into_the_image(variables):
    """A stage that says (0.25, -0.5) of its square moves the joint by that of 1.5 torsos."""
    say = np.zeros((14, 2), np.float32)
    say[5] = 0.25, -0.5
    given = changed(variables, "stage2/head/bias", lambda _: say.ravel())
    told = np.asarray(tell({"params": given["params"]}, IMAGES))
    first, second = told[:, 0], told[:, 1]
    ends = [np.hypot(*(first[:, a] - first[:, b]).T) for a, b in ((8, 3), (9, 2))]
    expected = first.copy()
    expected[:, 5] += 1.5 * np.max(ends, axis=0)[:, None] * (0.25, -0.5)
    np.testing.assert_allclose(second, expected, rtol=1e-5, atol=1e-4)


def test_a_stage_reads_each_joints_own_outputs_from_that_joints_own_square(variables):
    """Against one crop at a time, through the classifier of the same parameters."""
    from alexnet_jax.models.alexnet import AlexNet

    shape = variables["params"]["stage2"]["head"]["kernel"].shape
    kernel = RNG.normal(size=shape).astype(np.float32) * 0.02
    given = changed(variables, "stage2/head/kernel", lambda _: kernel)
    told = np.asarray(tell({"params": given["params"]}, IMAGES))
    first = told[:, 0]
    side = 1.5 * np.max([np.hypot(*(first[:, a] - first[:, b]).T) for a, b in ((8, 3), (9, 2))], 0)
    say = jax.jit(AlexNet(SPEC, exact=True).apply)
    for joint in (0, 6, 13):
        seen = crops(IMAGES, first[:, joint : joint + 1], side)[:, 0]
        says = say({"params": given["params"]["stage2"]}, seen)
        moved = first[:, joint] + side[:, None] * np.asarray(says).reshape(4, 14, 2)[:, joint]
        np.testing.assert_allclose(told[:, 1, joint], moved, rtol=1e-4, atol=1e-3)


def test_no_gradient_flows_from_one_stage_to_another(variables):
    kernel = 0.1 * RNG.normal(size=variables["params"]["stage2"]["head"]["kernel"].shape)
    given = changed(variables, "stage2/head/kernel", lambda _: kernel.astype(np.float32))
    given = changed(given, "stage3/head/kernel", lambda _: kernel.astype(np.float32))
    given = changed(given, "head/kernel", lambda x: 0.01 * x)  # or squares miss the image

    def terms(params):
        (first, misses), _ = rehearse({**given, "params": params})
        squares = (misses**2).sum(axis=(0, 2))
        return jnp.stack([((first[:, 0] - JOINTS_TRUE) ** 2).sum(), *squares])

    slopes = jax.jit(jax.jacrev(terms))(given["params"])
    parts = ("backbone", "head"), ("stage2",), ("stage3",)
    for term in range(3):
        for stage, names in enumerate(parts):
            tree = {name: slopes[name] for name in names}
            moves = [bool(np.any(leaf[term] != 0)) for leaf in jax.tree.leaves(tree)]
            assert all(moves) if stage == term else not any(moves), (term, names)


def test_what_is_taught_is_the_way_back_from_a_displacement_of_the_errors_spread(variables):
    """Errors that are alike in all examples have no variance: the square lies exactly there."""
    joints = np.tile(RNG.uniform(4, 20, (14, 2)), (4, 1, 1)).astype(np.float32)
    torso = max(np.hypot(*(joints[0, a] - joints[0, b])) for a, b in ((8, 3), (9, 2)))
    off = np.tile(RNG.normal(size=(14, 2)), (4, 1, 1)).astype(np.float32)
    bias = ((joints + off * torso)[0] / SIZE - 0.5).ravel()
    given = changed(variables, "head/kernel", jnp.zeros_like)
    given = changed(given, "head/bias", lambda _: bias)
    (first, misses), found = rehearse(given, joints=joints)
    np.testing.assert_allclose(first[:, 0], joints + off * torso, rtol=1e-4)
    # Stages say nothing yet, so they miss by what they should say: minus the error, in 1.5 torsos.
    way = misses[:, 0] * 1.5
    assert all(np.abs(row - off[0]).max(axis=1).min() < 2e-3 for row in way)
    assert len({int(np.abs(row - off[0]).max(axis=1).argmin()) for row in way}) > 1
    np.testing.assert_allclose(found["errors"]["errors2"]["first"], 4 * off[0], rtol=1e-3)
    # What a stage that says nothing is off by is what it was given: the next one's errors.
    third = found["errors"]["errors3"]
    assert third["count"].sum() == 4
    np.testing.assert_allclose(third["first"], third["count"] * off[0], atol=5e-3)


def test_displacements_have_the_mean_and_variance_of_the_errors(variables):
    """Sums of 10,000 counted errors outweigh those of the batch, which are not to be seen."""
    mean, deviation = RNG.normal(size=(14, 2)), RNG.uniform(0.1, 1, (14, 2))
    count = np.full((14, 1), 1e6)
    sums = {"count": count, "first": count * mean, "second": count * (mean**2 + deviation**2)}
    sums = {k: v.astype(np.float32) for k, v in sums.items()}
    given = {**variables, "errors": {**variables["errors"], "errors2": sums}}
    joints = np.tile(JOINTS_TRUE[:1], (4, 1, 1))
    visible = np.zeros((4, 14), bool)
    visible[:, [8, 3]] = True  # a torso, and a choice of two joints
    run = jax.jit(
        jax.vmap(lambda key: rehearse(given, joints=joints, visible=visible, key=key)[0][1])
    )
    way = np.asarray(run(jnp.arange(2000)))[:, :, 0].reshape(-1, 2) * 1.5
    # Two joints take turns by chance, each with its own normal distribution.
    expected = mean[[8, 3]].mean(axis=0)
    square = (deviation[[8, 3]] ** 2 + mean[[8, 3]] ** 2).mean(axis=0)
    error = np.sqrt(square / len(way))
    assert (np.abs(way.mean(axis=0) - expected) < 5 * error).all()
    np.testing.assert_allclose((way**2).mean(axis=0), square, rtol=0.1)


def test_sums_of_errors_fade_and_give_mean_and_deviation():
    errors = RNG.normal(size=(2, 5, 14, 2)).astype(np.float32)
    counted = RNG.random((2, 5, 14)) < 0.6
    counted[..., 3] = False
    counted[:, 0, 4:] = True
    variables = Errors().init(jax.random.key(0))
    for batch, which in zip(errors, counted, strict=True):
        batch = np.where(which[..., None], batch, np.nan)
        (mean, deviation), variables = Errors().apply(variables, batch, which, mutable=["errors"])
    weight = (counted * np.array([KEPT, 1.0])[:, None, None]).reshape(10, 14, 1)
    values = errors.reshape(10, 14, 2)
    total = np.maximum(weight.sum(0), 1e-9)
    expected = (weight * values).sum(0) / total
    spread = np.sqrt((weight * (values - expected) ** 2).sum(0) / total)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    np.testing.assert_allclose(deviation, spread, atol=1e-3)
    assert not mean[3].any() and not deviation[3].any() and len(mean) == len(JOINTS)


def test_pixels_of_bytes_give_what_their_fractions_give(variables):
    images = RNG.integers(0, 256, IMAGES.shape, dtype=np.uint8)
    apply = partial(NET.apply, {"params": variables["params"]})
    np.testing.assert_allclose(apply(images), apply(images / np.float32(255)), rtol=1e-5)
