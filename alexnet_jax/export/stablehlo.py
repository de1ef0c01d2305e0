"""A network as a StableHLO program beside its parameters: JAX alone runs it, without this package.

The program goes from pixels to answers, for any batch size, on CPU, CUDA GPU and TPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import Array
from jax import export as jax_export

from alexnet_jax.data.preprocess import Preprocessing, center_crop, normalize
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.tasks.base import Task
from alexnet_jax.tasks.classification import classification
from alexnet_jax.weights.base import Weights
from alexnet_jax.weights.containers import ABOUT
from alexnet_jax.weights.files import replacing, write
from alexnet_jax.weights.own import to_arrays

PLATFORMS = ("cpu", "cuda", "tpu")


def program(weights: Weights, task: Task | None = None) -> jax_export.Exported:
    """(parameters, images) -> the answers that `task.decode` gives, for any B: those of a
    classifier are {"probability" float32 [B, K], "label" int32 [B]}.

    `parameters` are {"backbone/conv1/kernel": array, ...} as our `.npz` has them; `images` float32
    [B, canvas, canvas, 3] of 0..255, red, green, blue. The centre crop and the normalization are
    part of the program, which computes in float32. Boxes and joints are in pixels of the crop.

    Args:
        task: what the weights were trained for; None: classification.
    """
    p = Preprocessing.from_json(weights.preprocessing or {})
    task = task or classification(AlexNet(weights.spec))
    # The faster forms of a convolution are chosen for one backend and one batch size.
    net = task.net.clone(exact=True, dtype=jnp.float32)

    def answer(parameters: dict[str, Array], images: Array) -> dict[str, Array]:
        params = unflatten_dict(parameters, sep="/")
        variables = {"batch_stats": params.pop("batch_stats", {}), "params": params}
        outputs: Any = net.apply(variables, normalize(center_crop(images, p.size), p))
        return task.decode(outputs)

    shape = jax_export.symbolic_shape(f"batch, {p.canvas}, {p.canvas}, 3")
    return jax_export.export(jax.jit(answer), platforms=PLATFORMS)(
        jax.eval_shape(lambda: to_arrays(weights)), jax.ShapeDtypeStruct(shape, jnp.float32)
    )


def write_stablehlo(
    weights: Weights, path: str | os.PathLike[str], task: Task | None = None
) -> None:
    """Write the program, `net.stablehlo`, and its parameters beside it, `net.npz`; `task` as
    `program` has it.

    Raises ValueError where flatbuffers, which packs the program, is not installed.
    """
    path = Path(path)
    try:
        packed = program(weights, task).serialize()
    except ImportError as error:
        raise ValueError(
            "this needs the package flatbuffers: pip install 'alexnet_jax[export]'"
        ) from error
    write(weights, path.with_suffix(".npz"))
    with replacing(path) as temporary:
        temporary.write_bytes(packed)


def load(path: str | os.PathLike[str]) -> Callable[[Any], dict[str, np.ndarray]]:
    """What `write_stablehlo` wrote, as a function of images [B, canvas, canvas, 3] of 0..255.

    It takes uint8 or float images and gives what `program` does; each new batch size compiles anew.
    It needs JAX, flatbuffers and NumPy: no network is built.

    Raises FileNotFoundError where one of the two files is missing, or ValueError where the first is
    no program.
    """
    path = Path(path).expanduser()
    packed = path.read_bytes()
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        parameters = {name: jnp.asarray(file[name]) for name in file.files if name != ABOUT}
    try:
        call = jax.jit(jax_export.deserialize(bytearray(packed)).call)
    except ImportError:  # flatbuffers is missing, and the message says so
        raise
    except Exception as error:  # of whatever kind the bytes lead flatbuffers to
        raise ValueError(f"{path}: cut short, or no program of jax.export ({error})") from error
    return lambda images: jax.device_get(call(parameters, np.asarray(images, np.float32)))
