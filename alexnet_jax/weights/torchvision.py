"""torchvision's AlexNet: its state dict's names, and which of our specs it can express.

Source: torchvision/models/alexnet.py; the network is Krizhevsky's of 2014, `one_weird_trick`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.spec import Spec, shapes, spec
from alexnet_jax.weights.base import Weights, input_size
from alexnet_jax.weights.channels_first import from_ours, to_ours

LAYERS = {
    "backbone/conv1": "features.0",
    "backbone/conv2": "features.3",
    "backbone/conv3": "features.6",
    "backbone/conv4": "features.8",
    "backbone/conv5": "features.10",
    "backbone/fc6": "classifier.1",
    "backbone/fc7": "classifier.4",
    "head": "classifier.6",
}
POOLED = 6  # torchvision pools conv5's output to 6 x 6 whatever the image's size

# AlexNet_Weights.IMAGENET1K_V1: the short side becomes 256, the middle 224 x 224 is cut out. Mean
# 0.485, 0.456, 0.406 and standard deviation 0.229, 0.224, 0.225 are of [0, 1]; here times 255.
PREPROCESSING = Preprocessing(
    canvas=256,
    size=224,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
).to_json()


def is_named_so(names: Any) -> bool:
    """Whether arrays have the names of a torchvision AlexNet."""
    return any(name.startswith(("features.", "classifier.")) for name in names)


def from_arrays(
    arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], given: Spec | None
) -> Weights:
    """Weights of {"features.0.weight": [64, 3, 11, 11], ...}.

    The number of classes is that of the last layer. Raises ValueError with a list of what is
    missing, unexpected or of another shape.
    """
    of = given or spec("one_weird_trick")
    last = arrays.get("classifier.6.bias")
    if last is not None and last.ndim == 1 and len(last):
        of = dataclasses.replace(of, num_classes=len(last))
    preprocessing = about.get("preprocessing", PREPROCESSING)
    size = input_size(of, preprocessing)
    _check_expressible(of, size)
    params = to_ours(arrays, LAYERS, of, size)
    return Weights(
        of,
        params,
        preprocessing,
        classes=about.get("classes", ()),
        notes=about.get("notes", ()),
    )


def to_arrays(weights: Weights) -> dict[str, np.ndarray]:
    """The state dict that `from_arrays` reads. Raises ValueError that says why there is none."""
    if weights.absent:
        raise ValueError(f"these weights lack {', '.join(weights.absent)}; write an .npz instead")
    size = input_size(weights.spec, weights.preprocessing)
    _check_expressible(weights.spec, size)
    return from_ours(weights.params, LAYERS, weights.spec, size)


def _check_expressible(given: Spec, size: int) -> None:
    """Widths and dropout may be any; everything else that is computed must be torchvision's."""
    theirs = spec("one_weird_trick")
    why = [
        f"{name} is {getattr(given, name)!r}, not {getattr(theirs, name)!r}"
        for name in ("depth", "activation", "normalization", "dense_normalization")
        if getattr(given, name) != getattr(theirs, name)
    ]
    if (len(given.convs), len(given.dense)) != (len(theirs.convs), len(theirs.dense)):
        why.append(
            f"it has {len(given.convs)} convolutions and {len(given.dense)} dense layers before "
            f"the head, not {len(theirs.convs)} and {len(theirs.dense)}"
        )
    for i, (a, b) in enumerate(zip(given.convs, theirs.convs, strict=False), 1):
        why += [
            f"conv{i}: {name} is {getattr(a, name)!r}, not {getattr(b, name)!r}"
            for name in ("kernel", "stride", "padding", "groups", "then")
            if getattr(a, name) != getattr(b, name)
        ]
    side = dict(shapes(given, size)).get("pool5", (0,))[0]
    if not why and side != POOLED:
        why.append(f"at {size} px its fc6 reads {side} x {side} positions, not {POOLED} x {POOLED}")
    if why:
        raise ValueError(
            f"torchvision's AlexNet cannot express {given.name!r}; .npz can:\n  " + "\n  ".join(why)
        )
