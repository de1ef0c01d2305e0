"""A run's best network, read back for use: to predict, evaluate or inspect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from alexnet_jax.assemble import make_task
from alexnet_jax.config import Config
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models import spec as specs
from alexnet_jax.settings import from_json
from alexnet_jax.tasks.base import Task
from alexnet_jax.train.checkpoint import DamagedCheckpoint, load_arrays, read_meta, steps_in
from alexnet_jax.train.state import TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """A network as it was trained, with what it must be fed."""

    path: Path
    task: Task
    state: TrainState
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    config: Config
    meta: dict


def find_checkpoint(path: str | Path, which: str = "best") -> tuple[Path, int]:
    """(folder of checkpoints, step) of a run folder's best or last, or of one STEP folder.

    Which is the best one, the newest checkpoint tells whose meta can be read. Raises
    FileNotFoundError that says what was looked for, DamagedCheckpoint where none can be read.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which is {which!r}; expected best or last")
    path = Path(path).expanduser()
    if path.name.isdigit() and (path / "meta").exists():
        return path.parent, int(path.name)
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    steps = steps_in(folder)
    if not steps:
        what = "holds no checkpoints" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{path} {what}; give a run folder, such as runs/street, or one of its checkpoints, "
            "such as runs/street/checkpoints/1000"
        )
    if which == "last":
        return folder, steps[-1]
    for step in reversed(steps):
        try:
            best = read_meta(folder, step)["best_step"]
        except DamagedCheckpoint as error:
            log.warning("%s; asking the one before which is the best", error)
        else:
            return folder, step if best is None else best
    raise DamagedCheckpoint(f"none of the checkpoints in {folder} is sound: {steps}")


def load(path: str | Path, which: str = "best") -> Restored:
    """The network of a run (its best checkpoint) or of one checkpoint, ready for use.

    Raises FileNotFoundError, DamagedCheckpoint or CheckpointMismatch with the path.
    """
    folder, step = find_checkpoint(path, which)
    meta, arrays = read_meta(folder, step), load_arrays(folder, step)
    config = from_json(meta["config"], Config)
    arrays = jax.tree.map(jnp.asarray, {**arrays, "opt_state": None})
    return Restored(
        path=folder / str(step),
        task=make_task(config, specs.from_json(meta["spec"]), meta["classes"]),
        state=TrainState(**{"ema": None, "model_state": {}, **arrays}),
        preprocessing=Preprocessing.from_json(meta["preprocessing"]),
        classes=tuple(meta["classes"]),
        config=config,
        meta=meta,
    )
