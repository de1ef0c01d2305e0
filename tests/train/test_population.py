"""Members of a population are what they would be alone, and one that diverges harms no other."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train import population as populations
from alexnet_jax.train.population import gather, member, population_step, with_hyper
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import train_step

SIZE, ROWS = 32, 8
# ELU: where rounding moves a unit across ReLU's corner, its gradient jumps.
NET = AlexNet(
    spec("small", width=0.25, num_classes=3, activation="elu", kernel_init="zeros"), exact=True
)
TASK = classification(NET)
TX = optimizer("sgd", learning_rate=0.01, momentum=0.9, l1_form="proximal", clip=1.0)
STEP = partial(train_step, task=TASK, tx=TX)
HYPER = [
    {"learning_rate": 0.01, "dropout_rate": 0.0},
    {"learning_rate": 0.05, "dropout_rate": 0.5, "l2": 1e-3},
    {"learning_rate": 0.02, "dropout_rate": 0.2, "l1": 1e-3, "momentum": 0.5},
]


def batches(count, first=0):
    for i in range(first, first + count):
        rng = np.random.default_rng(i)
        images = rng.normal(size=(ROWS, SIZE, SIZE, 3)).astype(np.float32)
        yield {"image": images, "label": rng.integers(0, 3, ROWS).astype(np.int32)}


@pytest.fixture(scope="module")
def states(he_kernels):
    def state(seed, hyper):
        fresh = init_state(seed=seed, task=TASK, tx=TX, image_shape=(SIZE, SIZE, 3))
        return with_hyper(fresh.replace(params=he_kernels(fresh.params, seed)), **hyper)

    return [state(seed, hyper) for seed, hyper in enumerate(HYPER)]


@pytest.fixture(scope="module")
def alone():
    return jax.jit(STEP)


def differ(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)) for x, y in pairs)


@pytest.mark.parametrize("shared", [pytest.param(True, marks=pytest.mark.slow), False])
def test_each_member_is_what_it_is_alone(states, alone, shared):
    """Learning rate, momentum, L1, L2, dropout rate and seed of its own, after four steps."""
    step = population_step(STEP, shared=shared)
    population, ends = gather(states), list(states)
    for i, batch in enumerate(batches(4)):
        each = [batch] * 3 if shared else list(batches(3, first=3 * i))
        given = batch if shared else jax.tree.map(lambda *x: np.stack(x), *each)
        population, metrics = step(population, given)
        ends, losses = zip(*(alone(s, b) for s, b in zip(ends, each, strict=True)), strict=True)
        for k, loss in enumerate(losses):
            assert metrics["objective"][k] == pytest.approx(float(loss["objective"]), rel=1e-5)
    assert population.alive.all()
    for i, end in enumerate(ends):
        assert differ(member(population, i).params, end.params) <= 1e-5
        assert differ(end.params, states[i].params) > 1e-3
        assert int(member(population, i).step) == 4
    assert differ(ends[0].params, ends[1].params) > 0.1


def test_a_member_that_diverges_stays_where_it_was_and_harms_no_other(states, alone):
    step = population_step(STEP)
    wild = with_hyper(states[1], learning_rate=1e25)
    population, end = gather([states[0], wild, states[2]]), states[2]
    seen = []
    for batch in batches(4):
        population, _ = step(population, batch)
        end, _ = alone(end, batch)
        seen.append(jax.device_get(member(population, 1)))
    assert population.alive.tolist() == [True, False, True]
    stopped = int(seen[-1].step)
    assert 0 < stopped < 4
    for later in seen[stopped:]:
        jax.tree.map(np.testing.assert_array_equal, later, seen[stopped - 1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen[-1].params))
    assert differ(member(population, 2).params, end.params) <= 1e-5


def test_a_hyperparameter_that_there_is_not_is_named(states):
    with pytest.raises(ValueError, match="'learning_rat'; did you mean 'learning_rate'"):
        with_hyper(states[0], learning_rat=0.1)
    dry = states[0].replace(model_state={})
    with pytest.raises(ValueError, match="drops nothing out"):
        with_hyper(dry, dropout_rate=0.1)


def test_members_that_do_not_divide_over_devices_are_refused(states):
    mesh = AbstractMesh((8, 1), ("data", "model"))
    with pytest.raises(ValueError, match=r"3 members do not divide over 8 devices; 8 would"):
        populations.spread(gather(states), mesh)


def test_members_lie_on_devices_of_their_own(own_process):
    """Eight members on eight simulated devices: each device holds one, before and after a step."""
    found = own_process(
        """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp
from alexnet_jax.train.parallel import make_mesh
from alexnet_jax.train.population import gather, population_step, spread

def step(state, batch):
    loss = state * batch
    return state - loss, {"objective": loss, "gradient_norm": batch}

population = spread(gather([jnp.float32(i) for i in range(8)]), make_mesh())
after, metrics = population_step(step)(population, jnp.float32(0.5))
shards = [[int(s.data.size) for s in x.addressable_shards] for x in (after.states, after.alive)]
print(json.dumps({"shards": shards, "states": after.states.tolist()}))
"""
    )
    assert found["shards"] == [[1] * 8, [1] * 8]
    assert found["states"] == [i / 2 for i in range(8)]
