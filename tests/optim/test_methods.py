"""The methods by name are those of optax and PyTorch."""

from __future__ import annotations

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch
from bowl import PARAMS, TARGET, assert_close, kernels, run

from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.methods import names
from alexnet_jax.optim.rules import Rules

COMMON = ("adam", "nadam", "rmsprop", "adagrad", "lars", "lamb", "lion", "muon", "adafactor")
NAMES = [
    name if name in COMMON else pytest.param(name, marks=pytest.mark.slow)
    for name in names()
    if name != "sgd"
]


def theirs(name, learning_rate, **settings):
    alias = getattr(optax, name, None) or getattr(optax.contrib, name)
    accepted = inspect.signature(alias).parameters
    if "weight_decay" in accepted:
        settings.setdefault("weight_decay", 0.0)
    return alias(learning_rate, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_of_optax_is_that_of_optax(name):
    """The slow ones also find out a method of a new optax whose step is not proportional."""
    ours, reference = optimizer(name, learning_rate=0.02), theirs(name, 0.02)
    assert_close(run(ours), run(reference), rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "ours", "reference"),
    [
        ("sgd", {"momentum": 0.9}, {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
        ("sgd", {}, {}),
        ("adam", {"extra": {"b1": 0.5, "eps": 1e-3}}, {"b1": 0.5, "eps": 1e-3}),
        ("adam", {"nesterov": True}, {"nesterov": True}),
        ("adamw", {"decay": 0.1}, {"weight_decay": 0.1, "mask": kernels}),
        ("lion", {"decay": 0.1}, {"weight_decay": 0.1, "mask": kernels}),
        ("adamaxw", {"decay": 0.1}, {"weight_decay": 0.1, "mask": kernels}),
        (
            "lamb",
            {"decay": 0.1, "extra": {"b2": 0.9}},
            {"weight_decay": 0.1, "mask": kernels, "b2": 0.9},
        ),
        ("lars", {"l2": 0.1}, {"weight_decay": 0.1, "weight_decay_mask": kernels}),
        (
            "lars",
            {"l2": 0.1, "momentum": 0.5, "nesterov": True, "extra": {"trust_coefficient": 0.1}},
            {
                "weight_decay": 0.1,
                "weight_decay_mask": kernels,
                "momentum": 0.5,
                "nesterov": True,
                "trust_coefficient": 0.1,
            },
        ),
        (
            "rmsprop",
            {"momentum": 0.5, "extra": {"decay": 0.8, "centered": True}},
            {"momentum": 0.5, "decay": 0.8, "centered": True},
        ),
        (
            "adagrad",
            {"extra": {"initial_accumulator_value": 0.5}},
            {"initial_accumulator_value": 0.5},
        ),
    ],
)
def test_settings_mean_what_they_mean_in_optax(name, ours, reference):
    mine = run(optimizer(name, learning_rate=0.05, **ours))
    assert_close(mine, run(theirs(name, 0.05, **reference)))


@pytest.mark.parametrize(
    ("name", "settings", "make"),
    [
        ("sgd", {"l2": 0.1}, partial(torch.optim.SGD, weight_decay=0.1)),
        (
            "sgd",
            {"momentum": 0.9, "l2": 0.1},
            partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1),
        ),
        (
            "sgd",
            {"momentum": 0.9, "nesterov": True, "l2": 0.1},
            partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
        ),
        ("adam", {"l2": 0.1}, partial(torch.optim.Adam, weight_decay=0.1)),
        ("adamw", {"decay": 0.1}, partial(torch.optim.AdamW, weight_decay=0.1)),
        (
            "rmsprop",
            {"momentum": 0.9, "l2": 0.1, "extra": {"decay": 0.99, "eps_in_sqrt": False}},
            partial(torch.optim.RMSprop, momentum=0.9, weight_decay=0.1),
        ),
    ],
)
def test_methods_are_those_of_pytorch_while_the_learning_rate_changes(name, settings, make):
    rates = 0.02 * np.linspace(1.0, 0.2, 20)
    eps = {} if name == "sgd" else {"eps": 1e-8}
    weights = [torch.tensor(w, requires_grad=True) for w in jax.tree.leaves(PARAMS)]
    reference = make(weights, lr=0.02, **eps)
    for step, rate in enumerate(rates):
        reference.param_groups[0]["lr"] = rate
        for w, target in zip(weights, jax.tree.leaves(TARGET), strict=True):
            w.grad = (1.0 + 0.5 * np.sin(1.0 + step)) * (w.detach() - torch.tensor(target))
        reference.step()
    everywhere = Rules(
        ((".", {"l2": settings.get("l2", 0.0), "decay": settings.get("decay", 0.0)}),)
    )
    schedule = lambda count: jnp.linspace(1.0, 0.2, 20)[count]  # noqa: E731
    tx = optimizer(name, learning_rate=0.02, schedule=schedule, rules=everywhere, **settings)
    expected = [w.detach().numpy() for w in weights]
    assert_close(jax.tree.leaves(run(tx)), expected)


def test_muon_orthogonalizes_matrices_and_gives_the_rest_to_adam():
    adam, muon = (run(optimizer(name, learning_rate=0.05), steps=1) for name in ("nadam", "muon"))
    for layer, kind in (("conv1", "kernel"), ("conv1", "bias"), ("norm1", "scale")):
        assert_close(muon[layer][kind], adam[layer][kind])
    singular = np.linalg.svd((muon["head"]["kernel"] - PARAMS["head"]["kernel"]) / 0.05)[1]
    assert np.all((singular > 0.5) & (singular < 1.5))
