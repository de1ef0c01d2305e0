"""The steps lower for GPU and TPU on a machine that has neither."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train.state import init_state
from alexnet_jax.train.step import eval_step, predict_step, train_step


@pytest.mark.parametrize("name", ["small", "one_weird_trick"])
def test_train_evaluation_and_prediction_lower_for_gpu_and_tpu(name):
    net = AlexNet(spec(name))
    size, classes = net.spec.image_size, net.spec.num_classes
    task = classification(net)
    tx = optimizer("sgd", learning_rate=0.01, momentum=0.9, l2=5e-4)
    create = partial(init_state, seed=0, task=task, tx=tx, image_shape=(size, size, 3))
    state = jax.eval_shape(create)
    batch = {
        "image": jax.ShapeDtypeStruct((32, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((32,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((32,), bool),
    }

    def lower(step, *arguments):
        exported = jax.export.export(jax.jit(step), platforms=("cuda", "tpu"))(*arguments)
        assert exported.platforms == ("cuda", "tpu")
        module = exported.mlir_module()
        assert "stablehlo.convolution" in module
        assert "stablehlo.custom_call" not in module  # nothing that one platform alone knows
        return jax.tree.unflatten(exported.out_tree, exported.out_avals), module

    (after, _), module = lower(partial(train_step, task=task, tx=tx), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    # The backward of pooling that is not deterministic on a GPU is not there.
    assert "select_and_scatter" not in module

    sums, _ = lower(partial(eval_step, task=task), state, batch)
    assert {"loss", "top1", "top5"} == set(sums)

    answer, _ = lower(partial(predict_step, task=task), state, batch["image"])
    assert answer["probability"].shape == (32, classes) and answer["label"].shape == (32,)
