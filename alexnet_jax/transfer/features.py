"""A frozen network as a feature extractor: what one of its taps sees in every example of a split.

Features are computed once and kept on disk, under a name made of all that they depend on:
parameters, network, tap, preprocessing and data.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax import __version__
from alexnet_jax.cache import cache_folder
from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.leaves import digest
from alexnet_jax.models import spec as specs
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.backbone import Backbone, Pass
from alexnet_jax.transfer.freeze import layers_up_to
from alexnet_jax.weights.files import replacing

if TYPE_CHECKING:
    from alexnet_jax.data.loader import Reader


class Features(NamedTuple):
    """`values` float32 [N, D] and `labels` int32 [N], in the order of the split."""

    values: np.ndarray
    labels: np.ndarray


def tap_values(variables: Mapping[str, Any], images: Array, *, net: AlexNet, tap: str) -> Array:
    """A tap's value, float32 [B, D], for images [B, H, W, 3] as the network takes them.

    `variables` holds "params" and, under batch normalization, "batch_stats"; dense layers behind
    the tap are neither computed nor need parameters. Raises ValueError for an unknown tap, for
    "logits", for a dense layer that is a convolution, and where a layer has no parameters.
    """
    if tap == "logits":
        raise ValueError("logits are the network's answer; take a tap before them")
    convs = [name for name, _ in net.spec.conv_layers()]
    dense = [name for name in layers_up_to(net.spec, tap) if name.startswith("fc")]
    given = variables["params"]["backbone"]
    if absent := [name for name in (*convs, *dense) if name not in given]:
        raise ValueError(f"the tap {tap!r} needs {', '.join(absent)}, which the file has not")
    if maps := [name for name in dense if given[name]["kernel"].ndim == 4]:
        raise ValueError(f"{maps[0]} of a segmentation network is a map; take a tap before it")
    spec = replace(net.spec, dense=net.spec.dense[: len(dense)], dropout=())
    backbone = Backbone(spec, net.dtype, net.param_dtype, net.exact)
    count = images.shape[0]
    evaluation = Pass(False, jnp.arange(count), jnp.ones(count, bool), None, (), 0.0)
    inner = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
    values: Any = backbone.apply(inner, images.astype(net.dtype), evaluation)
    return values[tap].reshape(count, -1).astype(jnp.float32)


def compute(
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, Any]],
    *,
    net: AlexNet,
    tap: str,
    preprocessing: Preprocessing,
    mirrored: bool = False,
) -> Features:
    """The features of all examples, or of their mirror images, in `batches` of canvases."""
    variables = jax.device_put(variables)  # once, not with every batch
    how: dict[str, Any] = {"net": net, "tap": tap, "preprocessing": preprocessing}
    values, labels = [], []
    for batch in batches:
        kept = np.asarray(batch["valid"])
        found = _canvas_values(variables, batch["image"], mirrored=mirrored, **how)
        values.append(np.asarray(found)[kept])
        labels.append(np.asarray(batch["label"])[kept])
    return Features(np.concatenate(values), np.concatenate(labels).astype(np.int32))


@partial(jax.jit, static_argnames=("net", "tap", "preprocessing", "mirrored"))
def _canvas_values(
    variables: Mapping[str, Any],
    canvases: Array,
    *,
    net: AlexNet,
    tap: str,
    preprocessing: Preprocessing,
    mirrored: bool,
) -> Array:
    """A tap's values for canvases, or for their mirror images; compiled once for all splits."""
    canvases = canvases[:, :, ::-1] if mirrored else canvases
    images = preprocess({"image": canvases}, preprocessing)["image"]
    return tap_values(variables, images, net=net, tap=tap)


def split_features(
    variables: Mapping[str, Any],
    reader: Reader,
    *,
    net: AlexNet,
    tap: str,
    preprocessing: Preprocessing,
    data: Mapping[str, str],
    folder: Path,
    batch_size: int = 64,
    mirrored: bool = False,
) -> Features:
    """The features of a whole split, or of its mirror images, out of `folder` where they lie there
    already."""
    from alexnet_jax.data.loader import evaluation_batches  # which needs the extra `data`

    how: dict[str, Any] = {"net": net, "tap": tap, "preprocessing": preprocessing}
    data = {**data, "mirrored": "yes"} if mirrored else data
    path = folder / f"{cache_key(variables, data=data, **how)}.npz"
    if (known := load(path)) is not None:
        return known
    features = compute(
        variables, evaluation_batches(reader, batch_size=batch_size), mirrored=mirrored, **how
    )
    save(path, features)
    return features


def source_features(
    variables: Mapping[str, Any], readers: Mapping[str, Reader], fingerprint: str, **how: Any
) -> dict[str, Features]:
    """`split_features` of every split of a source that has this fingerprint, kept in the user's
    cache."""
    folder = cache_folder() / "features"
    return {
        name: split_features(
            variables,
            reader,
            data={"fingerprint": fingerprint, "split": name},
            folder=folder,
            **how,
        )
        for name, reader in readers.items()
    }


def cache_key(
    variables: Mapping[str, Any],
    *,
    net: AlexNet,
    tap: str,
    preprocessing: Preprocessing,
    data: Mapping[str, str],
) -> str:
    """Hex digest of all that features depend on; `data` names a split and its fingerprint."""
    facts = {
        "alexnet_jax": __version__,  # a later one may compute otherwise
        "canvas": "torchvision",  # how pictures are decoded, scaled and cut
        "spec": specs.to_json(net.spec),
        "dtype": jnp.dtype(net.dtype).name,
        "exact": net.exact,
        "tap": tap,
        "preprocessing": preprocessing.to_json(),
        "data": dict(data),
    }
    text = json.dumps({**facts, "arrays": digest(dict(variables))}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path) -> Features | None:
    """What `save` wrote, or None where there is nothing whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Features(arrays["values"], arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(path: Path, features: Features) -> None:
    """Write features to a file that appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, values=features.values, labels=features.labels)
