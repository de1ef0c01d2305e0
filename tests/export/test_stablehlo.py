"""The program goes where JAX goes, without the network's code, and answers as `predict` does."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from alexnet_jax.export.stablehlo import PLATFORMS, load, program, write_stablehlo
from alexnet_jax.models.spec import spec

NARROW = {"num_classes": 5, "width": 1 / 8, "dense": (128, 64)}


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
