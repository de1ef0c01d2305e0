"""The command line as a user meets it: what is wrong is told in words, and the status says so."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import cache
from alexnet_jax.cli import COMMANDS, main
from alexnet_jax.recipes import NAMES


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch, tmp_path):
    """No compiled programs of these tests in anybody's cache, and no network."""
    monkeypatch.setattr(cache, "keep_compiled", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no data sets"))
    monkeypatch.setattr("socket.socket.connect", None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def told(capsys):
    """Runs a command line; (status, all that was printed, in one line)."""

    def run(*arguments: object) -> tuple[int, str]:
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        # tyro draws boxes and breaks lines
        words = re.sub(r"[│╭╮╰╯─]", " ", printed.out + printed.err)
        return status, " ".join(words.split())

    return run


@pytest.fixture
def pictures(tmp_path, write_pictures) -> Path:
    rng = np.random.default_rng(0)
    folder, counts = tmp_path / "pictures", {"train": 6, "val": 4}
    noise = lambda _: rng.integers(0, 256, (36, 40, 3), np.uint8)  # noqa: E731
    write_pictures(folder, counts, ("cat", "dog"), noise)
    return folder


def test_without_a_command_it_tells_which_there_are(told):
    for arguments in ((), ("--help",), ("-h",)):
        status, text = told(*arguments)
        assert status == 0
        assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian", "did you mean 'train'"),
        ("xyz", "there are train, evaluate"),
        ("train stret", "did you mean 'street'"),
        ("train --lerning-rate 0.1", "--learning-rate"),
        ("train --learning-rate much", "could not convert string to float: 'much'"),
        ("train --spec nots_224", "did you mean 'notes_224'"),
        ("evaluate", "required"),
        ("predict", "required"),
        ("inspect a b", "Unrecognized"),
        ("evaluate nowhere --veiws 10", "--views"),
        ("evaluate nowhere", "nowhere does not exist; give a run folder"),
        ("evaluate . --which lst", "which is 'lst'; expected best or last"),
        ("predict .", "no pictures given"),
        ("predict . x.png", "holds no checkpoints"),
        ("predict . x.png --top 0", "top is 0"),
        ("evaluate . --batch-size 0", "batch_size is 0"),
        ("doctor --xyz", "Unrecognized"),
        ("convert", "required"),
        ("convert nowhere.npz out.npz", "nowhere.npz does not exist; expected a file of weights"),
        ("convert . out.npz", "holds no checkpoints"),
        ("convert . out.npz --spec small", "--spec is for files that do not"),
        ("inspect . --format xml", "expected text or json"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(told, line, said):
    if line.startswith("train --"):
        line += " --data ."
    status, text = told(*line.split())
    assert status not in (0, None)
    assert said in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--run.precision float16", "precision is 'float16'; expected float32, bfloat16 or exact"),
        ("--batch-size 0", "batch_size is 0; expected at least 1"),
        ("--epochs 0", "epochs is 0.0; expected more than 0"),
        ("--learning-rate -0.1", "learning_rate is -0.1; expected at least 0"),
        ("--patience 0", "patience is 0; expected at least 1, or None"),
        ("--input.size 20", "input.size is 20; the smallest that 'small' works on is"),
        ("--input.size 64 --input.canvas 48", "size 64 does not fit in canvas 48"),
        ("--run.evaluate-every often", "30 epochs"),
        ("--seed -1", "seed is -1"),
        ("--optimizer.name rmsprob", "did you mean 'rmsprop'"),
        ("--optimizer.rules head", 'not of the form "REGEX SETTING=VALUE'),
        ("--optimizer.rules ^haed/ lr_mult=2", "not of the form"),
        ("--stopping.monitor validation/loss", "expected min"),
        ("--pose.sigma 2", "an option --pose.* is given, and the task is classification"),
        ("--segmentation.skips", "give --task segmentation"),
        ("--task detection --model.dense 64", "detection has no dense layers"),
        ("--transfer.keep head", "nothing is loaded; give --init"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(told, pictures, options, said):
    given = options.split()
    status, text = told("train", "folder", "--spec", "small", "--data", pictures, *given)
    assert status not in (0, None)
    assert said in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("./no such folder", "no such folder"),
        ("cifar_10", "cifar_10"),
        ("street/c", "no configuration 'c'"),
        ("", "--data"),
    ],
)
def test_data_that_is_not_there_is_told_at_once(told, data, said):
    begun = time.monotonic()
    status, text = told("train", "folder", "--data", data)
    assert status == 1
    assert said in text
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_the_options(told, command):
    status, text = told(command, "--help")
    assert status == 0
    options = {
        "train": ("--learning-rate", "--run-dir", "--optimizer.l1-form", "--schedule.warmup"),
        "evaluate": ("--split", "--which", "--views", "--data"),
        "predict": ("--format", "--top", "RUN", "IMAGE..."),
        "inspect": ("--format", "RUN|CHECKPOINT"),
        "probe": ("RUN|FILE", "--tap", "--shots", "--method"),
        "convert": ("IN", "OUT", "--spec", ".safetensors"),
        "export": ("RUN|FILE", "OUT", ".stablehlo", ".onnx"),
        "doctor": (),
    }[command]
    for option in options:
        assert option in text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [80, 120])
def test_help_breaks_lines_where_the_window_ends_only(capsys, monkeypatch, command, width):
    """Not where the docstrings do: the next line's first word would not have fitted."""
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    rows = [row.strip("│").rstrip() for row in capsys.readouterr().out.splitlines()]
    for row, after in itertools.pairwise(rows):
        indent = len(after) - len(after.lstrip())
        if indent > 6 and row.startswith(" " * indent) and not row.endswith(")"):
            assert len(row) + 1 + len(after.split()[0]) > width - 4, f"{row}\n{after}"


def test_help_tells_the_recipes_and_whose_defaults_it_tells(told):
    _, text = told("train", "--help")
    assert all(name in text for name in NAMES)
    assert "defaults told below are those of street." in text
    _, text = told("train", "folder", "--help")
    assert "defaults told below are those of folder." in text


def test_doctor_tells_devices_and_versions(told):
    import jax

    status, text = told("doctor")
    assert status == 0
    for fact in (f"jax {jax.__version__}", "orbax-checkpoint", "python", "cpu"):
        assert fact in text


@pytest.mark.slow
def test_a_dry_run_tells_what_a_run_would_be_and_leaves_nothing(told, pictures, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    status, text = told(
        *("train", "folder", "--spec", "small", "--data", pictures, "--dry-run"),
        *("--input.size", "32", "--batch-size", "4", "--epochs", "2", "--model.width", "0.25"),
        *("--optimizer.rules", "^head/ lr_mult=10", "--run.evaluate-every", "2 steps"),
    )
    assert status == 0
    assert "train 12" in text and "validation 8" in text
    assert "cat, dog" in text
    assert re.search(r"head/kernel \d+x2 10 ", text)
    assert re.search(r"[\d,]+ parameters; the state takes [\d.]+ MiB", text)
    assert re.search(r"a step needs [\d.]+ MiB besides the state", text)
    assert re.search(r"a step of 4 takes [\d.]+ ms", text)
    # 2 x 12 / 4, and every other one is followed by an evaluation
    assert re.search(r"all 2 epochs: 6 steps and 3 evaluations, about \d+:\d\d:\d\d", text)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_in_the_way_is_told_and_its_status_is_one(told, pictures, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, text = told("train", "folder", "--data", pictures, "--run-dir", tmp_path / "file")
    assert status == 1
    assert str(tmp_path / "file") in text


def test_the_module_is_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "inspect", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("FileNotFoundError: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    """`... train --help | head -1`, with a reader that closes at once."""
    command = [sys.executable, "-m", "alexnet_jax", "train", "--help"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141 and said == ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="sees by it what is imported")
def test_ctrl_c_in_the_middle_of_imports_is_no_traceback():
    command = [sys.executable, "-m", "alexnet_jax", "evaluate", "."]
    pipe = subprocess.PIPE
    # Who runs the tests in the background may have SIGINT ignored, which a child inherits.
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    signal.signal(signal.SIGINT, deaf)
    with process:
        while "jaxlib" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and said == ("", "")


def test_inspect_as_json_is_json(told, capsys):
    run = Path(__file__).parent / "train" / "format_1" / "run"
    assert main(["inspect", str(run), "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["best_step"], facts["steps"], facts["format"]) == (2, [2], 1)
    assert facts["parameters"]["head/kernel"] == [8, 2]
    assert facts["sha256"]["best"] == facts["sha256"]["last"]
    status, text = told("inspect", run / "checkpoints" / "2")
    assert status == 0
    assert facts["sha256"]["best"] in text


def test_convert_writes_the_best_checkpoint_as_arrays(told, tmp_path):
    """The averaged parameters, which are those that are evaluated."""
    from alexnet_jax.train.checkpoint import load_arrays

    run = Path(__file__).parent / "train" / "format_1" / "run"
    status, text = told("convert", run, tmp_path / "out.npz")
    assert status == 0
    assert "2 classes" in text and "px out of" in text
    arrays = load_arrays(run / "checkpoints", 2)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        names = set(file.files)
        for layer in ("conv1", "conv5", "fc6"):
            expected = arrays["ema"]["backbone"][layer]["kernel"]
            np.testing.assert_array_equal(file[f"backbone/{layer}/kernel"], expected)
        expected = arrays["model_state"]["batch_stats"]["backbone"]["norm1"]["mean"]
        np.testing.assert_array_equal(file["batch_stats/backbone/norm1/mean"], expected)
    assert "alexnet_jax" in names

    status, text = told("convert", run, tmp_path / "out.safetensors")
    assert status == 1
    assert "torchvision's AlexNet cannot express" in text
    assert not (tmp_path / "out.safetensors").exists()
    status, text = told("convert", run, tmp_path / "out.h5")
    assert status == 1
    assert "expected an ending of .npz or .safetensors" in text


def test_convert_tells_what_a_file_lacks_and_what_was_assumed(told, tmp_path):
    shapes = [
        (11, 11, 3, 64),
        (5, 5, 64, 192),
        (3, 3, 192, 384),
        (3, 3, 384, 256),
        (3, 3, 256, 256),
    ]
    arrays = {}
    for i, shape in enumerate(shapes, 1):
        arrays[f"conv{i}/kernel"] = np.full(shape, i, np.float32)
        arrays[f"conv{i}/bias"] = np.full(shape[-1], i, np.float32)
    np.savez(tmp_path / "convs.npz", **arrays)
    status, text = told("convert", tmp_path / "convs.npz", tmp_path / "out.npz")
    assert status == 0
    assert "one_weird_trick, 1000 classes, 2,469,696 parameters" in text
    assert "without fc6, fc7, head" in text
    assert "note: the file does not say how its images were prepared" in text
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["backbone/conv4/kernel"], arrays["conv4/kernel"])
    for spec, said in (("notes_224", "conv1/kernel has shape"), ("nots_224", "did you mean")):
        given = (tmp_path / "convs.npz", tmp_path / "no.npz", "--spec", spec)
        status, text = told("convert", *given)
        assert status == 1
        assert said in text
    assert not (tmp_path / "no.npz").exists()
