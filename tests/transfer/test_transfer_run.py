"""A transfer run from outside: it keeps what its source was, and tells how it is compared."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax import cache, finish
from alexnet_jax.cli import main
from alexnet_jax.config import Config
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.transfer.initial import given
from alexnet_jax.weights import Weights, write

RUN = Path(__file__).parents[1] / "train" / "format_1" / "run"
SPEC = spec("small", num_classes=5, width=0.25)


@pytest.fixture
def told(monkeypatch, tmp_path, capsys):
    """Runs a command as it is told, python -m alexnet_jax ...; (status, all that it printed)."""
    monkeypatch.setattr(cache, "keep_compiled", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(command):
        status = main(shlex.split(command)[3:])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.fixture
def weights(tmp_path, he_kernels):
    """A file of the parameters of a network for five classes."""
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(AlexNet(SPEC).init, jax.random.key(0), images)["params"]
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    prepared = Preprocessing(32, 32, Config().input.mean, (1.0, 2.0, 3.0)).to_json()
    made = Weights(SPEC, he_kernels(zeros), prepared, classes=tuple("abcde"))
    write(made, tmp_path / "given.npz")
    return tmp_path / "given.npz"


@pytest.fixture
def pictures(tmp_path, write_pictures):
    rng = np.random.default_rng(0)
    counts = {"train": 6, "val": 3, "test": 3}
    noise = lambda _: rng.integers(0, 256, (36, 40, 3), np.uint8)  # noqa: E731
    write_pictures(tmp_path / "my pictures", counts, ("cat", "dog"), noise)
    return "my pictures"


def report(run):
    document = Path(run, "report.html").read_text(encoding="utf-8")
    return document, " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())


@pytest.mark.slow
def test_a_transfer_run_is_compared_by_the_commands_it_tells(told, pictures, weights, monkeypatch):
    train = (
        f"python -m alexnet_jax train folder --data '{pictures}' --spec small --model.width 0.25 "
        "--input.size 32 --batch-size 4 --epochs 1 --run-dir runs/tuned --init given.npz "
        "--transfer.freeze pool5 --model.kernel-init zeros --run.precision exact "
        "--augment.crop center --augment.flip 0 --model.dropout-rate 0"
    )
    status, text = told(f"{train} --transfer.against runs/none")
    assert status == 1
    assert "transfer.against is 'runs/none', which does not exist; expected the folder" in text
    assert not Path("runs").exists()

    status, text = told(train)
    assert status == 0, text
    weights.unlink()  # what is told of it was kept
    document, text = report("runs/tuned")
    assert "parameters of given.npz network small classes 5: a, b, c, d, e" in text
    assert "the head, of another number of classes, stays at its initialization." in text
    assert "note: they were trained with std [1.0, 2.0, 3.0]" in text
    scratch, compare = (
        html.unescape(command) for command in re.findall(r"<pre>(python.*?)</pre>", document)[:2]
    )
    assert "--init" not in scratch and "--transfer" not in scratch

    status, text = told(scratch)
    assert status == 0, text
    assert "Transfer" not in report("runs/tuned_scratch")[1]
    assert not Path("runs/tuned_scratch/init.json").exists()

    def read_again(*_):
        raise AssertionError("a split is evaluated again")

    monkeypatch.setattr(finish, "evaluate_split", read_again)
    monkeypatch.setattr(finish, "predict_split", read_again)
    before = Path("runs/tuned/results.json").read_bytes()
    mistakes = report("runs/tuned")[1].count(".png")
    status, text = told(compare)
    assert status == 0, text
    assert "test: " in text and "report: runs/tuned/report.html" in text
    assert Path("runs/tuned/results.json").read_bytes() == before
    _, text = report("runs/tuned")
    assert "parameters of given.npz" in text
    assert "this run runs/tuned_scratch" in text  # the legend
    for name, run in {"This run": "tuned", "runs/tuned_scratch": "tuned_scratch"}.items():
        kept = json.loads(Path("runs", run, "results.json").read_text())
        counts = np.array(kept["confusion"]["counts"])
        assert kept["confusion"]["classes"] == ["cat", "dog"]
        assert counts.sum(axis=1).tolist() == [3, 3]
        assert kept["splits"]["test"]["correct"] == np.trace(counts)
        assert f"{name}: {np.trace(counts)} of 6 right. Split: test." in text
    assert text.count(".png") == mistakes


def test_what_is_known_of_a_run_is_told_with_its_parameters():
    facts = given(str(RUN)).about
    assert facts == {
        "from": str(RUN / "checkpoints" / "2"),
        "spec": "tiny",
        "classes": ["green thing", "rød"],
        "data": "two/colours",
        "best": {Config().stopping.monitor: 0.75},
    }
