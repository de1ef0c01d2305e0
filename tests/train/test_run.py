"""The run folder: one process at a time, no row twice or lost, and what it leaves can be read."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_jax.config import Config
from alexnet_jax.train.environment import environment
from alexnet_jax.train.progress import Progress, describe
from alexnet_jax.train.run import RunFolder, RunLockedError, interruptible, refuse_busy
from alexnet_jax.training import train

HOLD = """
import sys, time
from alexnet_jax.train.run import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_second_process_is_refused_and_the_lock_dies_with_its_holder(tmp_path):
    with hold(tmp_path) as holder:
        try:
            with pytest.raises(RunLockedError) as refusal, RunFolder(tmp_path).lock():
                pass
            message = str(refusal.value)
            assert f"pid {holder.pid} on {os.uname().nodename}, started 20" in message
            assert str(tmp_path) in message
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    with RunFolder(tmp_path).lock():  # the file of the killed holder is still there, its lock not
        assert f"pid {os.getpid()} on" in (tmp_path / "lock").read_text()
    with RunFolder(tmp_path).lock():  # and a holder that ended well leaves the folder free too
        pass


def test_a_busy_folder_is_refused_before_any_data_is_looked_for(tmp_path):
    config = Config(data=str(tmp_path / "missing"), run_dir=str(tmp_path / "run"))
    refuse_busy(config.run_dir)
    assert not (tmp_path / "run").exists()
    with RunFolder(config.run_dir).lock(), pytest.raises(RunLockedError, match="in use by pid"):
        train(config, "train")
    with pytest.raises(FileNotFoundError, match="missing"):
        train(config, "train")


def test_metrics_are_a_plain_csv_with_one_header(tmp_path):
    run = RunFolder(tmp_path / "new" / "run")
    run.append({"step": 10, "train/loss": 0.1, "time/train": 2.0})
    run.append(
        {"time/train": np.float64(3.5), "train/loss": np.float32(0.25), "step": np.int32(20)}
    )
    assert (run.path / "metrics.csv").read_text() == (
        "step,train/loss,time/train\n10,0.1,2.0\n20,0.25,3.5\n"
    )
    assert run.read() == [
        {"step": 10, "train/loss": 0.1, "time/train": 2.0},
        {"step": 20, "train/loss": 0.25, "time/train": 3.5},
    ]
    assert [type(value) for value in run.read()[0].values()] == [int, float, float]


@given(value=st.floats())
def test_floats_come_back_to_the_bit(tmp_path_factory, value):
    run = RunFolder(tmp_path_factory.mktemp("run"))
    run.append({"step": 1, "x": value})
    back = run.read()[0]["x"]
    same = struct.pack("<d", back) == struct.pack("<d", value)
    assert same or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"step": 2}, r"lacks \['loss'\]"),
        ({"step": 2, "loss": 1.0, "top1": 0.5}, r"unknown \['top1'\]"),
        ({"loss": 1.0}, "needs `step`"),
        ({"step": 2, "loss": "1.0"}, "loss is '1.0'"),
        ({"step": 2, "loss": None}, "loss is None"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(tmp_path, row, named):
    run = RunFolder(tmp_path)
    run.append({"step": 1, "loss": 2.0})
    with pytest.raises(ValueError, match=named):
        run.append(row)
    assert run.read() == [{"step": 1, "loss": 2.0}]


def test_rewind_after_a_kill_at_any_byte_loses_and_repeats_nothing(tmp_path):
    rows = [{"step": step, "validation/loss": 1 / step} for step in (10, 20, 30)]
    whole = RunFolder(tmp_path / "whole")
    for row in rows:
        whole.append(row)
    expected = (whole.path / "metrics.csv").read_bytes()
    for cut in range(len(expected) + 1):
        run = RunFolder(tmp_path / str(cut))
        (run.path / "metrics.csv").write_bytes(expected[:cut])
        # the newest checkpoint whose row is whole, as the loop appends first and then saves
        step = max([int(line.split(b",")[0]) for line in expected[:cut].split(b"\n")[1:-1]] + [0])
        run.rewind(step)
        for row in rows:
            if row["step"] > step:
                run.append(row)
        assert (run.path / "metrics.csv").read_bytes() == expected, cut


def test_rewind_drops_rows_behind_the_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    assert run.rewind(5) == 0  # nothing yet
    for step in (10, 20, 30):
        run.append({"step": step, "loss": 0.5})
    assert run.rewind(10) == 2
    assert [row["step"] for row in run.read()] == [10]
    assert run.rewind(10) == 0
    assert sorted(path.name for path in run.path.iterdir()) == ["metrics.csv"]


def test_a_half_written_line_is_never_continued(tmp_path):
    run = RunFolder(tmp_path)
    run.append({"step": 10, "loss": 0.5})
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("20,0.")
    assert run.read() == [{"step": 10, "loss": 0.5}]
    with pytest.raises(ValueError, match="half-written line"):
        run.append({"step": 20, "loss": 0.25})


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n10,0.5\n20\n30,0.1\n")
    with pytest.raises(ValueError, match="line 3: 1 values for 2 columns"):
        RunFolder(tmp_path).read()


def test_json_is_replaced_whole(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.write_json("config.json", {"name": "é", "rate": 0.1})
    with pytest.raises(TypeError):
        run.write_json("config.json", {"name": object()})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        run.write_json("config.json", {"name": "new"})
    assert json.loads((tmp_path / "config.json").read_text()) == {"name": "é", "rate": 0.1}
    assert run.read_json("config.json") == {"name": "é", "rate": 0.1}


def test_clear_leaves_what_is_not_the_runs(tmp_path):
    run = RunFolder(tmp_path)
    run.append({"step": 1})
    run.write_json("config.json", {})
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "thesis.tex").write_text("mine")
    with run.lock():
        run.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "thesis.tex"]


def test_log_has_what_was_printed(tmp_path, capsys):
    run = RunFolder(tmp_path)
    run.say("epoch 1")
    run.say("epoch 2")
    assert capsys.readouterr().out == "epoch 1\nepoch 2\n"
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["epoch 1", "epoch 2"]


def test_events_hold_the_scalars_and_mark_the_resume(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    run = RunFolder(tmp_path)
    events = run.events(resume_step=20)
    events.write({"step": 30, "train/loss": 0.5, "validation/top1": math.nan})
    events.close()
    (path,) = tmp_path.glob("events.*")
    data, found = path.read_bytes(), []
    while data:  # TFRecord: length, crc of the length, the record, its crc
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    starts = [event.step for event in found if event.session_log.status == 1]
    assert starts == [21]  # TensorBoard drops the steps from 21 on that were written before
    values = {v.tag: (e.step, v.simple_value) for e in found for v in e.summary.value}
    assert values["train/loss"] == (30, 0.5)
    assert values["validation/top1"][0] == 30 and math.isnan(values["validation/top1"][1])


def test_events_do_not_wait_for_torch_and_leave_it_to_be_imported(tmp_path, own_process):
    pytest.importorskip("torch")
    source = f"""
import json, sys
from alexnet_jax.train.run import RunFolder
events = RunFolder({str(tmp_path)!r}).events()
events.write({{"step": 1, "loss": 0.5}})
events.close()
loaded = "torch" in sys.modules
import torch
print(json.dumps([loaded, torch.ones(2).sum().item()]))
"""
    assert own_process(source) == [False, 2.0]
    assert list(tmp_path.glob("events.*"))


def test_without_tensorboardx_the_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    events = RunFolder(tmp_path).events()
    events.write({"step": 1, "loss": 0.5})
    events.close()
    assert capsys.readouterr().out.count("tensorboardX is missing") == 1
    assert not list(tmp_path.glob("events.*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_the_handlers_come_back(number):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with interruptible() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested and interrupt.by == number.name
        if number == signal.SIGINT:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGTERM)  # asking twice is no error
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_request_to_stop_is_heard_where_nobody_reads_what_is_said():
    """As in `train 2>&1 | tee log`, whose `tee` the same Ctrl-C has ended."""
    reader, writer = os.pipe()
    kept = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    os.close(reader)
    try:
        with interruptible() as interrupt:
            signal.raise_signal(signal.SIGTERM)
            assert interrupt.requested
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with interruptible() as interrupt:
            seen.append((interrupt.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))]


def test_environment_tells_the_machine_but_nobodys_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", os.path.expanduser("~/photos of birds"), "--lr=0.1"])
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    import jax

    assert facts["versions"]["jax"] == jax.__version__
    assert sum(facts["devices"].values()) == len(jax.devices())
    assert facts["cores"] >= 1 and facts["cpu"]
    assert facts["command"] == "train '~/photos of birds' --lr=0.1"
    assert os.uname().nodename not in json.dumps(facts)


def test_progress_reckons_from_where_the_run_went_on(capsys):
    assert describe(300, 1000, 200, 4.0, "loss 1.5") == (
        "step 300/1000 (30.0 %), 25 steps/s, 0:00:28 left; loss 1.5"
    )
    assert describe(0, 10, 0, 0.0, "") == "step 0/10 (0.0 %)"
    with Progress(3, every=0.0) as progress:
        progress.update(3, "done [b]")
    with Progress(3, every=60.0) as progress:  # not every step fills the log
        progress.update(1)
    with Progress(3, enabled=False, every=0.0) as progress:
        progress.update(1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("step 3/3 (100.0 %)") and line.endswith("0:00:00 left; done [b]")
