"""One device or eight, one form or another: the same numbers. Eight devices simulated on the CPU.

What needs eight devices runs in one process of its own, in `measure`; the tests read its numbers.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.rules import Rules
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train import parallel
from alexnet_jax.train import step as step_module
from alexnet_jax.train.evaluate import evaluate
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, train_step

ROWS, STEPS, SIZE = 64, 6, 32
# ELU, not ReLU: where rounding moves a unit across ReLU's corner, its gradient jumps.
NET = AlexNet(
    spec("small", normalization="batch", width=0.25, activation="elu", kernel_init="zeros")
)
TASK = classification(NET)
SHARDED = Rules(((r"fc\d/kernel$", {"shard": 1}), ("head/kernel$", {"shard": 0})))


def batch_of(i: int) -> dict:
    """The i-th batch; of the last one 37 rows count: none of those that devices 5 to 7 hold."""
    rng = np.random.default_rng(i)
    return {
        "image": rng.normal(size=(ROWS, SIZE, SIZE, 3)).astype(np.float32),
        "label": rng.integers(0, 10, ROWS).astype(np.int32),
        "valid": np.arange(ROWS) < (37 if i == STEPS - 1 else ROWS),
    }


def he_state(tx):
    """A train state on the host whose kernels NumPy has drawn."""
    state = init_state(seed=0, task=TASK, tx=tx, image_shape=(SIZE, SIZE, 3))
    rng = np.random.default_rng(0)

    def leaf(path, value):
        scale = np.sqrt(2 / np.prod(value.shape[:-1])) if path[-1].key == "kernel" else 0.0
        return (value + scale * rng.standard_normal(value.shape)).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(leaf, jax.device_get(state.params))
    return jax.device_get(state.replace(params=params, ema=params))


def largest_difference(a, b) -> float:
    """max|a - b| / max|b| over the leaves of two trees."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(max(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30) for x, y in leaves))


def measure() -> dict:
    """All that needs eight devices, as numbers."""
    assert jax.device_count() == 8
    tx = optimizer("sgd", learning_rate=0.01, momentum=0.9, l2=5e-4, clip=5.0, ema=0.9)
    step = partial(train_step, task=TASK, tx=tx)
    start = he_state(tx)
    mesh, wide = parallel.make_mesh(), parallel.make_mesh(model=2)
    whole = parallel.state_sharding(start, mesh)
    cut = parallel.state_sharding(start, wide, SHARDED)

    def run(step, state):
        for i in range(STEPS):
            state, metrics = jax.block_until_ready(step(state, batch_of(i)))
        return state, metrics

    forms = {
        "one device": (jax.jit(step), start),
        "mesh": (parallel.mesh_step(step, mesh, whole), jax.device_put(start, whole)),
        "model axis": (parallel.mesh_step(step, wide, cut), jax.device_put(start, cut)),
        "shard_map checked": (parallel.shard_map_step(step, mesh), start),
        "shard_map": (parallel.shard_map_step(step, mesh, check_vma=False), start),
        "pmap": (parallel.pmap_step(step), start),
        "vmap": (parallel.vmap_step(step, 8), start),
    }
    ends = {name: run(*form) for name, form in forms.items()}

    fc6 = ends["model axis"][0].params["backbone"]["fc6"]["kernel"]
    found = {"fc6 shape": fc6.shape, "fc6 shard": fc6.addressable_shards[0].data.shape}
    ends = jax.device_get(ends)
    reference = ends["one device"]
    found["moved"] = largest_difference(start.params, reference[0].params)
    found["differences"] = {name: largest_difference(end, reference) for name, end in ends.items()}
    found["pmap - shard_map"] = largest_difference(ends["pmap"], ends["shard_map"])
    found["count"] = float(reference[1]["loss"][1])

    found["evaluation"] = evaluations(reference[0], mesh, whole)

    # Without the sum over devices: each keeps its own gradient.
    step_module._sum_over = lambda tree, axis_name: tree
    try:
        parallel.shard_map_step(step, mesh)(start, batch_of(0))
        found["unsummed is refused"] = False
    except ValueError as error:
        found["unsummed is refused"] = "out_specs" in str(error)
    unsummed = jax.device_get(run(parallel.pmap_step(step), start))
    found["unsummed"] = largest_difference(unsummed[0].params, reference[0].params)
    return found


def evaluations(state, mesh, place) -> dict:
    """{count: sums of that many examples, on one device, on eight, and by NumPy}."""
    rng = np.random.default_rng(9)
    images = rng.normal(size=(80, SIZE, SIZE, 3)).astype(np.float32)
    labels = rng.integers(0, 10, 80).astype(np.int32)
    step = partial(eval_step, task=TASK)
    one, eight = jax.jit(step), parallel.mesh_eval(step, mesh, place)
    spread = jax.device_put(state, place)
    logits = np.float64(NET.apply({"params": state.ema, **state.model_state}, images))
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(80), labels]
    hits = logits.argmax(1) == labels

    found = {}
    for count in (61, 63, 64, 65):
        valid = np.arange(80) < count
        pieces = [slice(i, i + 16) for i in range(0, count, 16)]
        batches = [{"image": images[s], "label": labels[s], "valid": valid[s]} for s in pieces]
        found[count] = {
            "one": evaluate(one, state, batches),
            "eight": evaluate(eight, spread, batches),
            "plain": {"loss": losses[:count].sum(), "top1": int(hits[:count].sum())},
        }
    return found


@pytest.fixture(scope="module")
def found(own_process):
    return own_process(
        f"""
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parallel import measure
print(json.dumps(measure()))
""",
        # Nine programs: compiling them is most of the time, and less so without optimizing them.
        XLA_FLAGS="--xla_backend_optimization_level=0",
    )


FORMS = ["mesh", "model axis", "shard_map checked", "shard_map", "pmap", "vmap"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_ends_where_one_device_does(found, form):
    """Parameters, momentum, statistics, average and metrics, leaf by leaf, after six steps with
    dropout and batch norm."""
    assert found["moved"] > 0.1 and found["count"] == 37
    assert found["differences"][form] <= 1e-5


@pytest.mark.slow
def test_pmap_is_shard_map_to_the_bit(found):
    assert found["pmap - shard_map"] == 0


@pytest.mark.slow
def test_without_the_sum_over_devices_these_tests_fail(found):
    assert found["unsummed is refused"]
    assert found["unsummed"] > 1e-3


@pytest.mark.slow
def test_a_rule_cuts_a_dense_layer_over_the_model_axis(found):
    rows, columns = found["fc6 shape"]
    assert found["fc6 shard"] == [rows, columns // 2]


@pytest.mark.slow
@pytest.mark.parametrize("count", ["61", "63", "64", "65"])
def test_evaluation_counts_every_example_once_on_one_device_and_on_eight(found, count):
    sums = found["evaluation"][count]
    for devices in ("one", "eight"):
        assert sums[devices]["top1"] == [sums["plain"]["top1"], int(count)]
        total, counted = sums[devices]["loss"]
        assert counted == int(count)
        assert total == pytest.approx(sums["plain"]["loss"], rel=1e-5)


def test_a_batch_that_does_not_divide_is_refused_with_those_that_do():
    mesh = AbstractMesh((8, 1), ("data", "model"))
    parallel.check_batch_size(64, mesh)
    with pytest.raises(ValueError, match=r"batch of 37 .* 8 devices; 32 or 40 would"):
        parallel.check_batch_size(37, mesh)
    with pytest.raises(ValueError, match=r"batch of 5 .* 8 would"):
        parallel.check_batch_size(5, mesh)


def test_devices_that_do_not_divide_into_groups_are_refused():
    with pytest.raises(ValueError, match="1 devices do not divide into groups of 2"):
        parallel.make_mesh(jax.devices()[:1], model=2)


def test_an_axis_that_does_not_divide_over_the_model_axis_is_refused():
    net = AlexNet(dataclasses.replace(NET.spec, num_classes=3))
    tx = optimizer("sgd", learning_rate=0.1)
    create = partial(
        init_state, seed=0, task=classification(net), tx=tx, image_shape=(SIZE, SIZE, 3)
    )
    mesh = AbstractMesh((4, 2), ("data", "model"))
    with pytest.raises(ValueError, match=r"axis 1 of head/kernel \(64, 3\) .* 2 devices"):
        parallel.state_sharding(
            jax.eval_shape(create), mesh, Rules((("head/kernel", {"shard": 1}),))
        )


def test_rows_are_split_in_order():
    parts = parallel.split_rows({"x": jnp.arange(12).reshape(6, 2)}, 3)
    np.testing.assert_array_equal(parts["x"][1], [[4, 5], [6, 7]])
