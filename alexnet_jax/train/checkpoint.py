"""Checkpoints: the only file that knows orbax.

Each step's folder holds an item `state`, the arrays, and an item `meta`, JSON, with a crc32 of
every array and of the JSON itself. A folder appears under its number only when it is whole, so a
kill at any moment leaves the one before; a damaged one is found by its checksums, and the one
before it is taken.

    checkpoints = Checkpoints("runs/mine/checkpoints")
    checkpoints.save(state, {"note": "anything JSON"}, best_step=120)
    checkpoints.close()                                   # waits until all is written
    state, meta = checkpoints.restore(jax.eval_shape(create))
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from alexnet_jax.leaves import differences, leaf_name, shape_and_dtype

FORMAT = 1
# No memory, or no right to read it, says nothing against a file.
NOT_DAMAGE = (MemoryError, PermissionError, jax.errors.JaxRuntimeError)

log = logging.getLogger(__name__)

# What goes wrong in a thread of orbax is raised where it is waited for; its log would tell it five
# times before, with tracebacks.
logging.getLogger("absl").addFilter(lambda x: not (x.exc_info and "orbax" in x.pathname))


class DamagedCheckpoint(RuntimeError):
    """A checkpoint whose content is not what was saved."""


class CheckpointMismatch(ValueError):
    """A sound checkpoint of something else: other parameters, other shapes."""


class Checkpoints:
    """The checkpoints in one folder: the latest `keep`, and what each of them knows as the best.
    One process at a time: what a kill left half-written in the folder is deleted at the start.

    Saving is asynchronous: the arrays are copied before `save` returns, so the state may be
    donated to the next step, and an error of writing is raised by the next `save` or by `close`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        for half in self.folder.glob("*.orbax-checkpoint-tmp"):  # a kill in a write left it
            shutil.rmtree(half)
        self._sound: set[int] = set()
        self._best = {step: _best_step(self.folder, step) for step in steps_in(self.folder)}
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Keep(keep, self._best),
                save_decision_policy=policies.FixedIntervalPolicy(1),
            ),
        )

    def steps(self) -> list[int]:
        """Steps that have a whole checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: Any, meta: dict, *, best_step: int | None = None) -> None:
        """Save `state` under its step, with `meta`; `best_step` is kept whatever its age.

        Saving a step again does nothing, unless what lies there is damaged.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            if step in self._sound or self._is_sound(step):
                return
            self._set_aside(step)
        meta = {"format": FORMAT, **meta, "best_step": best_step, "crc32": checksums(state)}
        meta = json.loads(json.dumps(meta))  # as it will be read back
        meta["meta_crc32"] = _meta_crc32(meta)
        self._best[step] = best_step
        with self._told():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_as_dict(state)), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )
        self._sound.add(step)

    def restore(self, target: Any, *, step: int | None = None) -> tuple[Any, dict]:
        """(state, meta) of `step`, or of the newest checkpoint that is sound.

        `target` is a state, possibly abstract, with the shardings to restore to (default: the
        first device), or a function that gives it for a step. A damaged newest checkpoint is named
        in a warning, set aside, and the one before is taken.

        Raises FileNotFoundError where there is no checkpoint (`step`), CheckpointMismatch where it
        holds other arrays than `target`, DamagedCheckpoint where none is sound.
        """
        steps = self.steps()
        if step is not None:
            if step not in steps:
                raise FileNotFoundError(f"no checkpoint of step {step} in {self.folder}: {steps}")
            return self._load(target, step)
        if not steps:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        damaged: list[int] = []
        for candidate in reversed(steps):
            try:
                restored = self._load(target, candidate)
            except DamagedCheckpoint as error:
                log.warning("%s; taking the one before", error)
                damaged.append(candidate)
                continue
            for bad in damaged:  # only now: where none can be read, none is touched
                self._set_aside(bad)
            return restored
        raise DamagedCheckpoint(f"none of the checkpoints in {self.folder} is sound: {steps}")

    def close(self) -> None:
        """Wait until everything is written; raises what went wrong."""
        with self._told():
            self._manager.wait_until_finished()
            self._manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _load(self, target: Any, step: int) -> tuple[Any, dict]:
        path = self.folder / str(step)
        meta = read_meta(self.folder, step)
        target = target(step) if callable(target) else target
        abstract = jax.tree.map(_abstract, _as_dict(target))
        _check_shapes(abstract, _stored(path), path)
        with _quiet(), _named_damage(path):
            state = ocp.Checkpointer(ocp.StandardCheckpointHandler()).restore(
                path / "state", args=ocp.args.StandardRestore(abstract)
            )
        _check_sums(state, meta, path)
        self._sound.add(step)
        return _like(target, state), meta

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What writing raises, which is a ValueError of tensorstore's where the disk is full."""
        try:
            yield
        except (OSError, ValueError) as error:
            why = "No space left on device" if "No space left" in str(error) else str(error)
            raise OSError(
                f"a checkpoint cannot be written to {self.folder}: {why}; those of the steps "
                f"{steps_in(self.folder)} are whole, and the run can go on from there"
            ) from error

    def _is_sound(self, step: int) -> bool:
        try:
            load_arrays(self.folder, step)
        except DamagedCheckpoint as error:
            log.warning("%s; saving it anew", error)
            return False
        self._sound.add(step)
        return True

    def _set_aside(self, step: int) -> None:
        path = self.folder / str(step)
        names = (path.with_name(f"{step}.damaged{n or ''}") for n in itertools.count())
        path.rename(next(name for name in names if not name.exists()))
        self._manager.reload()


def read_meta(folder: str | os.PathLike[str], step: int) -> dict:
    """The JSON beside the arrays of a checkpoint."""
    path = Path(folder).absolute() / str(step)
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint {path}")
    with _quiet(), _named_damage(path):
        meta = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(path / "meta")
        if meta.pop("meta_crc32") != _meta_crc32(meta):
            raise DamagedCheckpoint(f"{path}: checksum differs for meta")
    _check_format(meta, path)
    return meta


def load_arrays(folder: str | os.PathLike[str], step: int) -> dict:
    """The state as nested dicts of NumPy arrays, without the code of the model that made it."""
    path = Path(folder).absolute() / str(step)
    meta = read_meta(folder, step)
    with _quiet(), _named_damage(path):
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _stored(path))
        state = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
            path / "state", args=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )
    _check_sums(state, meta, path)
    return state


def steps_in(folder: str | os.PathLike[str]) -> list[int]:
    """Steps that have a checkpoint in the folder, oldest first; opens nothing."""
    folder = Path(folder)
    return (
        sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit()) if folder.is_dir() else []
    )


def checksums(tree: Any) -> dict[str, int]:
    """{name: crc32} of every array that this process holds whole."""
    sums = {}
    for path, x in jax.tree_util.tree_leaves_with_path(_as_dict(tree)):
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            continue
        array = np.ascontiguousarray(x.addressable_data(0) if _is_replicated(x) else x)
        sums[leaf_name(path)] = zlib.crc32(array.reshape(-1).view(np.uint8).data)  # no copy
    return sums


class _Keep(policies.PreservationPolicy):
    """Keeps the latest checkpoints, and the one that each of these knows as the best so far.

    Whichever of them a run falls back to, its best one is then still there. (orbax's own `best_fn`
    ranks NaN first, and drops the newest.)
    """

    def __init__(self, latest: int, best: dict[int, int | None]) -> None:
        self._latest, self._best = latest, best

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        latest = sorted(checkpoint.step for checkpoint in checkpoints)[-self._latest :]
        kept = {*latest, *(self._best.get(step) for step in latest)}
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _best_step(folder: Path, step: int) -> int | None:
    try:
        return read_meta(folder, step)["best_step"]
    except (DamagedCheckpoint, CheckpointMismatch):
        return None  # told when it is restored


def _meta_crc32(meta: dict) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _as_dict(state: Any) -> Any:
    """A train state as a dict of its fields, so that anyone can read it back."""
    return dict(vars(state)) if hasattr(state, "opt_state") else state


def _like(target: Any, state: dict) -> Any:
    return type(target)(**state) if hasattr(target, "opt_state") else state


def _is_replicated(x: Any) -> bool:
    return isinstance(x, jax.Array) and x.is_fully_replicated


def _stored(path: Path) -> Any:
    """Shapes and dtypes of what a checkpoint holds."""
    with _quiet(), _named_damage(path):
        reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        stored = reader.metadata(path / "state").item_metadata
        if stored is None:
            raise DamagedCheckpoint(f"{path}: what says which arrays it holds cannot be read")
        return stored.tree


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _check_format(meta: dict, path: Path) -> None:
    number = meta.get("format")
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise CheckpointMismatch(
            f"{path} has format {number!r}; this version reads 1 to {FORMAT}: update alexnet_jax"
        )


def _check_shapes(expected: Any, stored: Any, path: Path) -> None:
    if lines := differences(stored, expected, shape_and_dtype):
        more = [f"  ... and {len(lines) - 12} more"] if len(lines) > 12 else []
        raise CheckpointMismatch(
            f"{path} holds (-) other arrays than are expected (+):\n"
            + "\n".join([*lines[:12], *more])
        )


def _check_sums(state: Any, meta: dict, path: Path) -> None:
    now, then = checksums(state), meta["crc32"]
    wrong = [name for name, crc in now.items() if name in then and then[name] != crc]
    if wrong:
        names = ", ".join(wrong[:5])
        raise DamagedCheckpoint(f"{path}: checksum differs for {names} ({len(wrong)} arrays)")


@contextlib.contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """Whatever orbax raises on a broken file, as DamagedCheckpoint with the path."""
    try:
        yield
    except (DamagedCheckpoint, CheckpointMismatch, *NOT_DAMAGE):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise DamagedCheckpoint(
            f"{path} cannot be read ({type(error).__name__}: {first})"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what orbax says of a damaged file: hundreds of lines in the log, and complaints of
    reads that it began and nobody waits for. Our error says the one thing that matters.
    """
    previous, hook = logging.root.manager.disable, sys.unraisablehook

    def without_orphans(problem: Any) -> None:
        if str(problem.exc_value) != "Event loop is closed":
            hook(problem)

    logging.disable(logging.CRITICAL)
    sys.unraisablehook = without_orphans
    try:
        yield
    except Exception:
        time.sleep(0.2)  # for the last of them
        raise
    finally:
        logging.disable(previous)
        sys.unraisablehook = hook
