"""A network as an ONNX graph, node by node from its spec: pixels in, logits and probabilities out.

Operators: onnx.ai/onnx/operators. ONNX lays images out channels first, so the graph transposes once
after the preprocessing, and back before the first dense layer, whose rows are in our order.
"""

from __future__ import annotations

import os
from itertools import count
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import __version__
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.layers import BatchNorm
from alexnet_jax.models.spec import Conv, Spec, shapes
from alexnet_jax.weights.base import Weights
from alexnet_jax.weights.containers import ABOUT
from alexnet_jax.weights.files import replacing
from alexnet_jax.weights.own import describe

OPSET, IR = 20, 9  # of 2023, the oldest with Gelu; onnxruntime reads them from 1.17 on
LIMIT = 2**31  # bytes that one file of protobuf may have
# Flax's activations as ONNX names them; silu is made of two nodes.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "gelu": ("Gelu", {"approximate": "tanh"}),
}


class Graph:
    """Nodes and constants as they are added, in order."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self._number = count()

    def __call__(self, op: str, *inputs: Any, output: str | None = None, **attributes: Any) -> str:
        """Add a node; its inputs are names of values, or arrays. Returns its output's name."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = output or f"{op.lower()}_{next(self._number)}"
        self.nodes.append((op, names, output, attributes))
        return output

    def constant(self, array: Any, name: str | None = None) -> str:
        name = name or f"constant_{next(self._number)}"
        self.constants[name] = np.ascontiguousarray(array)
        return name


def model(weights: Weights) -> Any:
    """`onnx.ModelProto` with input "image" uint8 [batch, canvas, canvas, 3], red, green, blue.

    Outputs are "logits" and "probability", float32 [batch, K]; the batch may have any size. Spec,
    preprocessing and classes go with it, as JSON in its metadata.

    Raises ValueError where onnx is not installed, or for what no ONNX file can hold.
    """
    onnx = _onnx()
    helper, of = onnx.helper, weights.spec
    p = Preprocessing.from_json(weights.preprocessing or {})
    _check(weights)
    graph = Graph()
    x = _preprocess(graph, "image", p)
    x = _convolutions(graph, x, weights, p.size)
    _dense_layers(graph, x, weights)

    uint8, float32 = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    pixels, answers = ["batch", p.canvas, p.canvas, 3], ["batch", of.num_classes]
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ins, [out], **more) for op, ins, out, more in graph.nodes],
            of.name,
            [helper.make_tensor_value_info("image", uint8, pixels)],
            [helper.make_tensor_value_info(n, float32, answers) for n in ("logits", "probability")],
            [onnx.numpy_helper.from_array(a, name) for name, a in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="alexnet_jax",
        producer_version=__version__,
    )
    helper.set_model_props(made, {ABOUT: describe(weights)})
    onnx.checker.check_model(made, full_check=True)
    return made


def write_onnx(weights: Weights, path: str | os.PathLike[str]) -> None:
    """Write `model(weights)`; all or nothing."""
    packed = model(weights).SerializeToString()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(packed)


def _preprocess(graph: Graph, x: str, p: Preprocessing) -> str:
    """Centre crop, mean, deviation and order of channels; [B, H, W, 3] -> [B, 3, size, size]."""
    if p.size < p.canvas:
        start = (p.canvas - p.size) // 2
        bounds = [np.array([at, at]) for at in (start, start + p.size)]
        x = graph("Slice", x, *bounds, np.array([1, 2]))
    x = graph("Cast", x, to=1)
    x = graph("Sub", x, np.array(p.mean, np.float32))
    x = graph("Mul", x, np.float32(1) / np.array(p.std, np.float32))
    if p.channels == "bgr":
        x = graph("Gather", x, np.array([2, 1, 0]), axis=3)
    return graph("Transpose", x, perm=[0, 3, 1, 2])


def _convolutions(graph: Graph, x: str, weights: Weights, size: int) -> str:
    outputs = dict(shapes(weights.spec, size))
    for name, conv in weights.spec.conv_layers():
        x = _convolution(graph, x, name, conv, weights)
        side, _, channels = outputs[name]
        for step in conv.then:
            if step == "normalization":
                norm = name.replace("conv", "norm")
                x = _normalize(graph, x, norm, (channels, side, side), weights)
            elif step == "spatial_normalization":
                x = _spatial_response_norm(graph, x)
            elif step == "activation":
                x = _activate(graph, x, weights.spec.activation)
            else:
                x = graph("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
                side = (side - 3) // 2 + 1
    return graph("Flatten", graph("Transpose", x, perm=[0, 2, 3, 1]))


def _convolution(graph: Graph, x: str, name: str, conv: Conv, weights: Weights) -> str:
    layer = weights.params["backbone"][name]
    kernel = graph.constant(layer["kernel"].transpose(3, 2, 0, 1), f"{name}/kernel")
    bias = [graph.constant(layer["bias"], f"{name}/bias")] if "bias" in layer else []
    before, after = conv.padding
    return graph(
        "Conv",
        x,
        kernel,
        *bias,
        strides=[conv.stride] * 2,
        pads=[before, before, after, after],
        group=conv.groups,
    )


def _dense_layers(graph: Graph, x: str, weights: Weights) -> None:
    of = weights.spec
    for name, neurons in of.dense_layers():
        x = _gemm(graph, x, name, weights.params["backbone"][name])
        if of.dense_normalization:
            x = _normalize(graph, x, name.replace("fc", "norm"), (neurons,), weights)
        x = _activate(graph, x, of.activation)
    x = _gemm(graph, x, "head", weights.params["head"], output="logits")
    graph("Softmax", x, axis=1, output="probability")


def _gemm(graph: Graph, x: str, name: str, layer: dict, output: str | None = None) -> str:
    values = [graph.constant(layer[k], f"{name}/{k}") for k in ("kernel", "bias") if k in layer]
    return graph("Gemm", x, *values, output=output)


def _activate(graph: Graph, x: str, name: str) -> str:
    if name == "identity":
        return x
    if name == "silu":
        return graph("Mul", x, graph("Sigmoid", x))
    op, attributes = ACTIVATIONS[name]
    return graph(op, x, **attributes)


def _normalize(graph: Graph, x: str, name: str, shape: tuple[int, ...], weights: Weights) -> str:
    """The spec's normalization of x, [B, *shape], channels first."""
    of, channels, places = weights.spec, shape[0], shape[1:]
    if of.normalization == "none":
        return x
    if of.normalization == "local_response":
        return _response_norm(graph, x, shape, of)
    layer = weights.params["backbone"][name]
    scale, bias = layer["scale"], layer["bias"]
    if of.normalization == "batch":
        stats = weights.batch_stats["backbone"][name]
        given = (scale, bias, stats["mean"], stats["var"])
        return graph("BatchNormalization", x, *given, epsilon=BatchNorm.epsilon)
    # Group norm is the instance norm of its groups; layer norm has one.
    groups = 1 if of.normalization == "layer" else gcd(32, channels)
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    x = graph("Reshape", x, np.array([-1, groups, channels // groups * int(np.prod(places))]))
    x = graph("InstanceNormalization", x, ones, zeros, epsilon=1e-5)
    x = graph("Reshape", x, np.array([-1, *shape]))
    each = (-1, *(1 for _ in places))
    return graph("Add", graph("Mul", x, scale.reshape(each)), bias.reshape(each))


def _response_norm(graph: Graph, x: str, shape: tuple[int, ...], of: Spec) -> str:
    """ONNX divides alpha by the window's size too. Towers pass as images of their own."""
    norm, places = of.response_norm, shape[1:] or (1, 1)
    apart = norm.towers > 1 or len(shape) == 1
    if apart:
        x = graph("Reshape", x, np.array([-1, shape[0] // norm.towers, *places]))
    x = graph("LRN", x, size=norm.size, alpha=norm.alpha, beta=norm.beta, bias=norm.k)
    return graph("Reshape", x, np.array([-1, *shape])) if apart else x


def _spatial_response_norm(
    graph: Graph, x: str, size: int = 5, alpha: float = 1e-3, beta: float = 0.75
) -> str:
    """As `layers.spatial_response_norm`: the mean of squares over size x size pixels, with zeros
    around the image."""
    mean = graph(
        "AveragePool",
        graph("Mul", x, x),
        kernel_shape=[size, size],
        pads=[size // 2] * 4,
        count_include_pad=1,
    )
    scale = graph("Add", graph("Mul", mean, np.float32(alpha)), np.float32(1))
    return graph("Mul", x, graph("Pow", scale, np.float32(-beta)))


def _check(weights: Weights) -> None:
    of = weights.spec
    if of.normalization == "local_response" and of.response_norm.size % 2 == 0:
        raise ValueError(
            f"response_norm.size is {of.response_norm.size}: ONNX centres windows of an odd size "
            "only; export .stablehlo instead"
        )
    arrays = [x for layer in weights.params["backbone"].values() for x in layer.values()]
    total = sum(x.nbytes for x in [*arrays, *weights.params["head"].values()])
    if total >= LIMIT - 2**20:
        raise ValueError(
            f"the parameters take {total:,} bytes, and an ONNX file holds less than {LIMIT:,}; "
            "export .stablehlo instead"
        )


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ValueError(
            "this needs the package onnx: pip install 'alexnet_jax[export]'"
        ) from error
    return onnx
