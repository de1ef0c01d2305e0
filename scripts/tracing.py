"""Where the time of a step goes: a trace by jax.profiler, summed up by operation and by layer.

The trace is read from the `*.trace.json.gz` that jax writes beside its own format: events with a
begin and a duration on lines, as Chrome and Perfetto show them. XLA names the operations; which
layer each belongs to stands in the compiled program's text.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import measuring

TIMES: measuring.Columns = (
    ("ms a step", "ms", ".3f"),
    ("share", "share", ".1%"),
    ("times a step", "times", ".3g"),
)
PARTS: measuring.Columns = (("part of the step", "what", ""), *TIMES)
OPERATIONS: measuring.Columns = (("operation", "what", ""), ("part of", "part", ""), *TIMES)


class Operation(NamedTuple):
    """One execution of an operation; what it calls on its own line is not counted with it."""

    name: str
    seconds: float


def profile(
    step: Callable, state: Any, batch: Any, *, folder: str | Path, steps: int = 3, top: int = 15
) -> tuple[dict, Path]:
    """(`summary` of so many steps and "wall_ms", what one takes untraced; the events' path).

    `step` is to be compiled: (state, batch) -> (state, metrics). The state is donated.
    """
    import jax

    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    run = measuring.repeated(compiled, state, batch)
    run(10)  # until all of the memory that it works in has been touched
    wall = measuring.timed(run)(steps) / steps
    path = record(lambda: run(steps), folder)
    parts = origins(compiled.as_text())
    return {**summary(operations(path), steps, parts, top), "wall_ms": 1e3 * wall}, path


def record(run: Callable[[], Any], folder: str | Path) -> Path:
    """Trace `run`, which returns when all is done; the path of the events, in a folder of its own.

    Besides the events the folder holds an `*.xplane.pb` for TensorBoard's profiler.
    """
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's calls would fill the trace, and slow it down
    with jax.profiler.trace(str(folder), profiler_options=options):
        run()
    written = Path(folder).glob("plugins/profile/*/*.trace.json.gz")
    return max(written, key=lambda path: path.stat().st_mtime_ns)


def operations(path: str | Path) -> list[Operation]:
    """What the devices executed, in a trace that `record` has written.

    Raises ValueError where it holds no operation.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    found = list(_self_times(_on_devices(events)))
    if not found:
        raise ValueError(f"{path} holds no operation: trace something that jax has compiled")
    return found


def origins(program: str) -> dict[str, str]:
    """{operation: part} of a compiled program's text (`compiled.as_text()`).

    A part is a layer and a direction, such as "conv2, backward", or "the rest of the step": loss,
    norms, optimizer.
    """
    found: dict[str, str] = {}
    calls: dict[str, str] = {}  # operation -> computation, where only that can tell
    within: dict[str, str] = {}  # computation -> the last origin in it, that of its result
    computation = ""
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*{$", line):
            computation = header[1]
        elif operation := re.match(r" +(?:ROOT )?%?([\w.-]+) = ", line):
            if origin := re.search(r'op_name="([^"]*)"', line):
                found[operation[1]] = within[computation] = part(origin[1])
            elif called := re.search(r"calls=%?([\w.-]+)", line):
                calls[operation[1]] = called[1]
    return found | {name: within[fused] for name, fused in calls.items() if fused in within}


def part(origin: str) -> str:
    """The part of the step that an operation's `op_name` tells of."""
    layer = re.search(r"/(?:backbone/(\w+)|(head))/", origin)
    if layer is None:
        return "the rest of the step"
    return f"{layer[1] or layer[2]}, {'backward' if 'transpose(' in origin else 'forward'}"


def summary(found: Iterable[Operation], steps: int, parts: Mapping[str, str], top: int) -> dict:
    """{"operations": rows, "parts": rows, "ms": the sum of all a step}; longest first.

    `steps` is how many were traced. Operations that the program's text does not place, such as
    copies, come under "not told".
    """
    found = list(found)
    total = sum(operation.seconds for operation in found)

    def rows(key: Callable[[str], str], more: Callable[[str], dict[str, str]]) -> list[dict]:
        seconds: dict[str, list[float]] = defaultdict(list)
        for name, took in found:
            seconds[key(name)].append(took)
        ranked = sorted(seconds.items(), key=lambda item: -sum(item[1]))
        return [
            {
                "what": name,
                "ms": 1e3 * sum(each) / steps,
                "share": sum(each) / total,
                "times": len(each) / steps,
                **more(name),
            }
            for name, each in ranked
        ]

    def place(name: str) -> str:
        return parts.get(name, "not told")

    return {
        "operations": rows(lambda name: name, lambda name: {"part": place(name)})[:top],
        "parts": rows(place, lambda name: {}),
        "ms": 1e3 * total / steps,
    }


def tables(found: dict) -> str:
    """A summary in Markdown: by part of the step, then the longest operations."""
    by_part = measuring.table(PARTS, found["parts"])
    return f"{by_part}\n\n{measuring.table(OPERATIONS, found['operations'])}"


def _on_devices(events: list[dict]) -> list[dict]:
    """The events that are operations.

    A GPU has a line for each of its streams, a TPU one called "XLA Ops"; lines such as "XLA
    Modules" would count the same time again. On a CPU, operations are those events of the host's
    threads that carry one's name.
    """
    names = {
        (event["pid"], event.get("tid") if event["name"] == "thread_name" else None): str(
            event["args"]["name"]
        )
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    complete = [event for event in events if event.get("ph") == "X"]
    devices = {pid for (pid, _), name in names.items() if name.startswith("/device:")}
    if not devices:
        return [event for event in complete if "hlo_op" in event.get("args", {})]
    lines = {key for key, name in names.items() if key[0] in devices and name == "XLA Ops"} or {
        key for key, name in names.items() if key[0] in devices and name.startswith("Stream")
    }
    return [event for event in complete if (event["pid"], event.get("tid")) in lines]


def _self_times(events: list[dict]) -> Iterable[Operation]:
    """Each event's duration without that of the events within it, on the same line."""
    lines: dict[tuple, list[dict]] = defaultdict(list)
    for event in events:
        lines[event["pid"], event["tid"]].append(event)
    for line in lines.values():
        open_: list[list] = []  # [end, name, microseconds of its own]
        for event in sorted(line, key=lambda e: (e["ts"], -e["dur"])):
            while open_ and open_[-1][0] <= event["ts"]:
                yield _closed(open_.pop())
            if open_:
                open_[-1][2] -= event["dur"]
            name = event.get("args", {}).get("hlo_op", event["name"])
            open_.append([event["ts"] + event["dur"], name, event["dur"]])
        yield from map(_closed, reversed(open_))


def _closed(event: list) -> Operation:
    return Operation(event[1], max(0.0, event[2]) / 1e6)
