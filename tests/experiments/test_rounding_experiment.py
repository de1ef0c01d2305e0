"""Updates that do nothing: the arithmetic, the storages, and what the page says of its rows."""

from __future__ import annotations

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rounding
import storing

from alexnet_jax import AlexNet, classification, eval_step, optimizer, spec


def rows(shares, lost=None):
    """Three seeds of each storage, with given right answers and lost updates."""
    lost = lost or dict.fromkeys(storing.STORAGES, 0.5)
    return [
        {
            "storage": name,
            "seed": seed,
            "accuracy": shares[name][seed],
            "loss": 0.5,
            "lost": lost[name],
            "course": {"update": [1, 600], "lost": [lost[name]] * 2},
        }
        for name in storing.STORAGES
        for seed in range(3)
    ]


def test_the_subtraction_of_the_notes():
    assert rounding.difference_of("float32") == float(np.float32(10) - np.float32(1e-6))
    assert rounding.difference_of("float16") == float(np.float16(10) - np.float16(1e-6))
    assert rounding.difference_of("float16") == rounding.difference_of("bfloat16") == 10.0
    told = rounding.answer(rows({name: [0.5] * 3 for name in storing.STORAGES}), 200)
    assert "9.99999905 in float32, whose numbers at 10 are 9.5e-07 apart" in told
    assert "10 in bfloat16, whose numbers at 10 are 0.062 apart" in told


def test_the_answer_follows_from_the_rows():
    shares = {name: [0.8, 0.8, 0.8] for name in storing.STORAGES}
    shares |= {"bfloat16": [0.6, 0.65, 0.7], "float16": [0.75, 0.85, 0.8]}
    lost = dict.fromkeys(storing.STORAGES, 0.5) | {"float32": 0.25, "float16, float32 masters": 0.1}
    told = rounding.answer(rows(shares, lost), 200)
    half = "50.0 % (50.0 to 50.0)"
    assert (
        f"25.0 % (25.0 to 25.0) of the updates leave their weight as it is in float32, {half} in "
    )
    assert f"masters it is {half} in bfloat16 and 10.0 % (10.0 to 10.0) in float16;" in told
    none = "no difference shown (+0.0 points, -5.0 to 5.0, n = 3)"
    assert f"in bfloat16 15.0 points fewer (10.0 to 20.0, n = 3); in float16 {none}. With" in told
    assert "masters against without: in bfloat16 15.0 points more (10.0 to 20.0, n = 3)" in told
    _, answer, figure, sections = rounding.page(
        rounding.Options(), rows(shares, lost), 200, "test", 1000
    )
    assert answer.startswith("10 - 0.000001 is 9.99999905")
    page = "\n".join(sections)
    assert f"| bfloat16 | {half} | 65.0 % (60.0 to 70.0) |" in page
    assert "`small` at 32 pixels, of width 0.5: 200 updates" in page
    assert len(figure.axes) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_by_chance_small_updates_add_up_to_what_they_should(dtype):
    """A thousand updates of which each is far below the spacing: to the nearest, none counts."""
    tx = optimizer("sgd", learning_rate=1.0)
    chance = storing.rounded_by_chance(tx, dtype)
    params, gradient = {"w": jnp.full(2000, 10.0, dtype)}, {"w": jnp.full(2000, 1e-3)}

    def repeated(tx):
        def once(_, carry):
            params, state = carry
            steps, state = tx.update(gradient, state, params)
            return optax.apply_updates(params, steps), state

        return jax.lax.fori_loop(0, 1000, once, (params, tx.init(params)))[0]["w"]

    assert (repeated(tx) == 10.0).all()
    ended = repeated(chance)
    assert ended.dtype == jnp.dtype(dtype)
    # 9 is expected; one weight strays by about sqrt(1000 x 1e-3 x spacing) < 0.25.
    assert float(ended.astype(jnp.float32).mean()) == pytest.approx(9.0, abs=5 * 0.25 / 2000**0.5)


def test_a_network_gets_its_parameters_rounded(he_kernels):
    net = AlexNet(spec("small", num_classes=2, width=0.1, kernel_init="zeros"))
    task = classification(net)
    params, model_state = task.init(jax.random.key(0), (32, 32, 3))
    params = he_kernels(params)
    batch = {
        "image": np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32),
        "label": np.zeros(4, np.int32),
    }

    def loss(task, params):
        from alexnet_jax import TrainState

        state = TrainState(0, params, model_state, None, None, 0)
        return float(partial(eval_step, task=task)(state, batch)["loss"][0])

    rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(jnp.float32), params)
    assert loss(storing.Rounded(task, "bfloat16"), params) == loss(task, rounded)
    assert loss(task, rounded) != loss(task, params)


@pytest.mark.slow
def test_all_storages_are_measured(tmp_path):
    options = rounding.Options(
        seeds=1, updates=40, batch_size=4, width=0.1, out=str(tmp_path / "out")
    )
    rounding.main(options)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    lost = {row["storage"]: row["lost"] for row in rows}
    assert set(lost) == set(storing.STORAGES)
    assert lost["float32"] < lost["float16"] < lost["bfloat16"]
    for half in ("bfloat16", "float16"):
        assert lost[half + ", float32 masters"] < 0.5 * lost[half]
