"""ONNX by another engine, onnxruntime, gives what our network gives on the same pixels."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from alexnet_jax.export.onnx_graph import write_onnx
from alexnet_jax.models.spec import ResponseNorm, spec


def answers(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, probability = session.run(["logits", "probability"], {"image": images})
    return {"logits": logits, "probability": probability}


NARROW = {"num_classes": 5, "width": 1 / 8, "dense": (128, 64)}
# Large values where a response norm has to keep them down.
LARGE = {"std": (4.0, 3.0, 5.0)}
NETS = {
    "small": ({}, {}),
    "notes_224": (NARROW, {"canvas": 231}),
    "one_weird_trick": (NARROW, {}),
    "bvlc_alexnet": (NARROW, LARGE),
    "caffenet": (NARROW, LARGE),
    "batchnorm": (NARROW, {}),
    "original_2012": (NARROW, LARGE),
}


@pytest.mark.parametrize("name", NETS)
def test_named_specs(name, random_weights, predicted, tmp_path):
    changes, preprocessing = NETS[name]
    weights = random_weights(spec(name, **changes), **preprocessing)
    write_onnx(weights, tmp_path / "net.onnx")
    for batch in (1, 3):
        images, expected = predicted(weights, batch)
        got = answers(tmp_path / "net.onnx", images)
        np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)
        np.testing.assert_allclose(got["logits"], expected["logits"], atol=1e-4, rtol=1e-4)
        assert np.ptp(got["probability"], axis=1).min() > 0.01  # it says something


SHORT = {"num_classes": 3, "width": 1 / 8, "image_size": 40}


@pytest.mark.parametrize(
    "changes",
    [
        *({"activation": a} for a in ("tanh", "sigmoid", "elu", "leaky_relu", "gelu", "silu")),
        {"activation": "identity"},
        {"normalization": "layer", "dense_normalization": True},
        {"normalization": "group", "norm_position": "after", "dense_normalization": True},
        {
            "normalization": "local_response",
            "response_norm": ResponseNorm(size=3, alpha=0.5, k=1.5, towers=2),
            "dense_normalization": True,
        },
        {"depth": 2, "dense": (), "dropout": ()},
    ],
    ids=lambda changes: " ".join(map(str, changes.values()))[:30],
)
def test_every_part_of_a_spec(changes, random_weights, predicted, tmp_path):
    weights = random_weights(spec("small", **SHORT | changes))
    write_onnx(weights, tmp_path / "net.onnx")
    images, expected = predicted(weights, 2)
    got = answers(tmp_path / "net.onnx", images)
    np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)
    np.testing.assert_allclose(got["logits"], expected["logits"], atol=1e-4, rtol=1e-4)


def test_the_canvas_is_cropped_and_turned_to_bgr(random_weights, predicted, tmp_path):
    """An odd margin: the crop rounds to the top left."""
    preprocessing = {"canvas": 47, "size": 40, "channels": "bgr"}
    weights = random_weights(spec("small", **SHORT), **preprocessing)
    write_onnx(weights, tmp_path / "net.onnx")
    images, expected = predicted(weights, 2)
    assert images.shape == (2, 47, 47, 3)
    got = answers(tmp_path / "net.onnx", images)
    np.testing.assert_allclose(got["probability"], expected["probability"], atol=1e-5)


def test_the_file_says_what_it_is(random_weights, tmp_path):
    weights = random_weights(spec("small", **SHORT), canvas=44)
    write_onnx(dataclasses.replace(weights, classes=("a", "b", "rød")), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    dims = image.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch" and [d.dim_value for d in dims[1:]] == [44, 44, 3]
    (about,) = (json.loads(p.value) for p in model.metadata_props if p.key == "alexnet_jax")
    assert about["classes"] == ["a", "b", "rød"] and about["preprocessing"]["size"] == 40
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]  # no temporary file is left


def test_what_onnx_cannot_hold_is_refused(random_weights, tmp_path, monkeypatch):
    norm = {"normalization": "local_response", "response_norm": ResponseNorm(size=4)}
    weights = random_weights(spec("small", **SHORT | norm))
    with pytest.raises(ValueError, match=r"size is 4.*odd size.*export \.stablehlo"):
        write_onnx(weights, tmp_path / "net.onnx")
    monkeypatch.setattr("alexnet_jax.export.onnx_graph.LIMIT", 2**20 + 2**10)
    with pytest.raises(ValueError, match=r"parameters take [\d,]+ bytes.*export \.stablehlo"):
        write_onnx(random_weights(spec("small", **SHORT)), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"pip install 'alexnet_jax\[export\]'"):
        write_onnx(weights, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
