"""Checkpoints of every format are read for ever: what lies in format_1 must come back.

The logits are computed by NumPy alone, from the arrays as they lie there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax.config import Config, Input, Optimizer
from alexnet_jax.data.preprocess import normalize
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.restored import load
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train.checkpoint import Checkpoints, load_arrays, read_meta
from alexnet_jax.train.early_stopping import Stopper, from_json
from alexnet_jax.train.state import init_state

RUN = Path(__file__).parent / "format_1" / "run"
IMAGES = (np.arange(2 * 40 * 40 * 3) * 37 % 251).reshape(2, 40, 40, 3).astype(np.uint8)


def windows(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """[B, H, W, C] -> [B, H', W', C, size, size]."""
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return view[:, ::stride, ::stride]


def numpy_logits(params: dict, stats: dict, spec: dict, x: np.ndarray) -> np.ndarray:
    """The forward pass that the spec in the checkpoint describes, in float64."""
    for i, conv in enumerate(spec["convs"], 1):
        layer = params["backbone"][f"conv{i}"]
        x = np.pad(x, ((0, 0), conv["padding"], conv["padding"], (0, 0)))
        view = windows(x, conv["kernel"], conv["stride"])
        parts = zip(
            np.split(view, conv["groups"], axis=3),
            np.split(layer["kernel"], conv["groups"], axis=3),
            strict=True,
        )
        x = np.concatenate([np.einsum("bhwcij,ijcf->bhwf", v, k) for v, k in parts], axis=-1)
        x = x + layer.get("bias", 0.0)
        for step in conv["then"]:
            if step == "normalization":
                norm, seen = params["backbone"][f"norm{i}"], stats["backbone"][f"norm{i}"]
                x = (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5) * norm["scale"] + norm["bias"]
            elif step == "activation":
                x = np.maximum(x, 0)
            else:
                x = windows(x, 3, 2).max(axis=(-2, -1))
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        x = np.maximum(x @ params["backbone"][name]["kernel"] + params["backbone"][name]["bias"], 0)
    return x @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    arrays, meta = load_arrays(RUN / "checkpoints", 2), read_meta(RUN / "checkpoints", 2)
    p = meta["preprocessing"]
    x = (IMAGES - np.array(p["mean"])) / np.array(p["std"])
    return numpy_logits(arrays["ema"], arrays["model_state"]["batch_stats"], meta["spec"], x)


def test_its_bytes_are_those_that_were_written():
    arrays = load_arrays(RUN / "checkpoints", 2)
    sha = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(arrays):
        sha.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode() + x.tobytes())
    assert sha.hexdigest() == ("b866479d916072eda14d34ce1d54c8b7cd65d4921d6acf685a39ec2800b78892")


def test_its_meta_has_all_that_use_elsewhere_needs():
    meta = read_meta(RUN / "checkpoints", 2)
    assert meta["format"] == 1
    assert meta["task"] == "classification"
    assert meta["classes"] == ["green thing", "rød"]
    assert meta["evaluated"] == "ema"
    assert meta["preprocessing"]["channels"] == "rgb"
    assert (meta["preprocessing"]["size"], meta["preprocessing"]["canvas"]) == (40, 44)
    assert meta["position"] == {"step": 2, "examples": 16}
    assert meta["running"] == {"loss": [0.1 + 0.2, 8.0]}
    assert meta["best_step"] == 2
    assert meta["data"] == {"name": "two/colours", "version": "1", "fingerprint": "00ff"}
    assert meta["bad_images"] == {"train/rød/0.png": "empty file"}
    assert from_json(meta["stopper"]) == Stopper("max", 3, best=0.75, best_step=2, evaluations=2)
    assert set(meta) >= {"config", "plateau", "versions", "devices", "crc32", "spec"}


def test_it_loads_as_the_network_it_was(expected):
    restored = load(RUN)
    assert restored.classes == ("green thing", "rød")
    assert restored.config == Config(
        data="two/colours",
        batch_size=8,
        patience=3,
        optimizer=Optimizer(momentum=0.9, l2=5e-4, ema=0.5, rules=("^head/ lr_mult=2",)),
        input=Input(canvas=44, size=40),
    )
    state = restored.state
    logits = restored.task.net.apply(
        {"params": state.ema, **state.model_state}, normalize(IMAGES, restored.preprocessing)
    )
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_training_goes_on_from_it(expected, tmp_path):
    """Into the state that today's code makes, leaf by leaf."""
    shutil.copytree(RUN / "checkpoints", tmp_path / "checkpoints")
    restored = load(RUN)
    task = classification(AlexNet(restored.task.net.spec))
    tx = optimizer("sgd", learning_rate=0.01, momentum=0.9, l2=5e-4, ema=0.5)
    target = jax.eval_shape(lambda: init_state(seed=0, task=task, tx=tx, image_shape=(40, 40, 3)))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(target)
    assert (int(state.step), int(state.opt_state.count), int(state.seed)) == (2, 2, 7)
    assert float(state.opt_state.hyper["momentum"]) == np.float32(0.9)
    moved = state.opt_state.inner["head"]["kernel"]
    np.testing.assert_array_equal(
        moved, load_arrays(RUN / "checkpoints", 2)["opt_state"]["inner"]["head"]["kernel"]
    )
    assert np.abs(moved).max() > 0


def test_its_arrays_are_read_without_the_code_of_any_network(own_process):
    """As NumPy arrays, where models, tasks and what trains them cannot be imported."""
    shapes = own_process(f"""
import json, sys, types
import jax
package = types.ModuleType("alexnet_jax")
package.__path__ = [{str(Path(load.__code__.co_filename).parent)!r}]
sys.modules["alexnet_jax"] = package
for name in ("models", "tasks", "config", "training", "train.state", "optim.chain"):
    sys.modules["alexnet_jax." + name] = None
from alexnet_jax.train.checkpoint import load_arrays
arrays = load_arrays({str(RUN / "checkpoints")!r}, 2)
assert {{type(x).__name__ for x in jax.tree.leaves(arrays)}} == {{"ndarray"}}
print(json.dumps(jax.tree.map(lambda x: list(x.shape), arrays["params"]["head"])))
""")
    assert shapes == {"bias": [2], "kernel": [8, 2]}


def test_its_config_file_says_the_same():
    written = json.loads((RUN / "config.json").read_text(encoding="utf-8"))
    assert written == read_meta(RUN / "checkpoints", 2)["config"]
