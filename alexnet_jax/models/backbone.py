"""Everything of a network before its head: convolutions and dense layers with named taps.

All networks have it alike: the classifier (alexnet.py), and those that answer at every place.
Parameters: `{conv1 .. conv5, norm1 .., fc6, fc7}/{kernel, bias}`. Taps: `conv1 .. conv5` after
normalization and activation, before pooling; `pool1, pool2, pool5` as they enter the next layer;
`fc6, fc7` after activation, before dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.models import kernels, layers
from alexnet_jax.models.initializers import kernel_initializer
from alexnet_jax.models.spec import Conv, Spec, hands_on, layers_behind, smallest_size

# Activations that keep order, in floating point too, so that they may change places with a maximum.
NEVER_FALLING = ("relu", "leaky_relu", "identity")


class Pass(NamedTuple):
    """What one pass through the network needs to know besides the images."""

    train: bool
    rows: Array  # int32 [B], each example's row in the global batch: keys its dropout
    valid: Array  # bool [B], whether the example counts in batch statistics
    axis_name: str | None  # the mapped axis that batch statistics are summed over
    frozen: tuple[str, ...]  # layers that run as in evaluation
    dropout_rate: Array | float


class Backbone(nn.Module):
    """Everything before the head: {tap: value, "features": what the head receives}.

    With a `window`, the first dense layer is a convolution that sees so many places of the last map
    at once, and as many come out as went in: the dense layers answer at every place (fcn.py).
    """

    spec: Spec
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    exact: bool = False
    behind: str | None = None
    window: int | None = None

    @nn.compact
    def __call__(self, x: Array, how: Pass) -> dict[str, Array]:
        spec = self.spec
        convs, dense = layers_behind(spec, self.behind)
        activation, falls_never = _activation(spec.activation), spec.activation in NEVER_FALLING
        taps: dict[str, Array] = {}
        for name, conv in convs:
            x, bias = Convolution(
                conv,
                spec.kernel_init,
                _bias(spec, conv),
                self.dtype,
                self.param_dtype,
                self.exact,
                name=name,
            )(x)
            norm, pool = name.replace("conv", "norm"), hands_on(name, conv)
            tap, steps = name, conv.then
            if bias is not None and steps == ("activation", "pool") and falls_never:
                # The same values, of which bias and activation then have a quarter to work on.
                taps[tap], tap, steps = activation(add_bias(x, bias)), pool, ("activation",)
                x = kernels.max_pool(x)
            x = add_bias(x, bias)
            for step in steps:
                if step == "normalization":
                    x = self.normalize(x, norm, how)
                elif step == "spatial_normalization":
                    x = layers.spatial_response_norm(x)
                elif step == "activation":
                    x = activation(x)
                else:
                    taps[tap], tap = x, pool
                    x = kernels.max_pool(x)
            taps[tap] = x
            x = self.drop(x, tap, how, frozen=name in how.frozen)
        if self.window is None:
            x = x.reshape(x.shape[0], -1)
        for place, (name, neurons) in enumerate(dense):
            # A bias that a batch norm follows at once would be subtracted again: none is made.
            batch_norm = spec.dense_normalization and spec.normalization == "batch"
            layer = dense_layer if self.window is None or place else _windowed
            x = layer(self, name, neurons, None if batch_norm else spec.dense_bias)(x)
            if spec.dense_normalization:
                x = self.normalize(x, name.replace("fc", "norm"), how)
            taps[name] = x = activation(x)
            x = self.drop(x, name, how, frozen=name in how.frozen)
        return {**taps, "features": x}

    def normalize(self, x: Array, name: str, how: Pass) -> Array:
        kind, channels = self.spec.normalization, x.shape[-1]
        if kind == "local_response":
            return layers.response_norm(x, self.spec.response_norm)
        if kind == "batch":
            norm = layers.BatchNorm(param_dtype=self.param_dtype, name=name)
            return norm(x, how.valid, how.axis_name, how.train and name not in how.frozen)
        if kind in ("layer", "group"):  # layer norm is group norm with one group (Wu and He 2018)
            groups = 1 if kind == "layer" else gcd(32, channels)
            group_norm = nn.GroupNorm(
                groups, epsilon=1e-5, dtype=self.dtype, param_dtype=self.param_dtype, name=name
            )
            return group_norm(x)
        return x

    def drop(self, x: Array, tap: str, how: Pass, *, frozen: bool) -> Array:
        if tap not in self.spec.dropout or not how.train or frozen or self.is_initializing():
            return x
        key = jax.random.fold_in(self.make_rng("dropout"), self.spec.dropout.index(tap))
        return layers.dropout(x, how.dropout_rate, key, how.rows)


class Convolution(nn.Module):
    """A convolution's parameters, and the form of it that kernels.py chooses.

    Returns its output and the bias that is still to be added, None where there is none.
    """

    conv: Conv
    kernel_init: str
    bias: float | None
    dtype: Any
    param_dtype: Any
    exact: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        conv = self.conv
        shape = (conv.kernel, conv.kernel, x.shape[-1] // conv.groups, conv.features)
        init = kernel_initializer(self.kernel_init, str(self.name))
        kernel = self.param("kernel", init, shape, self.param_dtype).astype(self.dtype)
        x = kernels.convolution(
            x,
            kernel,
            stride=conv.stride,
            padding=conv.padding,
            groups=conv.groups,
            exact=self.exact,
        )
        return x, _bias_of(self, conv.features)


class Dense(nn.Module):
    """A dense layer, [..., N] -> [..., neurons]; no bias where that is None."""

    neurons: int
    kernel_init: str
    bias: float | None
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = kernel_initializer(self.kernel_init, str(self.name))
        kernel = self.param("kernel", init, (x.shape[-1], self.neurons), self.param_dtype)
        x = kernels.dense(x.astype(self.dtype), kernel)
        return add_bias(x, _bias_of(self, self.neurons))


def _bias_of(layer: Convolution | Dense, count: int) -> Array | None:
    """The bias [count] of a layer, a parameter of it; None where it has none."""
    if layer.bias is None:
        return None
    constant = nn.initializers.constant(layer.bias)
    return layer.param("bias", constant, (count,), layer.param_dtype)


def add_bias(x: Array, bias: Array | None) -> Array:
    """[..., N] + [N], in the dtype of `x`; `x` itself where there is no bias.

    Added in the bias's own dtype where that is wider, so that its gradient, a sum over all places,
    is added up in it: more exact, and on a CPU several times faster than in half precision.
    """
    return x if bias is None else (x + bias).astype(x.dtype)


def dense_layer(module: Any, name: str, neurons: int, bias: float | None) -> Dense:
    """The dense layer of a network that has `spec`, `dtype` and `param_dtype`."""
    init = module.spec.kernel_init
    return Dense(neurons, init, bias, module.dtype, module.param_dtype, name=name)


def _windowed(module: Any, name: str, neurons: int, bias: float | None) -> Any:
    """A dense layer over each window of a map, [B, H, W, C] -> [B, H, W, neurons]."""
    padding = window_padding(module.window)
    conv = Conv(neurons, module.window, padding=padding)
    settings = (module.dtype, module.param_dtype, module.exact)
    layer = Convolution(conv, module.spec.kernel_init, bias, *settings, name=name)

    def apply(x: Array) -> Array:
        return add_bias(*layer(x))

    return apply


def window_padding(window: int) -> tuple[int, int]:
    """(before, after): as many windows as places, the odd one of an even window after."""
    return (window - 1) // 2, window // 2


def _activation(name: str) -> Any:
    return (lambda x: x) if name == "identity" else getattr(nn, name)


def _bias(spec: Spec, conv: Conv) -> float | None:
    """A convolution's first bias; None, for no bias, where a batch norm would subtract it again."""
    return None if conv.then[0] == "normalization" and spec.normalization == "batch" else conv.bias


def begin(
    module: Any,
    images: Array,
    train: bool = False,
    rows: Array | None = None,
    valid: Array | None = None,
    axis_name: str | None = None,
    frozen: tuple[str, ...] = (),
) -> tuple[Array, Pass]:
    """What a network's call begins with: (images in the network's dtype, how they are to pass).

    `module` is the network itself; the arguments are those of `AlexNet.__call__`.
    """
    images = as_float(images)
    batch = images.shape[0]
    rows = jnp.arange(batch, dtype=jnp.int32) if rows is None else rows
    valid = jnp.ones(batch, bool) if valid is None else valid
    # The rate is an array of the train state where there is one, so that sweeps compile once.
    rate = module.get_variable("hyper", "dropout_rate", module.spec.dropout_rate)
    return images.astype(module.dtype), Pass(train, rows, valid, axis_name, frozen, rate)


def seen(module: Any, images: Array, window: int, how: Mapping[str, Any]) -> dict[str, Array]:
    """What a network's own backbone sees in images: {tap: value, "features": ..}; its dense layers
    at every place, through a `window`. To be called within the network's call.

    `module` is the network itself, `how` the other arguments of `AlexNet.__call__`. Raises
    ValueError for images too small.
    """
    check_images(module.spec, images)
    images, passing = begin(module, images, **how)
    settings = (module.spec, module.dtype, module.param_dtype, module.exact)
    return Backbone(*settings, window=window, name="backbone")(images, passing)


def as_float(images: Array) -> Array:
    """uint8 images scaled to [0, 1]; others as they are."""
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


def check_images(spec: Spec, images: Array) -> None:
    """Raise ValueError for images too small for the spec or not [B, H, W, 3]."""
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images have shape {images.shape}; expected [batch, height, width, 3]")
    if min(images.shape[1:3]) < (smallest := smallest_size(spec)):
        raise ValueError(
            f"images are {images.shape[1]}x{images.shape[2]} px; the smallest that {spec.name!r} "
            f"works on is {smallest}x{smallest}"
        )
