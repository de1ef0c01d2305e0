"""Rendered street scenes: an endless supply of examples for every task, without a download."""

from __future__ import annotations

from alexnet_jax.data.street.render import CLASSES, VERSION, render
from alexnet_jax.data.street.source import source

__all__ = ["CLASSES", "VERSION", "render", "source"]
