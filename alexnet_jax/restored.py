"""A run's best network, read back for use: to predict, evaluate, inspect or start from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.assemble import make_net
from alexnet_jax.config import Config, from_json
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.leaves import differences, named_leaves
from alexnet_jax.models import spec as specs
from alexnet_jax.tasks.classification import Classification, classification
from alexnet_jax.train.checkpoint import load_arrays, read_meta, steps_in
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.merge import merge_params
from alexnet_jax.weights import read
from alexnet_jax.weights.base import layer_of


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


def initial_state(
    path: str,
    state: TrainState,
    keep: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
) -> tuple[TrainState, str]:
    """`state` with the parameters (and batch statistics) of a run's best checkpoint or of a file
    of weights, and a sentence on what was done.

    What matches `keep` stays as it is, and so does a head of another number of classes. Where
    `preprocessing` is given, the sentence says if the weights were trained with another mean or
    deviation. Raises ValueError with a list where anything else differs.
    """
    given, stats, where, trained_with = _given(path)
    other_head = "head" in given and differences(given["head"], state.params["head"])
    if other_head:
        keep = (*keep, "^head/")
    model_state = dict(state.model_state)
    try:
        merged = merge_params(state.params, given, keep)
        if "batch_stats" in model_state:
            kept = [k for k in keep if _matches_any(k, model_state["batch_stats"])]
            merged_stats = merge_params(model_state["batch_stats"], stats, kept)
            model_state["batch_stats"] = _in_place_of(
                model_state["batch_stats"], merged_stats.params
            )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    state = state.replace(
        params=_in_place_of(state.params, merged.params),
        model_state=model_state,
        ema=None if state.ema is None else _in_place_of(state.params, merged.params),
    )
    said = f"Parameters from {where}"
    if other_head:
        said += "; the head, of another number of classes, stays at its initialization"
    kept = [name for name in _layers(merged.kept) if not (other_head and name == "head")]
    if kept:
        said += f"; at their initialization stay {', '.join(kept)}"
    if left := [name for name in _layers(merged.left) if name not in (*kept, "head")]:
        said += f"; left out {', '.join(left)}"
    return state, said + _other_preprocessing(trained_with, preprocessing)


def _given(path: str) -> tuple[Any, Any, str, dict]:
    """(parameters, batch statistics, where they are from, preprocessing they were trained with)."""
    if Path(path).expanduser().is_file():
        weights = read(path)
        return weights.params, weights.batch_stats, path, weights.preprocessing or {}
    folder, step = find_checkpoint(path)
    arrays = load_arrays(folder, step)
    params = arrays["ema"] if arrays.get("ema") is not None else arrays["params"]
    stats = arrays.get("model_state", {}).get("batch_stats", {})
    return params, stats, str(folder / str(step)), read_meta(folder, step)["preprocessing"]


def _other_preprocessing(trained_with: dict, now: Preprocessing | None) -> str:
    return "".join(
        f"\nnote: they were trained with {name} {trained_with[name]}, this run has "
        f"{now.to_json()[name]}: --input.{name} changes it"
        for name in ("mean", "std")
        if now is not None and trained_with.get(name, now.to_json()[name]) != now.to_json()[name]
    )


def _layers(names: Sequence[str]) -> list[str]:
    """The layers of parameters, each once: head, fc6."""
    return list(dict.fromkeys(layer_of(name) for name in names))


def _matches_any(pattern: str, tree: Any) -> bool:
    return any(re.search(pattern, name) for name, _ in named_leaves(tree))


def _in_place_of(old: Any, new: Any) -> Any:
    """New arrays, on the devices where the old ones are; no buffer twice, as they are donated."""
    return jax.tree.map(
        lambda old, new: jax.device_put(np.array(new, old.dtype), old.sharding), old, new
    )
