"""What a file of weights holds, as a value, and what it must hold to fit a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Spec

if TYPE_CHECKING:
    from alexnet_jax.restored import Restored

Shapes = dict[str, tuple[int, ...]]
SHOWN = 12  # lines of a list of what is wrong


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's parameters in our layout, and what it must be fed."""

    spec: Spec
    params: dict[str, Any]
    """Nested dicts of float32 NumPy arrays: {"backbone": {"conv1": {"kernel", "bias"}, ...},
    "head": {"kernel", "bias"}}."""
    preprocessing: dict[str, Any] | None
    """As `Preprocessing.to_json` gives it; None where the file does not say."""
    batch_stats: dict[str, Any] = field(default_factory=dict)
    """Means and variances of batch norm, nested likewise; empty without batch norm."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the head's order, where the file tells them."""
    notes: tuple[str, ...] = ()
    """What was changed or assumed when the file was read."""
    absent: tuple[str, ...] = ()
    """Layers of the spec that the file does not have: ("fc6", "fc7", "head")."""
    task: str = "classification"
    """What it was trained for. Files hold classifiers; what else there is goes with its program."""


def of_run(restored: Restored) -> Weights:
    """The network of a run as it is evaluated: the averaged parameters where there are any.

    Raises ValueError where it is no classifier, which is what files of weights hold.
    """
    if (task := restored.task.name) != "classification":
        raise ValueError(
            f"{restored.path} was trained for {task}; files of weights and ONNX graphs are "
            "classifiers. export RUN OUT.stablehlo makes a program of it, and another run begins "
            "with its parameters by --init RUN"
        )
    return network_of(restored)


def network_of(restored: Restored) -> Weights:
    """The network of a run for whatever task, as `of_run` gives a classifier's."""
    state = restored.state
    params = state.params if state.ema is None else state.ema
    return Weights(
        spec=restored.task.net.spec,
        params=_as_float32(params),
        preprocessing=restored.preprocessing.to_json(),
        batch_stats=_as_float32(state.model_state.get("batch_stats", {})),
        classes=restored.classes,
        task=restored.task.name,
    )


def input_size(spec: Spec, preprocessing: Mapping[str, Any] | None) -> int:
    """Side of the network's input in pixels, on which the shape of fc6 depends."""
    return preprocessing["size"] if preprocessing else spec.image_size


def leaf_shapes(spec: Spec, size: int, absent: tuple[str, ...] = ()) -> Shapes:
    """{name: shape} of all that the network of `spec` has for images of `size` px.

    Parameters are called backbone/conv1/kernel, batch norm's values
    batch_stats/backbone/norm1/mean. Layers in `absent` are left out.
    """
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(AlexNet(spec).init, jax.random.key(0), images)
    flat = flatten_dict(dict(variables), sep="/")
    named = {name.removeprefix("params/"): leaf.shape for name, leaf in flat.items()}
    return {name: shape for name, shape in named.items() if layer_of(name) not in absent}


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: conv1 of backbone/conv1/kernel, head of head/bias."""
    return name.split("/")[-2]


def check_shapes(given: Mapping[str, np.ndarray], expected: Shapes, spec: Spec) -> None:
    """Raise ValueError with a list of what is missing, unexpected or of another shape."""
    have = {name: tuple(array.shape) for name, array in given.items()}
    lines = [f"missing {n} {shape}" for n, shape in expected.items() if n not in have]
    lines += [f"unexpected {n} {shape}" for n, shape in have.items() if n not in expected]
    lines += [
        f"{n} has shape {have[n]}, expected {shape}"
        for n, shape in expected.items()
        if n in have and have[n] != shape
    ]
    lines += [
        f"{n} has type {array.dtype}, expected float32"
        for n, array in given.items()
        if not jnp.issubdtype(array.dtype, jnp.floating)
    ]
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise ValueError(
            f"the arrays are not those of {spec.name!r}:\n  " + "\n  ".join(lines[:SHOWN] + more)
        )


def _as_float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
