"""Checkpoints of arrays that lie on many devices come back on any number of them."""

from __future__ import annotations

import numpy as np

from alexnet_jax.train.checkpoint import load_arrays

ON_DEVICES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.rules import Rules
from alexnet_jax.train.checkpoint import Checkpoints
from alexnet_jax.train.parallel import make_mesh, state_sharding
from alexnet_jax.train.state import TrainState

tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, rules=Rules((("fc6/kernel", {"shard": 1}),)))

def create():
    kernel = jnp.arange(12 * 8, dtype=jnp.float32).reshape(12, 8) * 0.3
    params = {"backbone": {"fc6": {"kernel": kernel, "bias": jnp.arange(8.0)}}}
    state = tx.init(params)
    state = state._replace(inner=jax.tree.map(lambda x: -x, params))
    return TrainState(jnp.int32(4), params, {}, state, params, jnp.uint32(1))

def target(model):
    abstract = jax.eval_shape(create)
    place = state_sharding(abstract, make_mesh(model=model), tx.rules)
    give = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    return place, jax.tree.map(give, abstract, place)

assert len(jax.devices()) == DEVICES
if SAVE:
    with Checkpoints(FOLDER) as checkpoints:
        state = jax.jit(create, out_shardings=target(2)[0])()
        assert state.params["backbone"]["fc6"]["kernel"].addressable_shards[0].data.shape == (12, 4)
        checkpoints.save(state, {})
place, abstract = target(MODEL)
with Checkpoints(FOLDER) as checkpoints:
    state, _ = checkpoints.restore(abstract)
assert jax.tree.map(lambda x: x.sharding, state) == place
print(json.dumps({
    "kernel": state.params["backbone"]["fc6"]["kernel"].tolist(),
    "momentum": state.opt_state.inner["backbone"]["fc6"]["kernel"].tolist(),
    "ema": state.ema["backbone"]["fc6"]["kernel"].tolist(),
    "bias": state.params["backbone"]["fc6"]["bias"].tolist(),
    "shard": state.params["backbone"]["fc6"]["kernel"].addressable_shards[0].data.shape,
}))
"""


def test_saved_on_eight_devices_and_restored_on_any_number(tmp_path, own_process):
    kernel = (np.arange(96, dtype=np.float32) * np.float32(0.3)).reshape(12, 8)
    # Mesh (4, 2) saves; (2, 4), (2, 2), (1, 2) and (1, 1) restore.
    for devices, model in ((8, 4), (4, 2), (2, 2), (1, 1)):
        names = (
            f"FOLDER, DEVICES, MODEL, SAVE = {str(tmp_path)!r}, {devices}, {model}, {devices == 8}"
        )
        flags = f"--xla_force_host_platform_device_count={devices}"
        back = own_process(f"{names}\n{ON_DEVICES}", XLA_FLAGS=flags)
        assert back["shard"] == [12, 8 // model]
        np.testing.assert_array_equal(back["kernel"], kernel)
        np.testing.assert_array_equal(back["ema"], kernel)
        np.testing.assert_array_equal(back["momentum"], -kernel)
        np.testing.assert_array_equal(back["bias"], np.arange(8))
    arrays = load_arrays(tmp_path, 4)  # by NumPy, in one piece
    np.testing.assert_array_equal(arrays["params"]["backbone"]["fc6"]["kernel"], kernel)
