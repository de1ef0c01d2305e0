"""Our own layout: backbone/conv1/kernel [h, w, in, out], ..., head/bias, and what goes with them.

A file of ours says its spec and preprocessing in a JSON text. One that does not may lack
`backbone/` in its names, and may end with the convolutions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models import spec as specs
from alexnet_jax.models.spec import Spec
from alexnet_jax.models.zoo import SPECS
from alexnet_jax.weights import torchvision
from alexnet_jax.weights.base import Weights, check_shapes, input_size, layer_of, leaf_shapes

FORMAT = 1
PREFIXES = ("backbone/", "head/", "batch_stats/")


def is_named_so(names: Iterable[str]) -> bool:
    """Whether arrays have the names of our layers."""
    return any(name.removeprefix("backbone/").startswith(("conv", "head/")) for name in names)


def describe(weights: Weights) -> str:
    """All but the arrays, as the JSON text that files carry."""
    return json.dumps(
        {
            "format": FORMAT,
            "spec": specs.to_json(weights.spec),
            "preprocessing": weights.preprocessing,
            "classes": weights.classes,
            "notes": weights.notes,
            "absent": weights.absent,
            "task": weights.task,
        }
    )


def parse(text: str) -> dict[str, Any]:
    """What `describe` wrote, with `spec` a Spec. Raises ValueError where it is something else."""
    try:
        about = json.loads(text)
        if about["format"] > FORMAT:
            raise ValueError(f"format {about['format']} is newer than {FORMAT}: update alexnet_jax")
        if (task := about.get("task", "classification")) != "classification":
            raise ValueError(
                f"it holds the parameters of a program for {task}, and files of weights are "
                "classifiers; a run begins with another's parameters by --init RUN"
            )
        if about["preprocessing"] is not None:
            Preprocessing.from_json(about["preprocessing"])
        lists = {name: tuple(about[name]) for name in ("classes", "notes", "absent")}
        return {**about, **lists, "spec": specs.from_json(about["spec"])}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"its description is not one of ours ({type(error).__name__}: {error})"
        ) from error


def from_arrays(
    arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], given: Spec | None
) -> Weights:
    """Weights of {"backbone/conv1/kernel": [11, 11, 3, 64], ...}.

    Without a description, the one named spec that the shapes fit is taken; LPIPS's 1 x 1 kernels,
    kept beside a backbone by some, are left out. Raises ValueError with a list of what is missing,
    unexpected or of another shape, or where several specs fit.
    """
    named = {n if n.startswith(PREFIXES) else f"backbone/{n}": a for n, a in arrays.items()}
    notes = list(about.get("notes", ()))
    if extras := [name for name, array in named.items() if _is_lpips(array)]:
        named = {name: array for name, array in named.items() if name not in extras}
        left_out = _list(name.removeprefix("backbone/") for name in extras)
        notes.append(f"left out, as no layers of the network: {left_out}")
    if "spec" in about:
        of, absent, preprocessing = given, about["absent"], about["preprocessing"]
        assert of is not None
    else:
        of, absent = _fitting(named, given)
        preprocessing = torchvision.PREPROCESSING if of.name == "one_weird_trick" else None
        notes.append(
            "the file does not say how its images were prepared; "
            + ("as torchvision's is assumed" if preprocessing else "the preprocessing is unknown")
        )
    check_shapes(named, leaf_shapes(of, input_size(of, preprocessing), absent), of)
    flat = {name: np.asarray(array, np.float32) for name, array in named.items()}
    tree = unflatten_dict(flat, sep="/")
    return Weights(
        spec=of,
        params=tree,
        preprocessing=preprocessing,
        batch_stats=tree.pop("batch_stats", {}),
        classes=about.get("classes", ()),
        notes=tuple(notes),
        absent=absent,
    )


def to_arrays(weights: Weights) -> dict[str, np.ndarray]:
    """What `from_arrays` reads."""
    stats = {"batch_stats": weights.batch_stats} if weights.batch_stats else {}
    return flatten_dict({**weights.params, **stats}, sep="/")


def _fitting(named: Mapping[str, np.ndarray], given: Spec | None) -> tuple[Spec, tuple[str, ...]]:
    """(the one named spec that the shapes fit, the layers of it that the file lacks): all of the
    dense ones and the head, where it ends with the convolutions. Raises ValueError unless exactly
    one fits."""
    have = {name: a.shape for name, a in named.items()}
    found = []
    for candidate in [given] if given else SPECS.values():
        tail = (*(name for name, _ in candidate.dense_layers()), "head")
        absent = () if {layer_of(n) for n in have} & set(tail) else tail
        if len(classes := have.get("head/bias", ())) == 1 and classes[0]:
            candidate = dataclasses.replace(candidate, num_classes=classes[0])
        if given or leaf_shapes(candidate, candidate.image_size, absent) == have:
            found.append((candidate, absent))
    if len(found) == 1:
        return found[0]
    fit = f"{_list(s.name for s, _ in found)} all fit" if found else "none fits"
    raise ValueError(
        f"the file does not say which network it is, and of the named specs {fit} its shapes: "
        "say which it is, with --spec, or spec= in Python"
    )


def _is_lpips(array: np.ndarray) -> bool:
    return array.ndim == 4 and (*array.shape[:2], array.shape[3]) == (1, 1, 1)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
