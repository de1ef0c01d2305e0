"""Spec -> network: a backbone of convolutions and dense layers (backbone.py), and a linear head.

Parameters: `backbone` as the backbone's, `head/{kernel, bias}`. Taps: the backbone's, and `logits`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.models import kernels
from alexnet_jax.models.backbone import Backbone, begin, check_images, dense_layer
from alexnet_jax.models.spec import Spec, hands_on, shapes


class AlexNet(nn.Module):
    """`AlexNet(spec).apply({"params": p}, images) -> logits`, float32 [B, num_classes].

    `dtype` is the type of computation, `param_dtype` that of parameters; statistics and logits are
    float32 in any case (float64 where parameters are). `exact` keeps to plain `lax` convolutions
    where a faster form would round otherwise (kernels.py). `behind` names a tap: the network then
    takes that tap's value in place of images, and has only the layers behind it. Softmax is left to
    whoever asks for probabilities.
    """

    spec: Spec
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    exact: bool = False
    behind: str | None = None

    @nn.compact
    def __call__(
        self,
        images: Array,
        *,
        train: bool = False,
        rows: Array | None = None,
        valid: Array | None = None,
        axis_name: str | None = None,
        frozen: tuple[str, ...] = (),
        taps: bool = False,
    ) -> Any:
        """Logits of images [B, H, W, 3]; uint8 images are scaled to [0, 1].

        With `taps`, (logits, {tap: value}). Training draws dropout from the rng "dropout" and
        updates the collection "batch_stats". `frozen` layers keep evaluation's behaviour.
        Raises ValueError for images too small or not [B, H, W, 3].
        """
        if self.behind is None:
            check_images(self.spec, images)
        images, how = begin(self, images, train, rows, valid, axis_name, frozen)
        settings = (self.spec, self.dtype, self.param_dtype, self.exact, self.behind)
        backbone = Backbone(*settings, name="backbone")
        values = backbone(images, how)
        features = values.pop("features")
        head = dense_layer(self, "head", self.spec.num_classes, bias=0.0)
        logits = head(features).astype(jnp.promote_types(jnp.float32, self.dtype))
        return (logits, {**values, "logits": logits}) if taps else logits


def convolution_forms(net: AlexNet, size: int, batch: int) -> dict[str, str]:
    """{layer: the form its convolution takes on this backend} in a batch of square images."""
    forms, side, channels = {}, size, 3
    outputs = dict(shapes(net.spec, size))
    for name, conv in net.spec.conv_layers():
        inputs = channels // conv.groups
        forms[name] = kernels.form(
            jax.ShapeDtypeStruct((batch, side, side, inputs), net.dtype),
            jax.ShapeDtypeStruct(
                (conv.kernel, conv.kernel, inputs, conv.features // conv.groups), net.dtype
            ),
            stride=conv.stride,
            padding=conv.padding,
            exact=net.exact,
        )
        side, _, channels = outputs[hands_on(name, conv)]
    return forms
