"""What a network begins with: the parameters of another one, from a run or a file of weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from alexnet_jax.assemble import make_net
from alexnet_jax.config import Config
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.leaves import differences, named_leaves
from alexnet_jax.models import spec as specs
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.restored import find_checkpoint
from alexnet_jax.settings import from_json
from alexnet_jax.tasks.multi import classes_of
from alexnet_jax.train.checkpoint import load_arrays, read_meta
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.convolutionalize import in_form_of
from alexnet_jax.transfer.merge import merge_params
from alexnet_jax.weights import read
from alexnet_jax.weights.base import layer_of


class Given(NamedTuple):
    """A network's parameters, and what is known of them, for they may be gone later."""

    net: AlexNet
    params: Any
    batch_stats: Any
    where: str
    preprocessing: dict
    """What they were trained with, as Preprocessing.to_json has it; empty where not known."""
    about: dict
    """For JSON: `from`, `spec`, `classes`; of a run also `data` and its `best` metric, where this
    checkpoint is the best one; of a file `notes`."""


def given(path: str) -> Given:
    """The parameters of a run's best checkpoint, as they were evaluated, or of a file of weights.

    Raises as `restored.load` and `weights.read` do.
    """
    if Path(path).expanduser().is_file():
        weights = read(path)
        return Given(
            AlexNet(weights.spec),
            weights.params,
            weights.batch_stats,
            where=path,
            preprocessing=weights.preprocessing or {},
            about={
                "from": path,
                "spec": weights.spec.name,
                "classes": list(weights.classes),
                "notes": list(weights.notes),
            },
        )
    folder, step = find_checkpoint(path)
    meta, arrays = read_meta(folder, step), load_arrays(folder, step)
    stopper, config = meta["stopper"], from_json(meta["config"], Config)
    best = {config.stopping.monitor: stopper["best"]} if stopper["best_step"] == step else {}
    return Given(
        make_net(specs.from_json(meta["spec"]), config.run.precision),
        arrays["ema"] if arrays.get("ema") is not None else arrays["params"],
        arrays.get("model_state", {}).get("batch_stats", {}),
        where=str(folder / str(step)),
        preprocessing=meta["preprocessing"],
        about={
            "from": str(folder / str(step)),
            "spec": meta["spec"]["name"],
            "classes": meta["classes"],
            "data": meta["data"]["name"],
            "best": best,
        },
    )


def initial_state(
    source: str | Given,
    state: TrainState,
    keep: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[TrainState, str]:
    """`state` with the parameters (and batch statistics) of a run's best checkpoint or of a file
    of weights (the path of either, or what `given` made of it), and a sentence on what was done.

    What matches `keep` stays as it is, and so does a head of another task or of other classes than
    `classes` (empty: not known). One of the same classes in another order is put into theirs. A
    dense layer becomes a convolution where the network has one, and is left out where it has none
    at all, as a detector's; what lies between its backbone and head stays as it is. Where
    `preprocessing` is given, the sentence says if the weights were trained with another mean or
    deviation. Of tasks that share a backbone, those are loaded that both networks have. Raises
    ValueError with a list where anything else differs.
    """
    source = given(source) if isinstance(source, str) else source
    params, where = source.params, source.where
    params = {**params, "backbone": in_form_of(state.params["backbone"], params["backbone"])}
    params, unfit, about_heads = _fitted_heads(source, params, state.params, classes)
    keep = (*keep, *unfit, *_of_other_parts(source, state.params))
    model_state = dict(state.model_state)
    try:
        merged = merge_params(state.params, params, keep)
        if "batch_stats" in model_state:
            stats = model_state["batch_stats"], source.batch_stats
            kept = [k for k in keep if any(_matches_any(k, tree) for tree in stats)]
            merged_stats = merge_params(model_state["batch_stats"], source.batch_stats, kept)
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
    said = f"Parameters from {where}{about_heads}"
    kept = _layers([name for name in merged.kept if not (about_heads and _in_head(name))])
    if kept:
        said += f"; at their initialization stay {', '.join(kept)}"
    left = _layers([name for name in merged.left if not _in_head(name)])
    if left := [name for name in left if name not in kept]:
        said += f"; left out {', '.join(left)}"
    return state, said + _other_preprocessing(source.preprocessing, preprocessing)


def _fitted_heads(
    source: Given, params: Any, own: Any, classes: tuple[str, ...]
) -> tuple[Any, list[str], str]:
    """(`params` with each head as the network's `own` takes it, expressions for the heads that stay
    at their initialization, what is to be said of both)."""
    heads, unfit, said = _heads(params), [], ""
    for task, own_head in _heads(own).items():
        have, want = (_of_task(names, task) for names in (source.about["classes"], classes))
        head = _head(task, heads, own_head, have, want)
        said += head.said
        if head.params is None:
            unfit.append(f"^{task}/head/" if task else "^head/")
        elif task in heads:
            fitted = {"head": head.params}
            params = params | ({task: {**params[task], **fitted}} if task else fitted)
    return params, unfit, said


def _of_other_parts(source: Given, own: Any) -> tuple[str, ...]:
    """Expressions for what one network has and the other has not, as their tasks differ."""
    dense = [name for name, _ in source.net.spec.dense_layers()]
    dense += [name.replace("fc", "norm") for name in dense]
    unused = [name for name in dense if name in source.params["backbone"]]
    if any(name in own["backbone"] for name in dense):
        unused = []  # both have some: what differs is refused
    parts = [part for part in own if part not in (*source.params, "head")]
    parts += [part for part in source.params if part not in own]
    return (*(f"^backbone/{name}/" for name in unused), *(f"^{part}/" for part in parts))


def _heads(params: Any) -> dict[str, Any]:
    """{"": head}, or {task: head} of tasks that share a backbone (models/shared.py)."""
    if "head" in params:
        return {"": params["head"]}
    return {task: part["head"] for task, part in params.items() if "head" in part}


def _in_head(name: str) -> bool:
    return "head" in name.split("/")[:2]


def _of_task(classes: Sequence[str], task: str) -> tuple[str, ...]:
    return classes_of(classes, task) if task else tuple(classes)


class _Head(NamedTuple):
    """What becomes of a network's head: the `params` to load into it, or None where it stays at its
    initialization; and what is to be `said` of that."""

    params: Any
    said: str = ""


def _head(task: str, heads: Any, own: Any, have: Sequence[str], want: Sequence[str]) -> _Head:
    """Whether the head of a task among the given `heads` fits the network's `own`, and how.

    `have` are the classes that the given one was trained for, `want` those of the network, empty
    where they are not known. Where both are, names count: a column that meant bus must not be taken
    for car.
    """
    if not heads:
        return _Head({})  # merge_params tells that it is missing
    given, name = heads.get(task, {}), f"the head of {task}" if task else "the head"
    if {leaf for leaf, _ in named_leaves(given)} != {leaf for leaf, _ in named_leaves(own)}:
        return _Head(None, f"; {name}, of another task or form, stays at its initialization")
    if differences(given, own):
        return _Head(None, f"; {name}, of another number of classes, stays at its initialization")
    if not have or not want or list(have) == list(want):
        return _Head(given)
    if sorted(have) != sorted(want):
        names = ", ".join(have[:10]) + (", ..." if len(have) > 10 else "")
        return _Head(None, f"; {name}, for the classes {names}, stays at its initialization")
    order = [list(have).index(one) for one in want]
    params = jax.tree.map(lambda x: np.asarray(x)[..., order], given)
    return _Head(params, f"; {name}'s classes were put into this data set's order")


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
