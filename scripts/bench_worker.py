#!/usr/bin/env python3
"""One side of a comparison, ours or PyTorch's, in a process of its own.

    scripts/bench_worker.py ours notes_224 train 32 float32

Prints one line of JSON when it is ready: the number of parameters, the loss before the first step
(no dropout), facts of the machine. Then each number of steps that comes in on stdin is done, after
one that does not count, and answered by one line with the seconds it took, and the most memory that
the process has held (with `--accelerator`, of the GPU's memory).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measuring

from alexnet_jax.memory import dispatch_in_place, give_back
from alexnet_jax.models.spec import Spec, hands_on, shapes, spec

LEARNING_RATE, MOMENTUM, L2 = 1e-3, 0.9, 5e-4


class Side(NamedTuple):
    """What `main` needs of a framework."""

    facts: dict[str, Any]
    run: measuring.Run
    peak: Callable[[], int]  # the most bytes of the accelerator's memory held so far


class Training(NamedTuple):
    """Our training; its `step`, (state, batch) -> (state, metrics), is still to be compiled."""

    task: Any
    step: Callable
    state: Any
    batch: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("side", choices=["ours", "pytorch"])
    parser.add_argument("spec")
    parser.add_argument("mode", choices=["train", "forward"])
    parser.add_argument("batch", type=int)
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    parser.add_argument("--torch-compile", metavar="MODE", help="compile PyTorch's net")
    parser.add_argument("--accelerator", action="store_true", help="compute on the GPU")
    options = parser.parse_args()
    build = ours
    if options.side == "pytorch":
        device = "cuda" if options.accelerator else "cpu"
        build = partial(pytorch, device=device, compiled=options.torch_compile)
    side = build(spec(options.spec), options.mode, options.batch, options.precision)
    give_back()  # as `train` does: what making the networks took,
    side.run(1)
    give_back()  # and compiling
    print(json.dumps(side.facts), flush=True)
    turn = measuring.timed(side.run)
    for request in sys.stdin:
        seconds = turn(int(request))
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
        peak = side.peak() if options.accelerator else held
        print(json.dumps({"seconds": seconds, "peak_mib": peak / 2**20}), flush=True)


def examples(net: Spec, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [B, H, W, 3] and labels int32 [B], the same for both sides."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, net.image_size, net.image_size, 3), np.float32)
    return images, rng.integers(0, net.num_classes, batch, np.int32)


def he_normal(layer: int, shape: tuple[int, ...]) -> np.ndarray:
    """The kernel, [h, w, in, out] or [in, out], that both sides start from; biases start at 0."""
    numbers = np.random.default_rng(layer).standard_normal(shape, np.float32)
    numbers *= np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    return numbers


# ---- ours ----------------------------------------------------------------------------------------


def training(net: Spec, batch: int, precision: str) -> Training:
    """The project's own train step, with kernels and examples that PyTorch's side has as well."""
    import jax

    from alexnet_jax import AlexNet, classification, init_state, optimizer, train_step

    module = AlexNet(replace(net, kernel_init="zeros"), dtype=jax.numpy.dtype(precision))
    task = classification(module)
    tx = optimizer("sgd", learning_rate=LEARNING_RATE, momentum=MOMENTUM, l2=L2)
    images, labels = examples(net, batch)
    create = partial(init_state, seed=0, task=task, tx=tx, image_shape=images.shape[1:])
    state = jax.jit(create)()
    params, state = state.params, state.replace(params=None)  # each kernel goes when its own comes
    names = [name for name, _ in (*net.conv_layers(), *net.dense_layers())]
    for i, layer in enumerate([*(params["backbone"][name] for name in names), params["head"]]):
        layer["kernel"] = jax.device_put(he_normal(i, layer["kernel"].shape))
    data = jax.device_put({"image": images, "label": labels})
    step = partial(train_step, task=task, tx=tx)
    return Training(task, step, state.replace(params=params), data)


def ours(net: Spec, mode: str, batch: int, precision: str) -> Side:
    import jax
    import optax

    from alexnet_jax.train.environment import environment

    dispatch_in_place()
    task, step, state, data = training(net, batch, precision)
    params = state.params
    forward = jax.jit(lambda params, images: task.net.apply({"params": params}, images))
    logits = forward(params, data["image"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["label"])
    facts = {
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "loss": float(losses.mean()),
        "machine": environment(),
    }

    def run_forward(steps: int) -> None:
        for _ in range(steps):
            logits = forward(params, data["image"])
        jax.block_until_ready(logits)

    if mode == "forward":  # and hold nothing of the optimizer
        return Side(facts, run_forward, jax_peak)
    forward.clear_cache()
    return Side(facts, measuring.repeated(jax.jit(step, donate_argnums=0), state, data), jax_peak)


def jax_peak() -> int:
    """The most bytes that jax has held on its first device; 0 where it does not tell (a CPU)."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


# ---- PyTorch's -----------------------------------------------------------------------------------


def pytorch(
    net: Spec, mode: str, batch: int, precision: str, device: str, compiled: str | None
) -> Side:
    import torch

    # On a GPU: the fastest convolutions are searched for, and float32 products may be TF32, as
    # jax's are. Neither matters on a CPU.
    torch.backends.cudnn.benchmark = True
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    images, labels = (torch.from_numpy(array).to(device) for array in examples(net, batch))
    images, labels = images.permute(0, 3, 1, 2), labels.long()  # NHWC memory is channels_last
    module = pytorch_net(net).to(device, memory_format=torch.channels_last)
    kernels = [p for p in module.parameters() if p.ndim > 1]
    biases = [p for p in module.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": L2}, {"params": biases}]
    tx = torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)

    def logits(called: Any) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            return called(images)

    def loss(called: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits(called).float(), labels)

    module.eval()
    with torch.no_grad():
        first_loss = loss(module).item()
    module.train(mode == "train")
    called = torch.compile(module, mode=compiled) if compiled else module

    def run(steps: int) -> None:
        for _ in range(steps):
            if mode == "train":
                tx.zero_grad(set_to_none=True)
                loss(called).backward()
                tx.step()
            else:
                with torch.no_grad():
                    logits(called)
        if device == "cuda":
            torch.cuda.synchronize()

    facts = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "loss": first_loss,
        "machine": {"torch": torch.__version__, "torch_threads": torch.get_num_threads()},
    }
    return Side(facts, run, torch.cuda.max_memory_allocated)


def pytorch_net(net: Spec) -> Any:
    """A spec without normalization as torch.nn.Sequential, with the kernels of `he_normal`."""
    from torch import nn

    def after(tap: str) -> list[nn.Module]:
        return [nn.Dropout(net.dropout_rate)] if tap in net.dropout else []

    modules: list[nn.Module] = []
    channels, tap = 3, ""
    for tap, conv in net.conv_layers():
        size, stride, padding = conv.kernel, conv.stride, conv.padding[0]
        modules += [
            nn.Conv2d(channels, conv.features, size, stride, padding, groups=conv.groups),
            nn.ReLU(inplace=True),
        ]
        if "pool" in conv.then:
            modules += [nn.MaxPool2d(3, 2)]
        tap = hands_on(tap, conv)
        modules += after(tap)
        channels = conv.features
    modules += [nn.Flatten()]
    last = dict(shapes(net, net.image_size))[tap]  # [h, w, c]
    features = int(np.prod(last))
    for name, neurons in net.dense_layers():
        modules += [nn.Linear(features, neurons), nn.ReLU(inplace=True), *after(name)]
        features = neurons
    modules += [nn.Linear(features, net.num_classes)]
    return set_parameters(nn.Sequential(*modules), last)


def set_parameters(module: Any, last: tuple[int, ...]) -> Any:
    """The parameters that `ours` starts from; `last` is [h, w, c] where the dense layers begin."""
    import torch

    layers = [layer for layer in module if hasattr(layer, "weight")]
    first_dense = next(layer for layer in layers if layer.weight.ndim == 2)
    with torch.no_grad():
        for i, layer in enumerate(layers):
            features, inputs, *window = layer.weight.shape
            kernel = he_normal(i, (*window, inputs, features))
            kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
            if layer is first_dense:  # its inputs come as [c, h, w] here, as [h, w, c] in ours
                kernel = np.moveaxis(kernel.reshape(-1, *last), -1, 1).reshape(kernel.shape)
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            layer.bias.zero_()
    return module


if __name__ == "__main__":
    main()
