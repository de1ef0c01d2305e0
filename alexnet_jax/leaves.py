"""Names of the arrays in a tree, what two trees differ in, and a digest of one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

Tree = Any


def leaf_name(path: tuple) -> str:
    """The name of a leaf: "backbone/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yield (name, leaf) in the order of the tree; None counts as a leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    for path, leaf in leaves:
        yield leaf_name(path), leaf


def shape(leaf: Any) -> str:
    """An array's shape in words: "(11, 11, 3, 96)"."""
    return str(tuple(leaf.shape))


def shape_and_dtype(leaf: Any) -> str:
    """An array's shape and dtype in words: "(11, 11, 3, 96) float32"."""
    return f"{shape(leaf)} {leaf.dtype}"


def differences(have: Tree, want: Tree, describe: Callable[[Any], str] = shape) -> list[str]:
    """Lines that tell which leaves differ: "  - name what it is", "  + name what is wanted"."""
    old = {name: describe(leaf) for name, leaf in named_leaves(have) if leaf is not None}
    new = {name: describe(leaf) for name, leaf in named_leaves(want) if leaf is not None}
    lines = [f"  - {name} {old[name]}" for name in sorted(old) if old[name] != new.get(name)]
    return lines + [f"  + {name} {new[name]}" for name in sorted(new) if new[name] != old.get(name)]


def digest(tree: Tree) -> str:
    """sha256 over names, types, shapes and bytes of all arrays, as hex digits."""
    sha = hashlib.sha256()
    for name, leaf in named_leaves(tree):
        if leaf is not None:
            sha.update(f"{name} {shape_and_dtype(leaf)}".encode())
            sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()
