"""The benchmark beside PyTorch runs, and both sides compute the same; its speeds are not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_train_step"


def bench(*options: str) -> subprocess.CompletedProcess:
    # PyTorch's threads spin while they wait, which takes minutes where tests run side by side.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_both_sides_are_the_same_net_and_give_a_row(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "rows.json"
    options = ["--spec", "small", "--batch", "4", "--pairs", "2", "--steps", "1"]
    done = bench(*options, "--precision", "float32", "--json", str(file))
    assert done.returncode == 0, done.stderr[-4000:]

    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len(cells) == 3 and len(cells[2]) == len(cells[0])
    shown = dict(zip(cells[0], cells[2], strict=True))
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
    done = bench("--spec", "original_2012")
    assert done.returncode == 2 and "normalization" in done.stderr and "small" in done.stderr
    assert "Traceback" not in done.stderr
