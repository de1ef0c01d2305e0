"""Random networks, and what `predict` says of random pictures with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train.canvas import predict_canvas
from alexnet_jax.train.state import TrainState
from alexnet_jax.weights import Weights

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 70.0)


@pytest.fixture(scope="session")
def random_weights(he_kernels):
    """Weights of a spec: He-normal kernels, and all else random as after training."""

    def make(spec, **preprocessing):
        size = spec.image_size
        p = Preprocessing(
            **{"canvas": size, "size": size, "mean": MEAN, "std": STD} | preprocessing
        )
        images = jax.ShapeDtypeStruct((1, p.size, p.size, 3), jnp.float32)
        shapes = jax.eval_shape(AlexNet(spec).init, jax.random.key(0), images)
        rng = np.random.default_rng(1)

        def leaf(path, x):
            if not isinstance(x, jax.ShapeDtypeStruct):
                return x
            low = {"scale": 0.5, "var": 1.5}.get(path[-1].key, -0.5)
            return rng.uniform(low, low + 1, x.shape).astype(np.float32)

        values = jax.tree_util.tree_map_with_path(leaf, he_kernels(dict(shapes)))
        return Weights(spec, values["params"], p.to_json(), values.get("batch_stats", {}))

    return make


@pytest.fixture(scope="session")
def predicted():
    """(uint8 canvases, {"logits", "probability", "label"}) by the steps that `predict` takes."""

    def predict(weights, batch):
        p = Preprocessing.from_json(weights.preprocessing)
        shape = (batch, p.canvas, p.canvas, 3)
        images = np.random.default_rng(batch).integers(0, 256, shape, dtype=np.uint8)
        state = TrainState(
            step=jnp.int32(0),
            params=weights.params,
            model_state={"batch_stats": weights.batch_stats},
            opt_state=None,
            ema=None,
            seed=jnp.uint32(0),
        )
        task = classification(AlexNet(weights.spec))

        @jax.jit
        def step(state, batch):
            variables = {"params": state.params, **state.model_state}
            logits = task.net.apply(variables, preprocess(batch, p)["image"])
            return {
                **predict_canvas(state, batch, task=task, preprocessing=p),
                "logits": logits,
            }

        return images, jax.device_get(step(state, {"image": images}))

    return predict
