"""The command `export`, and the card that it leaves: each of its examples runs as it stands."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image

from alexnet_jax import cache
from alexnet_jax.cli import main
from alexnet_jax.export.card import write_card
from alexnet_jax.export.command import export
from alexnet_jax.export.stablehlo import load
from alexnet_jax.models.spec import spec
from alexnet_jax.weights import write

RUN = Path(__file__).parents[1] / "train" / "format_1" / "run"
NARROW = spec("one_weird_trick", width=1 / 16, dense=(64, 48), num_classes=3)


@pytest.fixture
def run(tmp_path):
    """The tiny run, as it would be after its end."""
    shutil.copytree(RUN, tmp_path / "run")
    figures = {"correct": 6, "count": 8, "top1": 0.75, "loss": 0.5}
    results = {"reason": "PATIENCE_EXHAUSTED", "best_step": 2, "last_step": 2}
    results["splits"] = {"validation": figures, "test": figures | {"correct": 5, "top1": 0.625}}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    return tmp_path / "run"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def examples(card: str) -> dict[str, str]:
    """{".onnx": code, ...} of a card."""
    found = re.findall(r"^### `\S+?(\.\w+)`\n.*?^```python\n(.*?)^```", card, re.M | re.S)
    return dict(found)


def test_every_format_answers_as_predict_does(run, out, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "keep_compiled", lambda: None)
    pixels = np.random.default_rng(0).integers(0, 256, (44, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    assert main(["predict", str(run), str(tmp_path / "picture.png"), "--format", "json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    expected = {p["class"]: p["probability"] for p in answer["predictions"]}
    expected = [expected["green thing"], expected["rød"]]  # the order of the classes

    for ending in ("stablehlo", "onnx"):
        assert main(["export", str(run), str(out / f"tiny.{ending}")]) == 0
        said = capsys.readouterr().out
        assert f"{run} -> {out / f'tiny.{ending}'}" in said and f"card: {out / 'README.md'}" in said
    got = load(out / "tiny.stablehlo")(pixels[None])["probability"]
    np.testing.assert_allclose(got, [expected], atol=1e-5)
    session = onnxruntime.InferenceSession(out / "tiny.onnx")
    (got,) = session.run(["probability"], {"image": pixels[None]})
    np.testing.assert_allclose(got, [expected], atol=1e-5)
    names = {"README.md", "tiny.npz", "tiny.onnx", "tiny.stablehlo"}
    assert {p.name for p in out.iterdir()} == names


def test_the_card_tells_what_the_run_was(run, out):
    export(str(run), str(out / "tiny.npz"))
    card = (out / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["library_name"] == "alexnet_jax" and front["metrics"] == ["accuracy"]
    assert "image-classification" in front["tags"]
    for fact in (
        "# tiny: tiny on two/colours",
        "Licence: not stated",
        "2: 0 green thing, 1 rød",
        "version 1, fingerprint 00ff",
        "short side scaled to 44",
        "the middle 40 x 40",
        "[123.675, 116.28, 103.53]",
        "- seed: 0",
        "- epochs, at most: 60",
        "- optimizer: sgd",
        "- momentum: 0.9",
        "- L2: 0.0005",
        "- checkpoint: step 2",
        "| validation | 6 of 8 | 75.00% | 0.5000 |",
        "| test | 5 of 8 | 62.50% | 0.5000 |",
    ):
        assert fact in body
    (written,) = re.findall(r"spec: `(.*)`", body)
    assert json.loads(written)["convs"][1]["groups"] == 2


def test_figures_of_another_checkpoint_are_not_told(run, out):
    results = json.loads((run / "results.json").read_text()) | {"best_step": 9}
    (run / "results.json").write_text(json.dumps(results))
    export(str(run), str(out / "tiny.npz"))
    card = (out / "README.md").read_text("utf-8")
    assert "75.00%" not in card and "## Results\n\nNot known." in card


def test_the_cards_examples_run(random_weights, out, monkeypatch, predicted):
    weights = random_weights(NARROW, canvas=230, size=224)
    source = out / "source.npz"
    write(weights, source)
    for ending in ("stablehlo", "onnx", "safetensors", "npz"):
        export(str(source), str(out / f"net.{ending}"))
    found = examples((out / "README.md").read_text("utf-8"))
    assert set(found) == {".stablehlo", ".onnx", ".safetensors", ".npz"}
    monkeypatch.chdir(out)
    values: dict[str, dict] = {}
    for ending, code in found.items():
        values[ending] = {"images": np.zeros((1, 224, 224, 3), np.float32)}
        exec(code, values[ending])
    black = np.asarray(values[".stablehlo"]["answer"]["probability"])
    np.testing.assert_allclose(values[".onnx"]["probability"], black, atol=1e-5)
    assert values[".safetensors"]["state"]["classifier.6.bias"].shape == (3,)
    assert values[".safetensors"]["weights"].spec == NARROW
    assert values[".npz"]["logits"].shape == (1, 3)


def test_nobodys_text_is_replaced(random_weights, out):
    weights = random_weights(spec("small", num_classes=3, width=1 / 4))
    other = random_weights(spec("small", num_classes=4, width=1 / 4))
    readme, second = out / "README.md", out / "net.md"
    assert write_card(weights, out / "net.npz") == readme
    assert write_card(weights, out / "net.onnx") == readme
    assert list(examples(readme.read_text())) == [".onnx", ".npz"]  # one card for both
    whole = readme.read_text()
    for edited in (whole.replace("Licence: not stated", "Licence: MIT"), whole + "\nBy me.\n"):
        readme.write_text(edited)
        second.unlink(missing_ok=True)
        assert write_card(weights, out / "net.npz") == second
    assert list(examples(second.read_text())) == [".npz"]
    kept = second.read_text()
    assert write_card(other, out / "net.npz") is None
    assert readme.read_text() == edited and second.read_text() == kept


@pytest.mark.parametrize(
    ("source", "target", "spec", "said"),
    [
        ("run", "net.h5", None, r"net\.h5: expected an ending of \.stablehlo, \.onnx"),
        ("run", "net.onnx", "small", "--spec is for files that do not"),
        ("run", "no/net.onnx", None, "no does not exist; make the folder first"),
        ("run", "net.safetensors", None, "torchvision's AlexNet cannot express"),
        ("nowhere", "net.onnx", None, "nowhere does not exist"),
        ("convs.npz", "net.onnx", None, "lacks fc6, fc7, head; only a whole network"),
        ("caffe.npz", "net.npz", None, "bvlc_alexnet and caffenet have the same layers"),
        ("bare.npz", "net.onnx", "small", "does not say how its images are to be prepared"),
    ],
)
def test_refusals(run, out, tmp_path, random_weights, monkeypatch, source, target, spec, said):
    if source == "convs.npz":
        arrays = {}
        sizes = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
        for i, (side, inputs, features) in enumerate(sizes, 1):
            arrays[f"conv{i}/kernel"] = np.zeros((side, side, inputs, features), np.float32)
            arrays[f"conv{i}/bias"] = np.zeros(features, np.float32)
        np.savez(tmp_path / source, **arrays)
    elif source == "caffe.npz":
        np.savez(tmp_path / source, **{"conv1.weight": np.zeros((96, 3, 11, 11), np.float32)})
    elif source == "bare.npz":
        from alexnet_jax.models.spec import spec as named
        from alexnet_jax.weights.own import to_arrays

        np.savez(tmp_path / source, **to_arrays(random_weights(named("small"))))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        export(str(tmp_path / source), str(out / target), spec)
    assert not list(out.iterdir())


def test_the_source_is_not_replaced_by_the_programs_parameters(random_weights, out):
    write(random_weights(spec("small")), out / "net.npz")
    with pytest.raises(ValueError, match=r"would replace .*net\.npz; choose another name"):
        export(str(out / "net.npz"), str(out / "net.stablehlo"))
    assert [p.name for p in out.iterdir()] == ["net.npz"]


def test_without_onnx_the_command_names_the_extra(run, out, monkeypatch, capsys):
    monkeypatch.setattr(cache, "keep_compiled", lambda: None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(run), str(out / "net.onnx")]) == 1
    assert "pip install 'alexnet_jax[export]'" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_help_tells_the_endings(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    for option in ("RUN|FILE", "OUT", ".stablehlo", ".onnx", "--spec"):
        assert option in said
