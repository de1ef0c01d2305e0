"""The benchmarks run and count rightly; their speeds are not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import beside_pytorch
import flops
import measuring
import tracing

from alexnet_jax.models.spec import multiply_adds, spec

SCRIPTS = Path(measuring.__file__).parent

# XLA compiles faster where it optimizes nothing, and PyTorch's threads spin while they wait, which
# takes minutes where tests run side by side.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "OMP_WAIT_POLICY": "passive"}


def script(name: str, *options: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / name), *map(str, options)]
    environment = {**os.environ, **QUICK, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The tables of a text in Markdown, each as {heading: cell} of its rows."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [
        [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]] for lines in found if lines
    ]


# ---- beside PyTorch ------------------------------------------------------------------------------

SMALL_CASE = ("--spec", "small", "--batch", 4, "--pairs", 2, "--steps", 1)


@pytest.mark.slow
def test_both_sides_are_the_same_net_and_give_a_row(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "rows.json"
    done = script("bench_train_step", *SMALL_CASE, "--precision", "float32", "--json", file)
    assert done.returncode == 0, done.stderr[-4000:]
    ((shown,),) = tables(done.stdout)
    assert (shown["spec"], shown["mode"], shown["batch"], shown["pairs"]) == (
        "small", "train", "4", "2"
    )  # fmt: skip

    answer = json.loads(file.read_text())
    (row,) = answer["rows"]
    # 5x5x3x32, 5x5x32x64, 3x3x64x96, 3x3x96x96, 3x3x96x64; 64 -> 32 -> 15, 7, 3 px;
    # 3x3x64 -> 256 -> 256 -> 10; and a bias each.
    kernels = 2400 + 51200 + 55296 + 82944 + 55296 + 147456 + 65536 + 2560
    assert row["parameters"] == kernels + 32 + 64 + 96 + 96 + 64 + 256 + 256 + 10
    assert row["first_loss"]["ours"] == pytest.approx(row["first_loss"]["pytorch"], rel=1e-4)
    ours, theirs = row["images_per_second"]["ours"], row["images_per_second"]["pytorch"]
    assert len(ours) == len(theirs) == 2 and min(*ours, *theirs) > 0
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    assert row["ratio"] == pytest.approx(sum(ratios) / 2)
    assert (row["ratio_min"], row["ratio_max"]) == pytest.approx((min(ratios), max(ratios)))
    peaks = row["peak_mib"]
    assert min(peaks.values()) > 50  # a process that has imported either framework
    assert row["memory"] == pytest.approx(peaks["ours"] / peaks["pytorch"])
    assert answer["machine"]["memory_settings"] == "on"


def test_a_spec_that_pytorch_side_cannot_build_is_refused_in_a_sentence():
    done = script("bench_train_step", "--spec", "original_2012")
    assert done.returncode == 2 and "normalization" in done.stderr and "small" in done.stderr
    assert "Traceback" not in done.stderr


# ---- turns and tables ----------------------------------------------------------------------------


def test_each_goes_first_in_turn_and_the_first_round_does_not_count():
    order = []

    def turn(name):
        return lambda steps: order.append(name) or float(len(order))

    seconds = measuring.take_turns({n: turn(n) for n in "abc"}, rounds=3, steps=5)
    assert "".join(order) == "cab" + "abc" + "bca" + "cab"
    assert seconds == {"a": [4.0, 9.0, 11.0], "b": [5.0, 7.0, 12.0], "c": [6.0, 8.0, 10.0]}


def test_a_turn_begins_with_a_step_that_does_not_count():
    done = []
    assert measuring.timed(done.append)(7) >= 0
    assert done == [1, 7]


def test_a_ratio_is_the_median_of_the_rounds_own():
    found = measuring.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (2.0, 1.0, 3.0)
    assert found["spread"] == "1 to 3"


TEXT = """before
<!-- measured: train_step -->

| old |

<!-- end -->
between
<!-- measured: loop -->
<!-- end -->
after
"""


def test_tables_are_put_in_their_places_and_nothing_else_changes():
    new = measuring.filled(TEXT, {"train_step": "| new \\1 |", "start": "| no place |"})
    assert new == TEXT.replace("| old |", "| new \\1 |")
    again = measuring.filled(new, {"loop": "| loop |", "train_step": "| old |"})
    assert again == TEXT.replace("loop -->\n", "loop -->\n\n| loop |\n\n")
    assert measuring.filled(TEXT, {}) == TEXT


def test_a_place_without_an_end_is_told():
    cut = TEXT.replace("<!-- end -->\nbetween", "between")
    with pytest.raises(ValueError, match="no line `<!-- end -->`"):
        measuring.filled(cut, {"loop": "| loop |"})


def test_the_document_has_the_place_and_the_columns_that_bench_writes(tmp_path):
    """Measured figures put in, and those that stood there before put back."""
    document = tmp_path / "benchmarks.md"
    before = (SCRIPTS.parent / "docs" / "benchmarks.md").read_text()
    document.write_text(before)
    row = {
        "spec": "small", "mode": "train", "batch": 4, "precision": "float32", "ours": 200.04,
        "pytorch": 100.0, "ratio": 2.0, "ratio_min": 1.5, "ratio_max": 2.504, "pairs": 9,
        "memory": 1.25, "aim": "1.5", "torch_compile": "default",
    }  # fmt: skip
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": {"train_step": [row], "start": [{"what": "start"}]}}))
    done = script("bench", "--json", file, "--write", document)
    assert done.returncode == 0, done.stderr
    assert "for start" in done.stderr or "measured: start" in before
    (old, *_), (new, *_) = (
        tables(before.split("train_step -->")[1]),
        tables(document.read_text().split("train_step -->")[1]),
    )
    assert list(new[0]) == list(old[0])
    line = "| small (9) | train | 4 | float32 | 200.0 | 100.0 | compiled | 2.00 | 1.50 | 2.50 |"
    assert f"{line} 1.25 | 1.5 |" in document.read_text()


def test_bench_refuses_what_it_cannot_do(tmp_path):
    done = script("bench", "--rows", "small/train")
    assert done.returncode == 2 and "SPEC/MODE/BATCH/PRECISION" in done.stderr
    done = script("bench", "--json", tmp_path / "none.json", "--write", tmp_path / "none.md")
    assert done.returncode == 2 and "measure first" in done.stderr


@pytest.mark.slow
def test_bench_measures_and_prints_one_table(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "bench.json"
    rows = ("small/train/2/float32", "small/forward/2/float32")
    done = script("bench", "--only", "train_step", "--rows", *rows, "--rounds", 2, "--json", file)
    assert done.returncode == 0, done.stderr[-4000:]
    (shown,) = tables(done.stdout)
    assert [row["what"] for row in shown] == [
        "small train, batch 2, float32", "small forward, batch 2, float32"
    ]  # fmt: skip
    written = json.loads(file.read_text())
    assert [row["mode"] for row in written["rows"]["train_step"]] == ["train", "forward"]
    assert all(row["n"] == "2" and float(row["ratio"]) > 0 for row in shown)


COMPILED = ("--only", "train_step", "--rows", "small/forward/2/float32/compiled", "--rounds", 2)


@pytest.mark.slow
@pytest.mark.skipif(not beside_pytorch.has_compiler(), reason="no C++ compiler")
def test_bench_measures_pytorch_compiled(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "bench.json"
    done = script("bench", *COMPILED, "--json", file)
    assert done.returncode == 0, done.stderr[-4000:]
    ((row,),) = tables(done.stdout)
    assert row["what"] == "small forward, batch 2, float32, PyTorch compiled"
    assert json.loads(file.read_text())["rows"]["train_step"][0]["torch_compile"] == "default"


def test_bench_leaves_compiled_rows_out_where_there_is_no_compiler(tmp_path):
    done = script("bench", *COMPILED, "--json", tmp_path / "bench.json", PATH="", CXX="none")
    assert done.returncode == 0 and "no C++ compiler was found" in done.stderr
    assert tables(done.stdout) == [[]]


# ---- the loop and the start ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, write_pictures):
    """Noise of two classes: train 2 x 6, val 2 x 3."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    counts = {"train": 6, "val": 3}
    write_pictures(folder, counts, ("one", "two"), lambda _: rng.integers(0, 256, (64, 64, 3)))
    return folder


@pytest.mark.slow
def test_loop_saving_and_evaluation_give_their_shares(pictures, tmp_path):
    file = tmp_path / "rows.json"
    options = ("--data", pictures, "--batch", 2, "--rounds", 2, "--steps", 2, "--json", file)
    done = script("bench_loop", *options)
    assert done.returncode == 0, done.stderr[-4000:]
    ((*shown,),) = tables(done.stdout)
    loop, saving, waiting, evaluation = json.loads(file.read_text())["rows"]
    assert [row["what"] for row in shown] == [
        row["what"] for row in (loop, saving, waiting, evaluation)
    ]
    for row in (loop, evaluation):
        assert row["ours"] > 0 and row["unit"] == "images/s"
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert loop["aim"] == ">= 0.98"
    assert waiting["ours"] > 0 and 0 < waiting["ratio"] < waiting["ours"]
    assert saving["unit"] == "s, 1,000 steps" and saving["aim"] == "< 0.01"
    # Six images of the split in one batch of the least size: the filler is no image.
    assert (evaluation["images"], evaluation["batches"], evaluation["rows_of_a_batch"]) == (
        6, 1, 128
    )  # fmt: skip
    assert evaluation["ratio"] < 0.5


@pytest.mark.slow
def test_a_start_is_timed_until_the_first_step(pictures, tmp_path):
    file = tmp_path / "rows.json"
    options = ("folder", "--data", pictures, "--spec", "small", "--batch-size", 2, "--epochs", 100)
    size = ("--input.size", 64, "--input.canvas", 64)
    rest = ("--rounds", 1, "--json", file, "--", *options, *size)
    done = script("bench_start", *rest, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    warm, ready, cold = json.loads(file.read_text())["rows"]
    assert 0 < ready["ours"] < warm["ours"] and cold["ours"] > 0
    assert [row["rounds"] for row in (warm, ready, cold)] == [1, 1, 1]


def test_a_start_that_fails_says_what_the_command_said(tmp_path):
    done = script("bench_start", "--rounds", 1, "--", "folder", "--data", tmp_path / "nowhere")
    assert done.returncode == 1 and "nowhere" in done.stderr and "ended before" in done.stderr


@pytest.mark.slow
def test_a_population_is_timed_beside_its_members(tmp_path):
    file = tmp_path / "rows.json"
    size = ("--members", 2, "--batch", 2, "--rounds", 3, "--steps", 2, "--updates", 10)
    done = script("bench_population", *size, "--json", file)
    assert done.returncode == 0, done.stderr[-4000:]
    ((shown,),) = tables(done.stdout)
    (row,) = json.loads(file.read_text())["rows"]
    assert (shown["members"], shown["n"]) == ("2", "3")
    pairs = zip(row["seconds"]["one_by_one"], row["seconds"]["at_once"], strict=True)
    assert row["ratio"] == pytest.approx(sorted(a / b for a, b in pairs)[1])
    # 2 members, 2 steps of each and 2 images a step
    for name in ("one_by_one", "at_once"):
        assert row[name] == pytest.approx(8 / sorted(row["seconds"][name])[1])
    # 2 members of 10 steps of 2 images, and one compilation or one for each of them
    training = 40 / row["one_by_one"]
    assert row["sweep_one_by_one"] == pytest.approx(row["compile_one"] + training)
    assert row["sweep_anew"] == pytest.approx(2 * row["compile_one"] + training)
    assert row["sweep_at_once"] == pytest.approx(row["compile_at_once"] + 40 / row["at_once"])
    assert row["gain"] == pytest.approx(row["sweep_one_by_one"] / row["sweep_at_once"])
    assert min(row["compile_one"], row["compile_at_once"]) > 0.1  # no cache has them


# ---- GPU and traces ------------------------------------------------------------------------------


def test_multiply_adds_are_those_of_the_layers():
    # 32 px: 5x5x3x32; 15: 5x5x32x64; 7: 3x3x64x96, 3x3x96x96, 3x3x96x64; 3x3x64 -> 256 -> 256 -> 10
    convs = 32**2 * 2400 + 15**2 * 51200 + 7**2 * (55296 + 82944 + 55296)
    assert multiply_adds(spec("small")) == convs + 576 * 256 + 256 * 256 + 2560
    # Two towers: half the inputs for each output (Krizhevsky et al. 2012).
    one, two = (multiply_adds(spec(name)) for name in ("notes_227", "bvlc_alexnet"))
    halved = 27**2 * 25 * 96 * 256 + 13**2 * 9 * 384 * (384 + 256)
    assert one - two == halved // 2


def test_products_keep_their_scale():
    flops.products(64, 3, "float32")(2)


@pytest.mark.slow
def test_a_trial_without_an_accelerator_says_so_and_gives_the_share(tmp_path):
    file = tmp_path / "rows.json"
    options = ("--only", "rate", "trace", "--batch", 2, "--precision", "float32", "--rounds", 1)
    done = script("bench_gpu", *options, "--json", file)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "TRIAL" in done.stdout
    found = json.loads(file.read_text())
    (row,) = found["rate"]
    assert found["trial"] and row["aim"] == ">= 0.5" and row["peak_mib"] is None
    per_image = 6 * multiply_adds(spec("small"))
    assert row["tflops"] == pytest.approx(1e-12 * per_image * row["ours"])
    assert row["ratio"] == pytest.approx(row["tflops"] / row["product_tflops"])
    check_summary(found["trace"])


@pytest.mark.slow
def test_the_whole_trial_beside_pytorch_and_in_every_form(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "rows.json"
    options = ("--batch", 2, "--precision", "float32", "--rounds", 1, "--json", file)
    done = script("bench_gpu", *options)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(file.read_text())
    (row,) = found["pytorch"]
    assert row["ratio"] > 0 and row["aim"] == ">= 1.3" and row["torch_compile"] is None
    forms = {row["form"]: row["ratio"] for row in found["forms"]}
    assert list(forms) == ["jit", "mesh", "shard_map", "pmap", "vmap, 2 shards"]
    assert forms["jit"] == 1 and min(forms.values()) > 0


@pytest.mark.slow
def test_one_command_shows_where_a_step_spends_its_time(tmp_path):
    options = ("--spec", "small", "--batch", 2, "--steps", 2, "--folder", tmp_path, "--top", 5)
    done = script("profile_step", *options, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr[-4000:]
    parts, operations = tables(done.stdout)
    assert len(operations) == 5 and {"conv2, backward", "head, forward"} <= {
        row["part of the step"] for row in parts
    }
    check_summary(json.loads((tmp_path / "rows.json").read_text()))
    trace = done.stdout.strip().splitlines()[-1].removeprefix("trace: ")
    assert tracing.operations(trace)


def check_summary(found):
    assert sum(row["ms"] for row in found["parts"]) == pytest.approx(found["ms"])
    assert sum(row["share"] for row in found["parts"]) == pytest.approx(1)
    times = [row["ms"] for row in found["operations"]]
    assert times == sorted(times, reverse=True) and found["wall_ms"] > 0
