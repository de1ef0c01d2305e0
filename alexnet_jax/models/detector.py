"""Spec -> a network that finds objects as points: a heat map of centres a class, size and offset.

CenterNet (Zhou, Wang and Kraehenbuehl 2019, arXiv:1904.07850) on AlexNet's convolutions. The last
convolution (stride 16 at 224 px) is laid bilinearly on the places of conv2 (stride 8), where both
are joined, and two 3x3 convolutions follow (fcn.py, `Neck`). Dense layers have no part in it.

Parameters: `backbone/{conv1 .. conv5, norm1 ..}`, `neck/{fine, deep, mix1, mix2}`,
`boxes/{size, offset}`, `head/heat`. The last three have kernels of zero at first, and the heat
map's bias makes every place an object with probability 0.1 (Lin et al. 2017, arXiv:1708.02002).
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.models.backbone import seen
from alexnet_jax.models.fcn import Neck, places, taps_of
from alexnet_jax.models.spec import Spec

FINE = "conv2"  # the tap at whose places objects are found
LIKELY = 0.1


@jax.tree_util.register_static
class Extent(NamedTuple):
    """Height and width of the images, in pixels: no array, so that shapes may depend on it."""

    height: int
    width: int


class Maps(NamedTuple):
    """What the network says at each place of `FINE`, float32.

    `heat` [B, h, w, K], logits of a centre; `size` [B, h, w, 2], height and width, and `offset`
    [B, h, w, 2], (y, x) from the place to the centre, both in steps of the map.
    """

    heat: Array
    size: Array
    offset: Array
    extent: Extent


class Detector(nn.Module):
    """`Detector(spec).apply({"params": p}, images) -> Maps`.

    Arguments and fields as `AlexNet` has them. `spec` is one without dense layers
    (`without_dense`), but for a backbone that is shared. `features` are the channels behind the
    backbone.
    """

    spec: Spec
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    exact: bool = False
    features: int = 128

    @nn.compact
    def __call__(
        self,
        images: Array,
        *,
        taps: bool = False,
        values: dict[str, Array] | None = None,
        **how: Any,
    ) -> Any:
        """Maps of images [B, H, W, 3]; with `taps`, (maps, {tap: value}).

        `values` are those of a backbone that saw the images already; this network then has none.
        Raises ValueError for images too small.
        """
        extent = Extent(images.shape[1], images.shape[2])
        values = seen(self, images, 1, how) if values is None else values
        values = taps_of(values)
        deep, found = self.spec.conv_layers()[-1][0], places(self.spec)
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        neck = Neck(
            self.features, found[deep], found[FINE], 2, exact=self.exact, **kind, name="neck"
        )
        x = neck(values[FINE], values[deep])
        boxes = Scores((("size", 2, 0.0), ("offset", 2, 0.0)), **kind, name="boxes")(x)
        bias = -log((1 - LIKELY) / LIKELY)
        head = Scores((("heat", self.spec.num_classes, bias),), **kind, name="head")(x)
        maps = Maps(head["heat"], boxes["size"], boxes["offset"], extent)
        return (maps, {**values, "logits": maps.heat}) if taps else maps


class Scores(nn.Module):
    """{name: float32 [B, h, w, count]} of each place alone, for (name, count, first bias)."""

    kinds: tuple[tuple[str, int, float], ...]
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        number = jnp.promote_types(jnp.float32, self.dtype)
        return {
            name: nn.Dense(
                count,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.constant(bias),
                name=name,
            )(x).astype(number)
            for name, count, bias in self.kinds
        }


def without_dense(spec: Spec) -> Spec:
    """The spec's convolutions alone, with the dropout that lies between them."""
    between = [name for name, _ in spec.conv_layers()]
    between += [name.replace("conv", "pool") for name in between[:-1]]
    dropout = tuple(tap for tap in spec.dropout if tap in between)
    return replace(spec, dense=(), dense_normalization=False, dropout=dropout)
