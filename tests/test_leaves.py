"""Names, differences and digests of trees of arrays."""

from __future__ import annotations

import hashlib

import jax.numpy as jnp
import numpy as np

from alexnet_jax.leaves import differences, digest, named_leaves

TREE = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": np.int32([7])}


def test_a_digest_is_that_of_names_shapes_types_and_bytes():
    sha = hashlib.sha256(b"a (1,) int32" + b"\x07\0\0\0" + b"b/kernel (2, 3) float32")
    sha.update(TREE["b"]["kernel"].tobytes())
    assert digest(TREE) == sha.hexdigest()
    on_device = {"a": jnp.int32([7]), "b": {"kernel": jnp.asarray(TREE["b"]["kernel"])}, "c": None}
    assert digest(on_device) == digest(TREE)  # None is no array


def test_a_digest_changes_with_all_of_them():
    kernel = TREE["b"]["kernel"]
    others = [
        {**TREE, "b": {"bias": kernel}},
        {**TREE, "b": {"kernel": kernel.reshape(3, 2)}},
        {**TREE, "b": {"kernel": kernel.view(np.int32)}},
        {**TREE, "b": {"kernel": kernel + np.float32(1e-6)}},
    ]
    assert len({digest(tree) for tree in (TREE, *others)}) == 5


def test_a_digest_is_of_values_not_of_memory():
    turned = np.asfortranarray(TREE["b"]["kernel"])
    assert digest({**TREE, "b": {"kernel": turned}}) == digest(TREE)


def test_differences_name_both_sides():
    other = {"b": {"kernel": np.zeros((2, 4), np.float32)}, "a": TREE["a"], "c": np.zeros(1)}
    assert differences(TREE, other) == ["  - b/kernel (2, 3)", "  + b/kernel (2, 4)", "  + c (1,)"]
    assert [name for name, _ in named_leaves(TREE)] == ["a", "b/kernel"]
