"""Caffe's AlexNet and its reference net: their layers' names, blobs and colours.

Source: caffe/models/bvlc_alexnet and bvlc_reference_caffenet, deploy.prototxt.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.spec import Spec, spec
from alexnet_jax.weights.base import Weights, input_size
from alexnet_jax.weights.channels_first import to_ours

LAYERS = {f"backbone/conv{i}": f"conv{i}" for i in range(1, 6)} | {
    "backbone/fc6": "fc6",
    "backbone/fc7": "fc7",
    "head": "fc8",
}
SPECS = {"AlexNet": "bvlc_alexnet", "CaffeNet": "caffenet"}

# The mean of ILSVRC 2012's pixels is 104.007, 116.669, 122.679 of blue, green and red; no std.
PREPROCESSING = Preprocessing(
    canvas=256, size=227, mean=(122.679, 116.669, 104.007), std=(1.0, 1.0, 1.0)
).to_json()
NOTE = (
    "Caffe's network reads blue, green, red: conv1's input channels were reversed, so this one "
    "reads red, green, blue, and the mean is in that order"
)


def is_named_so(names: Any) -> bool:
    """Whether arrays have the names of Caffe's layers: conv1.weight, conv1.bias, ... fc8.bias."""
    return any(re.fullmatch(r"(conv\d|fc\d)\.(weight|bias)", name) for name in names)


def from_blobs(layers: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """{"conv1.weight", "conv1.bias", ...} of a network's blobs.

    Old files give every blob four axes, [1, 1, out, in] for a dense layer: ones in front go.
    """
    arrays = {}
    for layer, blobs in layers.items():
        for i, blob in enumerate(blobs):
            kind = ("weight", "bias")[i] if i < 2 else f"blob{i}"
            axes = 1 if kind == "bias" else 4 if layer.startswith("conv") else 2
            while blob.ndim > axes and blob.shape[0] == 1:
                blob = blob[0]
            arrays[f"{layer}.{kind}"] = blob
    return arrays


def from_arrays(
    arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], given: Spec | None
) -> Weights:
    """Weights of {"conv1.weight": [96, 3, 11, 11], ...}, conv1 reading blue, green, red.

    The two networks' blobs are alike; `about["network"]`, AlexNet or CaffeNet, or `given` tells
    them apart. Raises ValueError where neither does, or with a list of what does not fit.
    """
    network = about.get("network", "")
    if given is None and network not in SPECS:
        called = f"the network is called {network!r}" if network else "the file has no name for it"
        raise ValueError(
            f"{called}, and bvlc_alexnet and caffenet have the same layers and shapes: "
            "say which it is, with --spec, or spec= in Python"
        )
    of = given or spec(SPECS[network])
    last = arrays.get("fc8.bias")
    if last is not None and last.ndim == 1 and len(last):
        of = dataclasses.replace(of, num_classes=len(last))
    params = to_ours(arrays, LAYERS, of, input_size(of, PREPROCESSING))
    conv1 = params["backbone"]["conv1"]
    conv1["kernel"] = np.ascontiguousarray(conv1["kernel"][:, :, ::-1])
    return Weights(of, params, PREPROCESSING, notes=(NOTE,))
