"""Given parameters take the place of a network's own, or a list says why they cannot."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from alexnet_jax.transfer.merge import merge_params


def layer(shape, number, dtype=np.float32):
    return {"kernel": np.full(shape, number, dtype), "bias": np.full(shape[-1:], number, dtype)}


OWN = {
    "backbone": {"conv1": layer((3, 3, 3, 8), 0), "fc6": layer((8, 4), 0)},
    "head": layer((4, 2), 0),
}


def given(**changes):
    """What a file may hold: every array filled with 1, layers changed or (None) left out."""
    layers = {"conv1": layer((3, 3, 3, 8), 1), "fc6": layer((8, 4), 1), "head": layer((4, 2), 1)}
    layers = {k: v for k, v in {**layers, **changes}.items() if v is not None}
    head = {"head": layers.pop("head")} if "head" in layers else {}
    return {"backbone": layers, **head}


def test_equal_trees_are_taken_whole_in_the_networks_own_dtype():
    wide = jax.tree.map(lambda x: x.astype(np.float64), given())
    merged = merge_params(OWN, wide)
    assert jax.tree.structure(merged.params) == jax.tree.structure(OWN)
    assert all(np.all(x == 1) and x.dtype == np.float32 for x in jax.tree.leaves(merged.params))
    assert merged.kept == merged.left == ()
    assert all(np.all(x == 0) for x in jax.tree.leaves(OWN))  # and the old ones are as they were


def test_a_head_of_other_classes_stays_where_it_is_named():
    merged = merge_params(OWN, given(head=layer((4, 1000), 1)), keep=("^head/",))
    assert np.all(merged.params["head"]["kernel"] == 0)
    assert np.all(merged.params["backbone"]["fc6"]["kernel"] == 1)
    assert merged.kept == merged.left == ("head/bias", "head/kernel")


def test_convolutions_alone_load_where_the_rest_is_named():
    alone = given(fc6=None, head=None)
    merged = merge_params(OWN, alone, keep=("fc", "head"))
    assert np.all(merged.params["backbone"]["conv1"]["kernel"] == 1)
    assert np.all(merged.params["backbone"]["fc6"]["kernel"] == 0)
    assert merged.left == ()

    with pytest.raises(ValueError) as refusal:
        merge_params(OWN, alone, keep=("head",))
    assert "+ backbone/fc6/kernel (8, 4)" in str(refusal.value)
    assert "would stay at its initialization: backbone/fc6/bias, backbone/fc6/kernel" in str(
        refusal.value
    )
    assert "conv1" not in str(refusal.value)


def test_what_is_superfluous_or_of_another_shape_is_listed():
    with pytest.raises(ValueError) as refusal:
        merge_params(OWN, given(conv1=layer((5, 5, 3, 8), 1), fc7=layer((4, 4), 1)))
    lines = str(refusal.value).splitlines()
    assert "  - backbone/conv1/kernel (5, 5, 3, 8)" in lines
    assert "  + backbone/conv1/kernel (3, 3, 3, 8)" in lines
    assert "  - backbone/fc7/bias (4,)" in lines
    assert not any("would stay" in line for line in lines)
    merged = merge_params(OWN, given(fc7=layer((4, 4), 1)), keep=("fc7",))
    assert merged.left == ("backbone/fc7/bias", "backbone/fc7/kernel") and merged.kept == ()


def test_an_expression_that_names_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'\^heads/' matches no parameter"):
        merge_params(OWN, given(), keep=("^heads/",))
    with pytest.raises(ValueError, match=r"'\(head' is no regular expression"):
        merge_params(OWN, given(), keep=("(head",))
