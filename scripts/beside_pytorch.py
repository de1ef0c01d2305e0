"""Ours beside PyTorch's: the same net in two processes that take turns, as a row of a table.

Each side is a bench_worker.py. Nothing is timed unless their parameter counts are equal and their
losses before the first step agree.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring

from alexnet_jax import memory

# Relative difference allowed between the two losses before the first step.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}

# What jax may take of a GPU's memory when it starts; the rest is PyTorch's.
SHARE_OF_MEMORY = "0.45"

COLUMNS: measuring.Columns = (
    ("spec", "spec", ""),
    ("mode", "mode", ""),
    ("batch", "batch", ""),
    ("precision", "precision", ""),
    ("ours, images/s", "ours", ".1f"),
    ("PyTorch, images/s", "pytorch", ".1f"),
    ("ratio", "ratio", ".2f"),
    ("min", "ratio_min", ".2f"),
    ("max", "ratio_max", ".2f"),
    ("pairs", "pairs", ""),
    ("memory", "memory", ".2f"),
    ("parameters", "parameters", ","),
)


@dataclass(frozen=True)
class Case:
    """What is computed: `mode` is train or forward, `precision` a key of TOLERANCE."""

    spec: str
    mode: str
    batch: int
    precision: str


@dataclass(frozen=True)
class How:
    """How it is measured. `torch_compile` names a mode of torch.compile, None leaves PyTorch eager;
    `accelerator` lets both sides use the GPU.
    """

    pairs: int = 7
    steps: int = 2
    torch_compile: str | None = None
    memory_settings: str = "on"
    accelerator: bool = False


class NoComparison(RuntimeError):
    """A side ended before it had answered, or the two do not compute the same."""


def compare(case: Case, how: How) -> tuple[dict[str, Any], dict[str, Any]]:
    """(facts of the machine, row): one case, in two fresh processes.

    "memory" is the most that our process has held, divided by the most that PyTorch's has: of main
    memory, or of the GPU's. Raises NoComparison.
    """
    workers: dict[str, subprocess.Popen] = {}
    ready: dict[str, dict] = {}
    peak: dict[str, float] = {}

    def turn(name: str) -> measuring.Turn:
        def ask(steps: int) -> float:
            print(steps, file=workers[name].stdin, flush=True)
            answer = _answer_of(workers[name])
            peak[name] = answer["peak_mib"]
            return answer["seconds"]

        return ask

    try:
        for name in ("ours", "pytorch"):
            workers[name] = _start(name, case, how)
            ready[name] = _answer_of(workers[name])
        _check_same_work(ready, TOLERANCE[case.precision])
        turns = {name: turn(name) for name in workers}
        seconds = measuring.take_turns(turns, rounds=how.pairs, steps=how.steps)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    speeds = {name: [case.batch * how.steps / s for s in seconds[name]] for name in workers}
    machine = {
        **ready["ours"]["machine"],
        **ready["pytorch"]["machine"],
        "memory_settings": how.memory_settings,
        "command": shlex.join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    return machine, {
        **vars(case),
        **{name: statistics.median(speeds[name]) for name in workers},
        **measuring.ratios(speeds["ours"], speeds["pytorch"]),
        "pairs": how.pairs,
        "steps": how.steps,
        "parameters": ready["ours"]["parameters"],
        "first_loss": {name: ready[name]["loss"] for name in workers},
        "images_per_second": speeds,
        "peak_mib": peak,
        "memory": peak["ours"] / peak["pytorch"],
        "torch_compile": how.torch_compile,
    }


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile needs on a CPU."""
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    return any(shutil.which(name) for name in compilers)


def facts_line(machine: dict[str, Any], how: How) -> str:
    """One line that says what the rows were measured on."""
    packages = [f"{name} {machine['versions'][name]}" for name in ("jax", "jaxlib")]
    form = f"compiled ({how.torch_compile})" if how.torch_compile else "eager"
    facts = [machine["cpu"], f"{machine['cores']} cores", *packages]
    facts += [f"PyTorch {machine['torch']} {form}, {machine['torch_threads']} threads"]
    facts += [f"Python {machine['python']}", f"commit {machine['git_commit']}"]
    facts += [f"memory settings {how.memory_settings}", f"load {machine['load_before']:.1f}"]
    if how.accelerator:
        facts = [", ".join(machine["devices"]), *facts]
    if machine["xla_flags"]:
        facts += [f"XLA_FLAGS={machine['xla_flags']}"]
    return ", ".join(facts)


def _start(name: str, case: Case, how: How) -> subprocess.Popen:
    program = str(Path(__file__).resolve().with_name("bench_worker.py"))
    command = [sys.executable, program, name, *map(str, vars(case).values())]
    if how.torch_compile:
        command += ["--torch-compile", how.torch_compile]
    if how.accelerator:
        command.append("--accelerator")
        place = {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": SHARE_OF_MEMORY,
        }
    else:
        place = {"JAX_PLATFORMS": "cpu"}
    settings = memory.SETTINGS if how.memory_settings == "on" else {}
    environment = {**os.environ, **settings, **place}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def _answer_of(worker: subprocess.Popen) -> dict[str, Any]:
    answer = worker.stdout.readline()
    if not answer:
        status, command = worker.wait(), shlex.join(worker.args)
        raise NoComparison(f"the worker ended with exit status {status}: {command}")
    return json.loads(answer)


def _check_same_work(ready: dict[str, dict], tolerance: float) -> None:
    ours, theirs = ready["ours"], ready["pytorch"]
    if ours["parameters"] != theirs["parameters"]:
        raise NoComparison(
            f"not the same net: {ours['parameters']} and {theirs['parameters']} parameters"
        )
    if not abs(ours["loss"] - theirs["loss"]) <= tolerance * abs(theirs["loss"]):
        raise NoComparison(
            f"not the same net: losses {ours['loss']} and {theirs['loss']} on equal weights"
        )
