"""Named configs, data only: what to train on, with which network and which settings."""

from __future__ import annotations

import difflib
from importlib import import_module

from alexnet_jax.config import Config

NAMES = (
    "street",
    "cifar10",
    "folder",
    "street-segmentation",
    "segmentation-folder",
    "street-detection",
    "detection-folder",
    "street-pose",
    "pose-folder",
    "street-multi",
)


def recipe(name: str) -> Config:
    """The recipe's config; raises ValueError for an unknown name."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise ValueError(f"no recipe is called {name!r}; {hint}")
    return import_module(f"alexnet_jax.recipes.{name.replace('-', '_')}").config
