"""From channels first (PyTorch, Caffe) to our channels last, and back: numbers only change places.

    convolutions   [out, in / groups, height, width]   <->   [height, width, in / groups, out]
    dense layers   [out, in]                           <->   [in, out]

The first dense layer reads the last convolution's output in their order, channel by channel; in
ours, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from alexnet_jax.models.spec import Spec, shapes
from alexnet_jax.weights.base import check_shapes, leaf_shapes


def to_ours(
    arrays: Mapping[str, np.ndarray], layers: Mapping[str, str], spec: Spec, size: int
) -> dict:
    """Parameters of `spec` for images of `size` px out of {"conv1.weight": [out, in, h, w], ...}.

    `layers` maps our layers to the file's: {"backbone/conv1": "conv1", ...}. Raises ValueError
    with a list of what is missing, unexpected or of another shape, in the file's names.
    """
    ours = leaf_shapes(spec, size)
    names = {name: _their_name(name, layers) for name in ours}
    expected = {names[n]: (s[3], s[2], *s[:2]) if len(s) == 4 else s[::-1] for n, s in ours.items()}
    check_shapes(arrays, expected, spec)
    first, channels, side = _flattened(spec, size)

    def convert(name: str) -> np.ndarray:
        array = np.asarray(arrays[names[name]], np.float32)
        if name == first:
            array = array.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)
            array = array.reshape(-1, array.shape[-1])
        elif array.ndim > 1:
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        return np.ascontiguousarray(array)

    return unflatten_dict({name: convert(name) for name in ours}, sep="/")


def from_ours(params: dict, layers: Mapping[str, str], spec: Spec, size: int) -> dict:
    """What `to_ours` takes: {"conv1.weight": float32 [out, in, h, w], ...}."""
    first, channels, side = _flattened(spec, size)

    def convert(name: str, array: np.ndarray) -> np.ndarray:
        if name == first:
            array = array.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
            array = array.reshape(len(array), -1)
        elif array.ndim > 1:
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        return np.ascontiguousarray(array)

    flat = flatten_dict(params, sep="/")
    return {_their_name(name, layers): convert(name, array) for name, array in flat.items()}


def _their_name(name: str, layers: Mapping[str, str]) -> str:
    layer, kind = name.rsplit("/", 1)
    if layer not in layers:
        raise ValueError(f"this format has no layer for {name}; it has {', '.join(layers)}")
    return f"{layers[layer]}.{'weight' if kind == 'kernel' else kind}"


def _flattened(spec: Spec, size: int) -> tuple[str, int, int]:
    """The first dense layer's kernel, and channels and side of what it reads."""
    outputs = [shape for _, shape in shapes(spec, size) if len(shape) == 3]
    dense = spec.dense_layers()
    first = f"backbone/{dense[0][0]}" if dense else "head"
    return f"{first}/kernel", outputs[-1][-1], outputs[-1][0]
