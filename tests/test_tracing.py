"""Traces are read rightly: made-up ones of a GPU and of a CPU, and what a program's text tells."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import tracing


def trace_file(folder, events):
    path = folder / "host.trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    return path


def named(pid, name, tid=None, line=None):
    process = {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    if tid is None:
        return [process]
    return [
        process,
        {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": line}},
    ]


def event(pid, tid, at, took, name, **args):
    return {"ph": "X", "pid": pid, "tid": tid, "ts": at, "dur": took, "name": name, "args": args}


def test_a_gpus_streams_are_counted_and_the_host_is_not(tmp_path):
    path = trace_file(
        tmp_path,
        [
            *named(1, "/device:GPU:0", 7, "Stream #7(Compute)"),
            *named(1, "/device:GPU:0", 8, "XLA Modules"),
            *named(2, "/host:CPU", 9, "python"),
            event(1, 7, 0, 100, "ampere_gemm", hlo_op="gemm.1"),
            event(1, 7, 100, 50, "MemcpyD2D"),
            event(1, 8, 0, 1000, "jit_step"),
            event(2, 9, 0, 5000, "launch", hlo_op="gemm.1"),
        ],
    )
    assert tracing.operations(path) == [("gemm.1", 100e-6), ("MemcpyD2D", 50e-6)]


def test_what_an_operation_calls_is_not_counted_twice(tmp_path):
    path = trace_file(
        tmp_path,
        [
            *named(1, "/device:TPU:0", 7, "XLA Ops"),
            *named(1, "/device:TPU:0", 8, "Steps"),
            event(1, 8, 0, 1000, "1"),
            event(1, 7, 0, 100, "while"),
            event(1, 7, 10, 30, "fusion.1"),
            event(1, 7, 50, 30, "fusion.1"),
            event(1, 7, 100, 5, "copy"),
        ],
    )
    found = tracing.summary(tracing.operations(path), 1, {"fusion.1": "conv1, forward"}, top=2)
    assert [(row["what"], round(1e3 * row["ms"])) for row in found["operations"]] == [
        ("fusion.1", 60), ("while", 40)
    ]  # fmt: skip
    assert [(row["what"], round(1e3 * row["ms"])) for row in found["parts"]] == [
        ("conv1, forward", 60), ("not told", 45)
    ]  # fmt: skip
    assert found["operations"][0]["times"] == 2


def test_an_empty_trace_is_told(tmp_path):
    with pytest.raises(ValueError, match="holds no operation"):
        tracing.operations(trace_file(tmp_path, named(2, "/host:CPU", 9, "python")))


@pytest.mark.parametrize(
    ("origin", "part"),
    [
        ("jit(train_step)/jvp(AlexNet)/backbone/conv1/dot_general", "conv1, forward"),
        ("jit(f)/transpose(jvp(AlexNet))/backbone/conv3_2/x/mul", "conv3_2, backward"),
        ("jit(f)/transpose(jvp(AlexNet))/head/dot_general", "head, backward"),
        ("jit(f)/jvp(AlexNet)/backbone/relu", "the rest of the step"),
        ("jit(f)/mul", "the rest of the step"),
    ],
)
def test_an_operations_part_is_a_layer_and_a_direction(origin, part):
    assert tracing.part(origin) == part


def test_a_fusion_that_does_not_say_its_origin_has_that_of_what_it_fuses():
    program = """HloModule jit_f, is_scheduled=true

%fused (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  ROOT %b.1 = f32[2]{0} copy(%a), metadata={op_name="jit(f)/backbone/conv2/mul" line=3}
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0), metadata={op_name="x"}
  %copy_fusion = f32[2]{0} fusion(%x), kind=kLoop, calls=%fused
  %copy.2 = f32[2]{0} copy(%copy_fusion)
  ROOT %fusion.5 = f32[2]{0} fusion(%copy.2), calls=%fused, metadata={op_name="jit(f)/mul"}
}
"""
    found = tracing.origins(program)
    assert found["copy_fusion"] == "conv2, forward"
    assert found["fusion.5"] == "the rest of the step"
    assert "copy.2" not in found
