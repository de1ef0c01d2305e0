"""The same weights in PyTorch give the same logits, loss and gradients, leaf by leaf."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.tasks.classification import classification


def one_weird_trick() -> torch.nn.Sequential:
    """torchvision's AlexNet, without dropout."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


def notes_224() -> torch.nn.Sequential:
    """The network of the lecture notes' figure, without dropout."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * 5 * 5, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


NETWORKS = {"one_weird_trick": one_weird_trick, "notes_224": notes_224}


def from_torch(layer: torch.nn.Module, weight: torch.Tensor, channels: int | None) -> np.ndarray:
    """A weight or its gradient in our layout: HWIO, or [in, out]; fc6 reads H, W, C in our order
    and C, H, W in PyTorch's, with `channels` the C."""
    array = weight.detach().numpy()
    if isinstance(layer, torch.nn.Conv2d):
        return array.transpose(2, 3, 1, 0)
    if channels is None:
        return array.T
    side = round((array.shape[1] // channels) ** 0.5)
    return array.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(-1, len(array))


def as_ours(net: torch.nn.Sequential, read) -> dict:
    """Our tree of parameters, with `read(tensor)` of each of PyTorch's."""
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "head"]
    layers = [layer for layer in net if hasattr(layer, "weight")]
    tree = {
        name: {
            "kernel": from_torch(layer, read(layer.weight), 256 if name == "fc6" else None),
            "bias": read(layer.bias).detach().numpy(),
        }
        for name, layer in zip(names, layers, strict=True)
    }
    return {"head": tree.pop("head"), "backbone": tree}


def activations(theirs: torch.nn.Sequential, images: np.ndarray) -> list[np.ndarray]:
    """[B, H, W, C] or [B, C] after every ReLU."""
    found, x = [], torch.tensor(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        for layer in theirs:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                found.append(x.permute(0, 2, 3, 1).numpy() if x.ndim == 4 else x.numpy())
    return found


def decisions(values: list[np.ndarray]) -> list[np.ndarray]:
    """Which units are active, and where each pooling window finds its maximum."""
    pooled = (torch.tensor(v).permute(0, 3, 1, 2) for v in (values[0], values[1], values[4]))
    places = [torch.nn.functional.max_pool2d(v, 3, 2, return_indices=True)[1] for v in pooled]
    return [v > 0 for v in values] + [place.numpy() for place in places]


def differences(name: str, dtype: str, exact: bool = False) -> dict[str, float]:
    """{what: max|a - b| / max|b|} between ours and PyTorch's on a batch of 2."""
    torch.manual_seed(0)
    theirs = NETWORKS[name]().to(getattr(torch, dtype))
    net = AlexNet(spec(name, dropout=()), dtype=dtype, param_dtype=dtype, exact=exact)
    task = classification(net)
    params = jax.tree.map(jnp.asarray, as_ours(theirs, lambda tensor: tensor))
    labels = np.array([3, 977], np.int32)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def objective(params, images):
        batch = {"image": images, "label": labels}
        logits, taps = net.apply({"params": params}, images, train=True, taps=True)
        total, weight = task.terms(logits, batch, True)["loss"]
        return total / weight, (logits, taps)

    # The gradient jumps where rounding decides on which side of zero, or of another maximum, one
    # of a million units falls, in this very program. Compared are images on which both programs
    # decide alike.
    for seed in range(20):
        images = np.random.default_rng(seed).normal(size=(2, 224, 224, 3)).astype(dtype)
        (our_loss, (our_logits, taps)), gradient = objective(params, images)
        ours = [np.asarray(v) for tap, v in taps.items() if tap.startswith(("conv", "fc"))]
        pairs = zip(decisions(ours), decisions(activations(theirs, images)), strict=True)
        if all((a == b).all() for a, b in pairs):
            break
    else:
        raise AssertionError("no images found on which rounding decides nothing")

    logits = theirs(torch.tensor(images.transpose(0, 3, 1, 2)))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.long))
    loss.backward()
    compared = {
        "logits": (our_logits, logits.detach().numpy()),
        "loss": (our_loss, loss.detach().numpy()),
    }
    expected = as_ours(theirs, lambda tensor: tensor.grad)
    assert jax.tree.structure(gradient) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(expected), strict=True
    ):
        compared["gradient of " + jax.tree_util.keystr(path)] = (a, b)
    assert all(np.asarray(a).dtype == dtype for a, _ in compared.values())
    return {
        what: float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
        for what, (a, b) in compared.items()
    }


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("notes_224", False),
        ("notes_224", True),
        ("one_weird_trick", True),
        pytest.param("one_weird_trick", False, marks=pytest.mark.slow),
    ],
)
def test_float32_agrees_with_pytorch(name, exact):
    found = differences(name, "float32", exact)
    assert len(found) == 2 + 16
    for what, difference in found.items():
        assert difference <= (1e-4 if what.startswith("gradient") else 1e-5), what


@pytest.mark.slow
def test_float64_agrees_with_pytorch_to_rounding(own_process):
    source = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parity import NETWORKS, differences
print(json.dumps({{name: differences(name, "float64") for name in NETWORKS}}))
"""
    for found in own_process(source, JAX_ENABLE_X64="true").values():
        assert len(found) == 2 + 16
        assert max(found.values()) <= 1e-9, json.dumps(found, indent=2)
