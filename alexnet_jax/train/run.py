"""The run folder: everything that a run leaves behind, and the rules that keep it whole.

    config.json environment.json init.json metrics.csv log.txt events.* checkpoints/STEP/
    results.json report.html lock

A process may die at any line of this file and the folder stays usable: files are replaced whole,
metrics.csv grows by whole lines and `RunFolder.rewind` drops what a kill cut or a resume repeats.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

METRICS = "metrics.csv"
CONTENTS = (  # what a run writes, and so all that `clear` may delete
    "config.json", "environment.json", "init.json", METRICS, "log.txt", "events.*",
    "checkpoints", "report.html", "results.json",
)  # fmt: skip


class RunLockedError(RuntimeError):
    """Another process is working in the run folder."""


def refuse_busy(path: str | os.PathLike[str]) -> None:
    """Raises RunLockedError where another process is working in that folder; creates nothing.

    To be asked before data are read. What counts is the lock itself, which is taken after that.
    """
    if Path(path, "lock").exists():
        with RunFolder(path).lock():
            pass


class RunFolder:
    """The files of one run. Holds nothing but its path: what is known is on the disk.

    Creates the folder (and its parents) when it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process. The kernel lets go when the process dies, however.

        Raises RunLockedError, naming the holder, when another process (or another `lock` in this
        one) has it. The lock file stays: removing it would let two processes lock two files.
        """
        with open(self.path / "lock", "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "a process that is just starting"
                raise RunLockedError(
                    f"{self.path} is in use by {holder}. Wait for it to end, stop it, or choose "
                    "another run folder."
                ) from None
            since = time.strftime("%Y-%m-%d %H:%M:%S %z")
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {socket.gethostname()}, started {since}\n")
            file.flush()
            try:
                yield
            except OSError as error:
                if error.errno == errno.ENOSPC and error.filename is None:  # of a full disk
                    error.filename = str(self.path)
                raise
            finally:
                file.truncate(0)

    def clear(self) -> None:
        """Delete what an earlier run left here, and nothing else that lies in the folder."""
        for pattern in CONTENTS:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    # ---- whole files -----------------------------------------------------------------------------

    def write_text(self, name: str, text: str) -> Path:
        """Replace file `name` in one move: a reader sees the old text or the new, never a part."""
        path, temporary = self.path / name, self.path / f".{name}.tmp"
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return path

    def write_json(self, name: str, value: Any) -> Path:
        return self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    # ---- metrics.csv -----------------------------------------------------------------------------

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation to metrics.csv; on the disk when this returns.

        Values are numbers (Python's, NumPy's or scalar arrays), floats written with repr so that
        `read` returns the same bits. The first row sets the columns.

        Raises ValueError for other columns than the file's, a row without `step`, a value that is
        no number, or a file that ends in half a line (`rewind` first).
        """
        values = {name: _number(name, value) for name, value in row.items()}
        if "step" not in values:
            raise ValueError(f"a row of {METRICS} needs `step`; given: {', '.join(values)}")
        lines, rest = self._lines()
        if rest:
            raise ValueError(
                f"{self.path / METRICS} ends in a half-written line {rest!r}: call rewind(step) "
                "with the step of the checkpoint that the run goes on from"
            )
        columns = lines[0] if lines else list(values)
        if set(columns) != set(values):
            missing, surplus = (
                sorted(set(columns) - set(values)),
                sorted(set(values) - set(columns)),
            )
            raise ValueError(
                f"the columns of {self.path / METRICS} are fixed by its first row; this row lacks "
                f"{missing} and has the unknown {surplus}"
            )
        text = "" if lines else _line(columns)
        text += _line([repr(values[name]) for name in columns])
        with open(self.path / METRICS, "a", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, int | float]]:
        """The whole rows of metrics.csv, in order; half a line at the end is no row yet."""
        lines, _ = self._lines()
        return [dict(zip(lines[0], map(_parse, line), strict=True)) for line in lines[1:]]

    def rewind(self, step: int) -> int:
        """Take metrics.csv back to `step`: drop later rows, and a line that a kill cut.

        Returns the number of whole rows dropped. Call it before going on from the checkpoint of
        `step`; with each row appended before its checkpoint is saved, no row is lost or twice.
        """
        lines, rest = self._lines()
        if not lines and not rest:
            return 0
        kept = lines[:1]
        if lines:
            column = lines[0].index("step")
            kept += [line for line in lines[1:] if int(line[column]) <= step]
        if rest or len(kept) < len(lines):
            self.write_text(METRICS, "".join(map(_line, kept)))
        return len(lines) - len(kept)

    def _lines(self) -> tuple[list[list[str]], bytes]:
        """The whole lines of metrics.csv, header first, and what follows the last line's end."""
        path = self.path / METRICS
        whole, end, rest = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
        lines = list(csv.reader(io.StringIO((whole + end).decode("utf-8"), newline="")))
        for number, line in enumerate(lines, start=1):
            if len(line) != len(lines[0]):
                raise ValueError(
                    f"{path}, line {number}: {len(line)} values for {len(lines[0])} columns; "
                    "the file was changed by something else: mend or remove that line"
                )
        return lines, rest

    # ---- what is told along the way --------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print `text`, and add it with the time of day to log.txt."""
        print(text, flush=True)
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def events(self, resume_step: int | None = None) -> Events:
        """TensorBoard events of this run; see `Events`. Says so when tensorboardX is missing."""
        try:
            writer = _summary_writer()
        except ImportError:
            self.say("no TensorBoard events: tensorboardX is missing (alexnet_jax[run] has it)")
            return Events(None)
        purge = None if resume_step is None else resume_step + 1
        return Events(writer(str(self.path), purge_step=purge))


class Events:
    """Rows of metrics.csv as TensorBoard scalars, written by tensorboardX (no TensorFlow).

    After a resume from `resume_step`, TensorBoard drops the events of the later steps, which are
    about to be repeated.
    """

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def write(self, row: Mapping[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, _number(name, value), int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Interrupt:
    """`requested` turns true when the process is asked to stop; `by` names the first signal."""

    requested: bool = False
    by: str = ""


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn SIGTERM and the first SIGINT (Ctrl-C) into a request to stop at the next good moment.

    A second SIGINT raises KeyboardInterrupt. The earlier handlers come back at the end. Python
    allows handlers in the main thread only: elsewhere nothing changes and nothing is requested.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.append(number)
        interrupt.requested, interrupt.by = True, signal.Signals(received[0]).name
        # print() may not be entered again from a handler; a bare write may. Nobody may be reading:
        # Ctrl-C ends the `tee` of `train 2>&1 | tee log` first.
        with suppress(OSError):
            os.write(2, f"\n{interrupt.by}: stopping at the next good moment\n".encode())

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupt
    finally:
        for number, handler in earlier.items():  # None: a handler that Python did not set
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _summary_writer() -> Any:
    """tensorboardX's SummaryWriter, imported without PyTorch.

    It imports PyTorch wherever there is one, for over a second, and does without where there is
    none: it needs it only to take tensors, and a row has none.
    """
    blocked = "torch" not in sys.modules
    if blocked:
        sys.modules["torch"] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        from tensorboardX import SummaryWriter
    finally:
        if blocked:
            del sys.modules["torch"]
    return SummaryWriter


def _number(name: str, value: Any) -> int | float:
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{METRICS} holds numbers; {name} is {value!r}")
    return number


def _parse(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _line(cells: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    if "\n" in text.getvalue()[:-1]:
        raise ValueError(f"a name in {METRICS} must be one line: {cells}")
    return text.getvalue()
