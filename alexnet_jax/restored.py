"""A run's best network, read back for use: to predict, evaluate, inspect or start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.assemble import make_net
from alexnet_jax.config import Config, from_json
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models import spec as specs
from alexnet_jax.optim.rules import leaf_name
from alexnet_jax.tasks.classification import Classification, classification
from alexnet_jax.train.checkpoint import load_arrays, read_meta, steps_in
from alexnet_jax.train.state import TrainState


@dataclass(frozen=True)
class Restored:
    """A network as it was trained, with what it must be fed."""

    path: Path
    task: Classification
    state: TrainState
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    config: Config
    meta: dict


def find_checkpoint(path: str | Path, which: str = "best") -> tuple[Path, int]:
    """(folder of checkpoints, step) of a run folder's best or last, or of one STEP folder.

    Raises FileNotFoundError that says what was looked for.
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
    best = read_meta(folder, steps[-1])["best_step"]
    return folder, steps[-1] if best is None else best


def load(path: str | Path, which: str = "best") -> Restored:
    """The network of a run (its best checkpoint) or of one checkpoint, ready for use.

    Raises FileNotFoundError, DamagedCheckpoint or CheckpointMismatch with the path.
    """
    folder, step = find_checkpoint(path, which)
    meta, arrays = read_meta(folder, step), load_arrays(folder, step)
    config = from_json(meta["config"])
    net = make_net(specs.from_json(meta["spec"]), config.run.precision)
    arrays = jax.tree.map(jnp.asarray, {**arrays, "opt_state": None})
    return Restored(
        path=folder / str(step),
        task=classification(net),
        state=TrainState(**{"ema": None, "model_state": {}, **arrays}),
        preprocessing=Preprocessing.from_json(meta["preprocessing"]),
        classes=tuple(meta["classes"]),
        config=config,
        meta=meta,
    )


def initial_state(path: str, state: TrainState) -> tuple[TrainState, str]:
    """`state` with the parameters and batch statistics of a run's best checkpoint, and a sentence
    on what was done.

    The head stays as it is where the number of classes differs. Raises ValueError with a list
    where anything else does.
    """
    folder, step = find_checkpoint(path)
    arrays = load_arrays(folder, step)
    given = arrays["ema"] if arrays.get("ema") is not None else arrays["params"]
    keep_head = _shapes(given["head"]) != _shapes(state.params["head"])
    old, new = _shapes(given["backbone"]), _shapes(state.params["backbone"])
    if old != new:
        lines = [f"  - {n} {old[n]}" for n in sorted(old) if old[n] != new.get(n)]
        lines += [f"  + {n} {new[n]}" for n in sorted(new) if new[n] != old.get(n)]
        raise ValueError(
            f"{folder / str(step)} holds another network (-) than this one (+):\n"
            + "\n".join(lines)
        )
    source = {**given, "head": state.params["head"]} if keep_head else given
    model_state = dict(state.model_state)
    if "batch_stats" in model_state:
        model_state["batch_stats"] = _in_place_of(
            model_state["batch_stats"], arrays["model_state"]["batch_stats"]
        )
    state = state.replace(
        params=_in_place_of(state.params, source),
        model_state=model_state,
        ema=None if state.ema is None else _in_place_of(state.params, source),
    )
    said = f"Parameters from {folder / str(step)}"
    return state, said + (
        "; the head, of another number of classes, stays at its initialization" if keep_head else ""
    )


def _in_place_of(old: Any, new: Any) -> Any:
    """New arrays, on the devices where the old ones are; no buffer twice, as they are donated."""
    return jax.tree.map(
        lambda old, new: jax.device_put(np.array(new, old.dtype), old.sharding), old, new
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {leaf_name(path): x.shape for path, x in leaves}
