"""save_pretrained and from_pretrained: there and back, to the bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from alexnet_jax.models.spec import spec
from alexnet_jax.restored import load
from alexnet_jax.weights import from_pretrained, of_run, save_pretrained

RUN = Path(__file__).parents[1] / "train" / "format_1" / "run"
NARROW = spec("one_weird_trick", width=1 / 16, dense=(64, 48), num_classes=3)


def assert_same(a, b):
    assert (a.spec, a.preprocessing, a.classes) == (b.spec, b.preprocessing, b.classes)
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    jax.tree.map(np.testing.assert_array_equal, a.batch_stats, b.batch_stats)


def test_a_run_there_and_back(tmp_path):
    run = load(RUN)
    save_pretrained(of_run(run), tmp_path / "new" / "folder", run)
    names = {p.name for p in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"model.npz", "config.json", "README.md"}
    assert_same(from_pretrained(tmp_path / "new" / "folder"), of_run(run))
    card = (tmp_path / "new" / "folder" / "README.md").read_text("utf-8")
    assert "tiny on two/colours" in card and "### `model.npz`" in card


def test_torchvisions_layout_where_it_will_do(random_weights, tmp_path):
    weights = dataclasses.replace(random_weights(NARROW, canvas=256), classes=("a", "b", "c"))
    save_pretrained(weights, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert_same(from_pretrained(tmp_path), weights)
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(arrays["classifier.6.weight"], weights.params["head"]["kernel"].T)


def test_config_json_is_what_holds(random_weights, tmp_path):
    """Another network in the same folder: the file of the one before is not read."""
    save_pretrained(random_weights(NARROW), tmp_path)
    small = random_weights(spec("small", num_classes=2, width=1 / 4))
    save_pretrained(small, tmp_path)
    assert_same(from_pretrained(tmp_path), small)
    config = json.loads((tmp_path / "config.json").read_text())
    config["classes"] = ["bus", "car"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert from_pretrained(tmp_path).classes == ("bus", "car")


def test_what_is_wrong_is_told(random_weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist; expected a folder"):
        from_pretrained(tmp_path)
    save_pretrained(random_weights(spec("small", num_classes=2, width=1 / 4)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes, said in (
        ({"weights": "../else.npz"}, r"config\.json: weights is '\.\./else\.npz'; expected model"),
        ({"spec": config["spec"] | {"activation": "tanh"}}, r"its spec is not that of model\.npz"),
        ({"format": 99}, "newer"),
        ({"spec": None}, "not one of ours"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ValueError, match=said):
            from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.npz"):
        from_pretrained(tmp_path)
