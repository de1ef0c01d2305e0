"""Initializers in deep networks: what the page says follows from its rows, and only from them."""

from __future__ import annotations

import json
import math

import gradients
import numpy as np
import observing
import pytest

from alexnet_jax.models.spec import spec

OPTIONS = gradients.Options(
    depths=(1, 2), initializers=("gaussian_2012", "glorot_normal", "he_normal")
)


def row(depth, activation, clip, name, seed, accuracy):
    """Gradients fall by 10 a layer under the 2012 Gaussian, by 2 otherwise; activations by 1.5."""
    layers = len(observing.layers(spec("small", depth=depth)))
    fall = 10.0 if name == "gaussian_2012" else 2.0
    gradient = [fall ** (i - layers) for i in range(layers)]
    activation_norm = [1.5**-i for i in range(layers)]
    return {
        "depth": depth,
        "activation": activation,
        "clip": clip,
        "initializer": name,
        "seed": seed,
        "accuracy": accuracy,
        "activation_norm": dict.fromkeys(observing.WHEN, activation_norm),
        "gradient_norm": dict.fromkeys(observing.WHEN, gradient),
        "update_ratio": {observing.FIRST: gradient, observing.LAST: gradient},
    }


@pytest.fixture
def rows():
    """He beats Glorot by 10, 11, 12 points under ReLU; under tanh by -1, 0, 1. Clipping adds 5."""
    learned = {
        ("relu", "he_normal"): (0.70, 0.71, 0.72),
        ("relu", "glorot_normal"): (0.60, 0.60, 0.60),
        ("tanh", "he_normal"): (0.64, 0.65, 0.66),
        ("tanh", "glorot_normal"): (0.65, 0.65, 0.65),
    }
    return [
        row(
            depth,
            activation,
            clip,
            name,
            seed,
            learned.get((activation, name), (0.5,) * 3)[seed]
            + (0.05 if clip and name == "he_normal" else 0.0),
        )
        for depth, activation, clip in gradients.networks(OPTIONS)
        for name in OPTIONS.initializers
        for seed in range(3)
    ]


def test_the_answer_follows_from_the_rows(rows):
    told = gradients.answer(OPTIONS, rows)
    layers = len(observing.layers(spec("small", depth=2)))
    assert f"in {layers} layers, under relu the layer with the smallest gradient has " in told
    least = f"{10.0 ** (1 - layers):.2g}"
    assert f"and {least} ({least} to {least}) with gaussian_2012, the least" in told
    assert "under relu at depth 1 11.0 points more (10.0 to 12.0, n = 3);" in told
    assert "under tanh at depth 2 no difference shown (+0.0 points" in told
    assert told.count("no difference shown (+0.0 points, -1.0 to 1.0, n = 3)") == 2
    assert "depth 2 is not shown to change anything under glorot_normal (0.0 points" in told
    assert "and helps under he_normal (5.0 points more (5.0 to 5.0, n = 3))." in told


def test_a_diverged_network_is_told_and_does_not_stop_the_page(rows):
    for row in rows:
        if row["initializer"] == "he_normal" and row["depth"] == 2:
            layers = len(row["gradient_norm"][observing.LAST])
            for quantity in ("gradient_norm", "activation_norm", "update_ratio"):
                row[quantity] = row[quantity] | {observing.LAST: [None] * layers}
    title, _, figure, sections = gradients.page(OPTIONS, rows, "test", 1000)
    assert title.endswith("?")
    assert len(figure.axes) == 2 * 3 + 1  # heat maps and the scale
    assert "| he_normal | 71.0 % (70.0 to 72.0) |" in "\n".join(sections)


def test_means_are_geometric_and_zero_has_none():
    found = gradients.geometric_mean([[1.0, 1e-4, 0.0, None], [100.0, 1e-8, 1.0, 1.0]])
    np.testing.assert_allclose(found, [10.0, 1e-6, np.nan, np.nan])
    assert gradients.factor(np.array([0.01, 1.0])) == "0.1 (0.01 to 1)"


def test_layers_that_move_apart_are_told_of_those_that_learn_and_of_the_others(rows):
    told = gradients.bounds(rows)
    assert "those that learn, to more than 60 %, moves" in told
    shallow, deep = (len(observing.layers(spec("small", depth=d))) for d in (1, 2))
    learn = [row for row in rows if row["accuracy"] > 0.6]
    assert f"{2.0 ** (1 - deep):.1g} to {2.0 ** (1 - shallow):.1g} times" in told
    assert f"(n = {len(learn)})" in told and f"(n = {len(rows) - len(learn)})" in told


def test_layers_are_named_from_the_image_on():
    names = observing.layers(spec("small", depth=2))
    assert names[:4] == ["conv1", "conv2", "conv3", "conv3_2"]
    assert names[-3:] == ["fc6", "fc7", "head"]


def test_numbers_keep_four_digits_and_none_that_json_has_not():
    found = observing.numbers([1 / 3, 1e-30, math.inf, math.nan])
    assert found == [0.3333, 1e-30, None, None]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow
def test_networks_are_trained_and_looked_at(tmp_path):
    options = gradients.Options(
        depths=(1,),
        activations=("relu",),
        initializers=("gaussian_2012", "glorot_normal", "he_normal"),
        seeds=1,
        updates=2,
        batch_size=4,
        width=0.1,
        out=str(tmp_path / "out"),
    )
    gradients.main(options)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    found = {(row["initializer"], row["clip"]): row for row in rows}
    assert len(rows) == len(found) == 3 + 2
    he, gaussian = found["he_normal", None], found["gaussian_2012", None]
    for quantity in ("activation_norm", "gradient_norm"):
        assert set(he[quantity]) == set(observing.WHEN)
        # the 2012 Gaussian's signals die out in a net as narrow as this one
        assert he[quantity][observing.BEFORE][2] > 10 * gaussian[quantity][observing.BEFORE][2]
    clipped = found["he_normal", 1.0]
    assert clipped["gradient_norm"][observing.BEFORE] == he["gradient_norm"][observing.BEFORE]
    assert (tmp_path / "out" / "activation.png").exists()


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no initializer is called 'magic'; there are glorot_un"):
        gradients.Options(initializers=("glorot_normal", "he_normal", "magic"))
    with pytest.raises(ValueError, match="no activation is called 'sin'; there are relu"):
        gradients.Options(activations=("sin",))
    with pytest.raises(ValueError, match="glorot_normal and he_normal are needed"):
        gradients.Options(initializers=("he_normal",))
    with pytest.raises(ValueError, match="updates 2"):
        gradients.Options(updates=1)
