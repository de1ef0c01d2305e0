"""The program goes where JAX goes, without the network's code, and answers as `predict` does."""

from __future__ import annotations

import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.skeleton import MIRRORED_JOINTS
from alexnet_jax.export.stablehlo import PLATFORMS, load, program, write_stablehlo
from alexnet_jax.models.deep_pose import DeepPose
from alexnet_jax.models.detector import Detector, without_dense
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.spec import spec
from alexnet_jax.tasks.detection import detection
from alexnet_jax.tasks.pose import pose
from alexnet_jax.tasks.segmentation import segmentation
from alexnet_jax.train.canvas import predict_canvas
from alexnet_jax.train.state import TrainState
from alexnet_jax.weights import Weights, read

NARROW = {"num_classes": 5, "width": 1 / 8, "dense": (128, 64)}


SHORT = {"width": 1 / 8, "image_size": 40}
TASKS = {
    "detection": lambda: detection(Detector(without_dense(spec("small", num_classes=3, **SHORT)))),
    "segmentation": lambda: segmentation(
        FCN(spec("small", num_classes=4, **SHORT), skips=("conv2", "conv1"), refine=8)
    ),
    "heat maps": lambda: pose(
        FCN(spec("small", num_classes=14, **SHORT), skips=("pool1",), pixels=False)
    ),
    "mirrored heat maps": lambda: pose(
        FCN(
            spec("small", num_classes=14, **SHORT),
            skips=("conv5",),
            pixels=False,
            refine=8,
            context=True,
            mirrored=MIRRORED_JOINTS,
        )
    ),
    "regression": lambda: pose(DeepPose(spec("small", num_classes=28, **SHORT))),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_tasks_program_answers_as_predict_does(name, he_kernels, tmp_path):
    """Crop and normalization inside, for any batch; parameters as spread as after training."""
    task, p = TASKS[name](), Preprocessing(44, 40, (120.0, 110.0, 100.0), (60.0, 50.0, 70.0))
    shapes, _ = jax.eval_shape(lambda: task.init(jax.random.key(0), (40, 40, 3)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: x if isinstance(x, np.ndarray) else rng.uniform(-0.5, 0.5, x.shape),
        he_kernels(shapes),
    )
    params = jax.tree.map(np.float32, params)
    if name == "detection":
        params["boxes"]["size"]["bias"] += 4  # of the map's steps: most boxes have an area
    weights = Weights(task.net.spec, params, p.to_json(), task=task.name)
    write_stablehlo(weights, tmp_path / "net.stablehlo", task)
    assert set(re.findall(r"custom_call @(\w+)", program(weights, task).mlir_module())) <= {
        "shape_assertion"
    }
    call = load(tmp_path / "net.stablehlo")
    state = TrainState(jnp.int32(0), params, {}, None, None, jnp.uint32(0))
    step = jax.jit(partial(predict_canvas, task=task, preprocessing=p))
    for batch in (1, 3):
        images = np.random.default_rng(batch).integers(0, 256, (batch, 44, 44, 3), dtype=np.uint8)
        got, expected = call(images), jax.device_get(step(state, {"image": images}))
        assert got.keys() == expected.keys()
        for key, values in expected.items():
            assert got[key].dtype == values.dtype and np.ptp(values.astype(float)) > 0.1
            if values.dtype == np.float32:  # pixels up to 40, or probabilities
                np.testing.assert_allclose(got[key], values, atol=1e-5, rtol=1e-5, err_msg=key)
            else:  # near a tie, rounding decides
                assert (got[key] != values).mean() < 1e-3, key
    with pytest.raises(ValueError, match=rf"holds the parameters of a program for {task.name}"):
        read(tmp_path / "net.npz")


@pytest.fixture(scope="module")
def weights(random_weights):
    return random_weights(spec("small", num_classes=3, width=1 / 4), canvas=69, channels="bgr")


@pytest.fixture(scope="module")
def written(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "net.stablehlo"
    write_stablehlo(weights, path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.npz", "net.stablehlo"]
    return path


@pytest.mark.parametrize("name", ["original_2012", "batchnorm"])
def test_named_specs(name, random_weights, predicted, tmp_path):
    weights = random_weights(spec(name, **NARROW))
    write_stablehlo(weights, tmp_path / "net.stablehlo")
    images, expected = predicted(weights, 2)
    got = load(tmp_path / "net.stablehlo")(images)
    np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)


def test_any_batch_of_bytes_or_numbers(weights, written, predicted):
    call = load(written)
    for batch in (1, 3):
        images, expected = predicted(weights, batch)
        for pixels in (images, images.astype(np.float32), images.tolist()):
            got = call(pixels)
            np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)
            np.testing.assert_array_equal(got["label"], expected["label"])
            assert got["probability"].dtype == np.float32 and got["label"].dtype == np.int32


def test_jax_alone_runs_it(weights, written, predicted, own_process, tmp_path):
    images, expected = predicted(weights, 3)
    np.save(tmp_path / "images.npy", images)
    source = f"""
import json, sys
import jax, jax.export, numpy as np, pathlib
program = jax.export.deserialize(bytearray(pathlib.Path({str(written)!r}).read_bytes()))
parameters = dict(np.load({str(written.with_suffix(".npz"))!r}))
del parameters["alexnet_jax"]
answer = program.call(parameters, np.load({str(tmp_path / "images.npy")!r}).astype(np.float32))
assert not {{"alexnet_jax", "flax"}} & set(sys.modules)
print(json.dumps({{name: value.tolist() for name, value in answer.items()}}))
"""
    got = own_process(source)
    np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)
    assert got["label"] == expected["label"].tolist()


def test_it_is_one_program_for_every_platform(weights):
    made = program(weights)
    assert made.platforms == PLATFORMS == ("cpu", "cuda", "tpu")
    calls = set(re.findall(r"custom_call @(\w+)", made.mlir_module()))
    assert calls <= {"shape_assertion"}  # on the batch; nothing that one of them lacks
    assert len(made.mlir_module_serialized) < 100_000  # no parameter is baked in


def test_what_is_no_program_is_told(written, tmp_path, monkeypatch, weights):
    with pytest.raises(FileNotFoundError, match=r"none\.stablehlo"):
        load(tmp_path / "none.stablehlo")
    whole = written.read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2]):
        (tmp_path / "net.stablehlo").write_bytes(content)
        (tmp_path / "net.npz").write_bytes(written.with_suffix(".npz").read_bytes())
        with pytest.raises(ValueError, match=r"net\.stablehlo: cut short, or no program"):
            load(tmp_path / "net.stablehlo")
    (tmp_path / "net.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"net\.npz"):
        load(tmp_path / "net.stablehlo")
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.delitem(sys.modules, "jax._src.export.serialization", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'alexnet_jax\[export\]'"):
        write_stablehlo(weights, tmp_path / "new.stablehlo")
    assert not list(tmp_path.glob("new*"))
