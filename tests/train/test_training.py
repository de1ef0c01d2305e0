"""The main job from outside: real processes on a small folder of pictures."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import training
from alexnet_jax.config import Config, Input, Model, Run
from alexnet_jax.parts import make_update
from alexnet_jax.train.checkpoint import load_arrays
from alexnet_jax.train.loop import NonFiniteLoss

OPTIONS = [
    *("--input.size", "32", "--batch-size", "8", "--epochs", "4", "--patience", "50"),
    *("--model.dropout-rate", "0.3", "--augment.crop", "random", "--augment.pad", "2"),
    *("--optimizer.ema", "0.9", "--run.evaluate-every", "24 examples"),
]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """These processes are killed, which may leave half a program: other tests must not read it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, write_pictures):
    """Red against green, with noise: train 2 x 22, validation 2 x 9, test 2 x 7."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)

    def tinted(channel):
        pixels = rng.integers(0, 256, (36, 40, 3))
        pixels[..., 1 - channel] = np.minimum(pixels[..., 1 - channel] + 25, 255)
        return pixels

    write_pictures(folder, {"train": 22, "val": 9, "test": 7}, ("green thing", "rød"), tinted)
    return folder


def command(pictures, run, *more):
    base = [sys.executable, "-m", "alexnet_jax", "train", "folder", "--spec", "small"]
    return [*base, "--data", str(pictures), "--run-dir", str(run), *OPTIONS, *more]


def call(*arguments, **keywords):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, **keywords)


def alexnet(*arguments):
    return call(sys.executable, "-m", "alexnet_jax", *map(str, arguments))


def outcome(run):
    facts = json.loads(alexnet("inspect", run, "--format", "json").stdout)
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    timeless = [{k: v for k, v in r.items() if not k.startswith("time/")} for r in rows]
    return facts["sha256"], facts["steps"], timeless


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it was to be stopped"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "alone"
    done = call(*command(pictures, run))
    assert done.returncode == 0, done.stderr
    return run, done


def test_leaves_what_it_promises(finished, pictures):
    run, done = finished
    for name in ("config.json", "environment.json", "metrics.csv", "log.txt", "report.html"):
        assert (run / name).stat().st_size > 0
    assert list(run.glob("events.*"))
    assert "report.html" in done.stdout
    assert f"small on {pictures.name}: train 44, validation 18, test 14\n" in done.stdout
    assert done.stderr == ""
    results = json.loads((run / "results.json").read_text())
    assert results["splits"]["test"]["count"] == 14
    assert results["splits"]["validation"]["count"] == 18


@pytest.mark.slow
def test_thawed_in_stages_and_gone_on_with_at_a_border_it_ends_in_the_same_bits(pictures, tmp_path):
    plan = ("--transfer.freeze", "pool5", "pool1 after 6 steps", "none after 12 steps")
    options = ("--run.evaluate-every", "8 examples", "--optimizer.momentum", "0.9", *plan)
    alone, again = tmp_path / "alone", tmp_path / "again"
    done = call(*command(pictures, alone, *options))
    assert done.returncode == 0, done.stderr
    for line in ("From step 7 on, everything up to pool1", "From step 13 on, nothing is frozen"):
        assert line in done.stdout

    assert call(*command(pictures, again, *options, "--epochs", "1")).returncode == 0  # 6 steps
    backbone = load_arrays(again / "checkpoints", 6)["opt_state"]["inner"]["backbone"]
    assert not any(backbone.get("conv1", {}).values()) and backbone["fc6"]["kernel"].any()
    done = call(*command(pictures, again, *options))
    assert "From step 7 on" in done.stdout and done.returncode == 0, done.stderr
    assert outcome(again) == outcome(alone)
    moved = load_arrays(alone / "checkpoints", 22)["opt_state"]["inner"]["backbone"]
    assert moved["conv1"]["kernel"].any()


def test_the_report_tells_how_to_go_on_with_more_epochs(finished):
    run, _ = finished
    page = (run / "report.html").read_text(encoding="utf-8")
    told = [line for line in page.splitlines() if "--epochs 8" in line]
    assert len(told) == 1 and "--epochs 4" not in told[0]


def test_evaluate_finds_the_counts_of_metrics_csv(finished, pictures):
    run, _ = finished
    results = json.loads((run / "results.json").read_text())
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        best = next(r for r in csv.DictReader(file) if int(r["step"]) == results["best_step"])
    printed = alexnet("evaluate", run, "--split", "validation").stdout
    assert f"correct  {best['validation/correct']} of {best['validation/count']}" in printed


def test_resumed_after_kills_it_ends_in_the_same_bits(finished, pictures, tmp_path):
    """Killed during training, and right when the next evaluation has been written."""
    run = tmp_path / "killed"
    for rows in (2, 3):
        process = subprocess.Popen(command(pictures, run), stdout=subprocess.DEVNULL)
        metrics = run / "metrics.csv"
        wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > rows, process)  # noqa: B023
        process.kill()
        process.wait()
    # What a kill can leave behind at worst: half a row.
    with open(run / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("99,1.2")
    done = call(*command(pictures, run))
    assert done.returncode == 0, done.stderr
    assert "Going on from step" in done.stdout
    assert outcome(run) == outcome(finished[0])


@pytest.mark.slow
def test_a_request_to_stop_saves_and_tells_how_to_go_on(finished, pictures, tmp_path):
    run = tmp_path / "stopped"
    process = subprocess.Popen(command(pictures, run), stdout=subprocess.PIPE, text=True)
    wait_for((run / "metrics.csv").exists, process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "python -m alexnet_jax train folder" in said
    done = call(*command(pictures, run))
    assert done.returncode == 0, done.stderr
    assert outcome(run)[::2] == outcome(finished[0])[::2]


@pytest.mark.slow
def test_a_second_process_is_refused(pictures, tmp_path):
    run = tmp_path / "busy"
    first = subprocess.Popen(command(pictures, run, "--epochs", "500"), stdout=subprocess.DEVNULL)
    try:
        wait_for((run / "metrics.csv").exists, first)
        second = call(*command(pictures, run, "--epochs", "500"))
        assert second.returncode == 1
        assert f"pid {first.pid}" in second.stderr
    finally:
        first.kill()
        first.wait()


def test_a_finished_run_is_told_and_goes_on_with_more_epochs(finished, pictures, tmp_path):
    run, _ = finished
    before = (run / "metrics.csv").read_bytes()
    again = call(*command(pictures, run))
    assert again.returncode == 0
    assert "report.html" in again.stdout
    assert (run / "metrics.csv").read_bytes() == before


def test_other_settings_are_refused_field_by_field(finished, pictures):
    run, _ = finished
    # The width makes other arrays, too.
    more = ("--optimizer.momentum", "0.5", "--seed", "3", "--model.width", "0.5")
    refused = call(*command(pictures, run, *more))
    assert refused.returncode == 1
    for said in ("optimizer.momentum: 0.9 -> 0.5", "seed: 0 -> 3", "model.width: None -> 0.5"):
        assert said in refused.stderr
    assert "--fresh" in refused.stderr


@pytest.mark.slow
def test_a_non_finite_loss_names_step_rate_and_last_checkpoint(pictures, tmp_path):
    run = tmp_path / "diverged"
    failed = call(*command(pictures, run, "--learning-rate", "1e30", "--optimizer.clip", "None"))
    assert failed.returncode == 1
    assert "learning rate 1e+30" in failed.stderr
    assert "at step" in failed.stderr
    assert "checkpoint" in failed.stderr or "nothing was saved" in failed.stderr


@pytest.mark.slow
def test_the_last_checkpoint_is_named_also_where_it_is_still_being_written(
    pictures, tmp_path, monkeypatch, caplog
):
    def nothing_after_two(parts, number, state, batch):
        state, metrics = make_update(parts, number, state, batch)
        return state, metrics | ({"objective": np.nan} if number == 3 else {})

    monkeypatch.setattr(training, "make_update", nothing_after_two)
    config = Config(
        data=str(pictures),
        run_dir=str(tmp_path / "run"),
        batch_size=8,
        model=Model(width=0.1),
        input=Input(size=32),
        run=Run(evaluate_every="1 step"),
    )
    with pytest.raises(NonFiniteLoss, match=r"at step 3 .*the last good checkpoint is of step 2"):
        training.train(config, "train")
    # Too few examples to tell of dead units: no figure, of which TensorBoard's writer would warn.
    assert "NaN" not in caplog.text


@pytest.mark.slow
def test_predict_ranks_the_classes_of_a_picture(finished, pictures, tmp_path):
    run, _ = finished
    picture = pictures / "test" / "rød" / "0.png"
    answer = json.loads(alexnet("predict", run, picture, "--format", "json").stdout)
    assert answer[0]["image"] == str(picture)
    shares = [p["probability"] for p in answer[0]["predictions"]]
    assert sorted(shares, reverse=True) == shares
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert {p["class"] for p in answer[0]["predictions"]} == {"green thing", "rød"}
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("text")
    for arguments, told in (
        (["no such.jpg"], ["no such.jpg"]),
        ([picture.parent], ["is a folder; expected picture files"]),
        ([tmp_path / "empty.png", picture, tmp_path / "text.png"], ["empty.png: ", "text.png: "]),
        ([picture, "--out", tmp_path], ["of classification nothing is drawn"]),
    ):
        refused = alexnet("predict", run, *arguments)
        assert refused.returncode == 1
        assert all(words in refused.stderr for words in told)
        assert len(refused.stderr.splitlines()) == 1


def test_unreadable_pictures_are_skipped_up_to_the_limit(pictures, tmp_path):
    data = tmp_path / "data"
    call("cp", "-r", str(pictures), str(data))
    (data / "train" / "rød" / "0.png").write_bytes(b"<html>not a picture</html>")
    run = tmp_path / "run"
    refused = call(*command(data, run))
    assert refused.returncode == 1
    assert os.path.join("rød", "0.png") in refused.stderr
    assert "--input.bad-images" in refused.stderr
    broken = data / "val" / "rød" / "1.png"
    kept = broken.read_bytes()
    broken.write_bytes(b"no picture")
    refused = call(*command(data, tmp_path / "none", "--input.bad-images", "0.1"))
    assert refused.returncode == 1 and "evaluation counts every example" in refused.stderr
    assert not (tmp_path / "none").exists()  # told before anything is trained
    broken.write_bytes(kept)
    done = call(*command(data, run, "--input.bad-images", "0.1", "--epochs", "1"))
    assert done.returncode == 0, done.stderr
    assert "0.png" in Path(run / "report.html").read_text()
    assert "1 of 44 training images cannot be read" in (run / "log.txt").read_text()


@pytest.mark.parametrize("memory", ["1", "0"])
def test_an_unreadable_picture_of_test_is_told_before_training(pictures, tmp_path, memory):
    """After it, the run could not end: with the picture mended its data would be others."""
    data, run = tmp_path / "data", tmp_path / "run"
    call("cp", "-r", str(pictures), str(data))
    (data / "test" / "rød" / "0.png").write_bytes(b"")
    refused = call(*command(data, run, "--input.memory", memory))
    assert refused.returncode == 1
    assert os.path.join("rød", "0.png") in refused.stderr
    assert "epoch" not in refused.stdout
