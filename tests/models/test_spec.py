"""Named specs against the published shapes, parameters and multiply-adds; how specs compose."""

from __future__ import annotations

import json
import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import (
    ACTIVATIONS,
    INITIALIZERS,
    NORMALIZATIONS,
    from_json,
    smallest_size,
    spec,
    to_json,
)
from alexnet_jax.models.zoo import SPECS

# layer: (output, parameters, multiply-adds); pooling has neither parameters nor multiply-adds.
# The lecture notes give the outputs; the sums for the literature's networks are published.
NOTES_224 = {
    "conv1": ((54, 54, 96), 34_944, 101_616_768),
    "pool1": ((26, 26, 96),),
    "conv2": ((26, 26, 256), 614_656, 415_334_400),
    "pool2": ((12, 12, 256),),
    "conv3": ((12, 12, 384), 885_120, 127_401_984),
    "conv4": ((12, 12, 384), 1_327_488, 191_102_976),
    "conv5": ((12, 12, 256), 884_992, 127_401_984),
    "pool5": ((5, 5, 256),),
    "fc6": ((4096,), 26_218_496, 26_214_400),
    "fc7": ((4096,), 16_781_312, 16_777_216),
    "logits": ((1000,), 4_097_000, 4_096_000),
}
NOTES_227 = {
    "conv1": ((55, 55, 96), 34_944, 105_415_200),
    "pool1": ((27, 27, 96),),
    "conv2": ((27, 27, 256), 614_656, 447_897_600),
    "pool2": ((13, 13, 256),),
    "conv3": ((13, 13, 384), 885_120, 149_520_384),
    "conv4": ((13, 13, 384), 1_327_488, 224_280_576),
    "conv5": ((13, 13, 256), 884_992, 149_520_384),
    "pool5": ((6, 6, 256),),
    "fc6": ((4096,), 37_752_832, 37_748_736),
    "fc7": ((4096,), 16_781_312, 16_777_216),
    "logits": ((1000,), 4_097_000, 4_096_000),
}
TWO_TOWERS = NOTES_227 | {
    "conv2": ((27, 27, 256), 307_456, 223_948_800),
    "conv4": ((13, 13, 384), 663_936, 112_140_288),
    "conv5": ((13, 13, 256), 442_624, 74_760_192),
}
ONE_WEIRD_TRICK = NOTES_227 | {
    "conv1": ((55, 55, 64), 23_296, 70_276_800),
    "pool1": ((27, 27, 64),),
    "conv2": ((27, 27, 192), 307_392, 223_948_800),
    "pool2": ((13, 13, 192),),
    "conv3": ((13, 13, 384), 663_936, 112_140_288),
    "conv4": ((13, 13, 256), 884_992, 149_520_384),
    "conv5": ((13, 13, 256), 590_080, 99_680_256),
}
PUBLISHED = {
    "notes_224": (NOTES_224, 50_844_008, 1_009_945_728),
    "notes_227": (NOTES_227, 62_378_344, 1_135_256_096),
    "original_2012": (TWO_TOWERS, 60_965_224, 724_406_816),
    "bvlc_alexnet": (TWO_TOWERS, 60_965_224, 724_406_816),
    "caffenet": (TWO_TOWERS, 60_965_224, 724_406_816),
    "one_weird_trick": (ONE_WEIRD_TRICK, 61_100_840, 714_188_480),
}


def abstract(net: AlexNet, size: int):
    """(variables, taps) of one image, as shapes: nothing is computed."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), image)
    _, taps = jax.eval_shape(lambda v, x: net.apply(v, x, taps=True), variables, image)
    return variables, taps


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def multiply_adds(jaxpr) -> list[int]:
    """Of each convolution and matrix product in a traced function, in order."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            kernel = eqn.invars[1].aval.shape
            found.append(eqn.outvars[0].aval.size * math.prod(kernel[:-1]))
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            found += multiply_adds(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_is_as_published(name):
    table, parameters, total = PUBLISHED[name]
    net = AlexNet(spec(name), exact=True)  # the convolutions themselves, to count their products
    variables, taps = abstract(net, net.spec.image_size)
    assert {tap: value.shape[1:] for tap, value in taps.items()} == {
        layer: row[0] for layer, row in table.items()
    }
    layers = variables["params"]["backbone"] | {"logits": variables["params"]["head"]}
    with_weights = {layer: row for layer, row in table.items() if len(row) == 3}
    assert {layer: count(leaves) for layer, leaves in layers.items()} == {
        layer: row[1] for layer, row in with_weights.items()
    }
    assert count(variables["params"]) == parameters
    image = jnp.zeros((1, net.spec.image_size, net.spec.image_size, 3))
    traced = multiply_adds(jax.make_jaxpr(net.apply)(variables, image).jaxpr)
    assert traced == [row[2] for row in with_weights.values()]
    assert sum(traced) == total


@pytest.mark.parametrize(
    ("name", "changes", "parameters"),
    [
        ("one_weird_trick", {"num_classes": 10}, 57_044_810),
        ("notes_227", {"normalization": "local_response"}, 62_378_344),
        # Batch norm trades each bias for a scale and a bias: 1,376 in convolutions, 8,192 in dense.
        ("batchnorm", {}, 62_378_344 + 1_376 + 8_192),
    ],
)
def test_totals_of_changed_specs(name, changes, parameters):
    net = AlexNet(spec(name, **changes))
    variables, _ = abstract(net, net.spec.image_size)
    assert count(variables["params"]) == parameters


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("notes_224", 67), ("notes_227", 67), ("one_weird_trick", 63), ("original_2012", 64)],
)
def test_too_small_an_image_is_refused_with_the_smallest_that_works(name, smallest):
    net = AlexNet(spec(name))
    assert smallest_size(net.spec) == smallest
    _, taps = abstract(net, smallest)
    assert taps["pool5"].shape == (1, 1, 1, 256)
    with pytest.raises(ValueError, match=rf"{smallest - 1}x300 px.* {smallest}x{smallest}"):
        net.init(jax.random.key(0), jnp.zeros((1, smallest - 1, 300, 3)))


def test_width_scales_all_but_the_classes_and_depth_repeats_from_the_third():
    halved = spec("notes_224", width=0.5)
    assert [conv.features for _, conv in halved.conv_layers()] == [48, 128, 192, 192, 128]
    assert halved.dense_layers() == (("fc6", 2048), ("fc7", 2048))
    net = AlexNet(spec("notes_224", width=0.25, depth=2, num_classes=4))
    variables, taps = abstract(net, 224)
    backbone = variables["params"]["backbone"]
    convs = ["conv1", "conv2", "conv3", "conv3_2", "conv4", "conv4_2", "conv5", "conv5_2"]
    assert set(backbone) == {*convs, "fc6", "fc7"}
    assert backbone["conv3_2"]["kernel"].shape == (3, 3, 96, 96)
    assert backbone["conv4"]["kernel"].shape == (3, 3, 96, 96)
    assert backbone["conv5_2"]["kernel"].shape == (3, 3, 64, 64)
    assert taps["pool5"].shape == (1, 5, 5, 64)  # pooled once, after the repeats
    assert taps["logits"].shape == (1, 4)


def test_dense_layers_that_are_left_out_take_their_dropout_with_them():
    assert spec("notes_224").dropout == ("fc6", "fc7")
    assert spec("notes_224", dense=(512,)).dropout == ("fc6",)
    assert spec("notes_227", dense=(), depth=2).dropout == ("pool5",)
    assert spec("notes_224", dense=(512,), dropout=("pool1",)).dropout == ("pool1",)


def test_normalization_goes_where_it_is_asked_for():
    before = spec("notes_224", normalization="batch")
    assert before.convs[0].then == ("normalization", "activation", "pool")
    assert before.convs[2].then == ("normalization", "activation")
    after = spec("notes_224", normalization="group", norm_position="after")
    assert after.convs[0].then == ("activation", "normalization", "pool")
    # the spec's own kind stays at the spec's own places
    assert spec("caffenet", normalization="local_response") == spec("caffenet")
    assert spec("original_2012", normalization="none").convs[1].then == ("activation", "pool")
    assert spec("small", conv1_stride=1).convs[0].stride == 1


OPTIONS = {
    "width": st.sampled_from([0.25, 1.0, 1.5]),
    "depth": st.integers(1, 3),
    "normalization": st.sampled_from(NORMALIZATIONS),
    "norm_position": st.sampled_from(["before", "after"]),
    "dense_normalization": st.booleans(),
    "activation": st.sampled_from(ACTIVATIONS),
    "kernel_init": st.sampled_from(INITIALIZERS),
    "dropout": st.lists(st.sampled_from(["pool1", "conv3", "pool5", "fc6", "fc7"]), unique=True),
    "dropout_rate": st.floats(0, 0.9),
    "num_classes": st.integers(1, 20),
    "conv1_stride": st.sampled_from([1, 2]),
}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_every_combination_is_a_network_and_survives_json(changes):
    changes = changes | ({"dropout": tuple(changes["dropout"])} if "dropout" in changes else {})
    made = spec("small", **changes)
    again = from_json(json.loads(json.dumps(to_json(made))))
    assert again == made and hash(again) == hash(made)
    variables, taps = abstract(AlexNet(made), 64)
    assert taps["logits"].shape == (1, made.num_classes)
    assert set(taps) == set(made.tap_names())
    for leaf in jax.tree.leaves(variables["params"]):
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", SPECS)
def test_named_specs_survive_json(name):
    assert from_json(json.loads(json.dumps(to_json(spec(name))))) == spec(name)


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ("notes_225", {}, "did you mean 'notes_22"),
        ("small", {"num_clases": 4}, "'num_clases'; did you mean 'num_classes'"),
        ("small", {"activation": "rellu"}, "activation is 'rellu'.*did you mean 'relu'"),
        ("small", {"kernel_init": "he_norml"}, "did you mean 'he_normal'"),
        ("small", {"normalization": "bach"}, "did you mean 'batch'"),
        ("small", {"norm_position": "between"}, "'before' or 'after'"),
        ("small", {"dropout": ("fc8",)}, "'fc8' is no tap of it: conv1, pool1"),
        ("small", {"dropout_rate": 1.0}, "dropout_rate is 1.0"),
        ("small", {"num_classes": 0}, "at least 1"),
        ("small", {"width": 0}, "more than 0"),
        ("small", {"depth": 0}, "at least 1"),
        ("small", {"conv1_stride": 0}, "conv1_stride is 0; expected at least 1"),
        ("small", {"dense": (64, 0)}, r"dense is \(64, 0\); expected at least 1 neuron"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(arguments, changes, message):
    with pytest.raises(ValueError, match=message):
        spec(arguments, **changes)


def test_json_with_unknown_fields_is_refused_by_name():
    data = to_json(spec("small"))
    with pytest.raises(ValueError, match="'denses'; did you mean 'dense'"):
        from_json(data | {"denses": [1]})
    conv = data["convs"][0] | {"strides": 2}
    with pytest.raises(ValueError, match="Conv has no field 'strides'; did you mean 'stride'"):
        from_json(data | {"convs": [conv]})
