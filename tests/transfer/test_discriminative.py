"""Early layers move less."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from alexnet_jax import AlexNet, Rules, spec
from alexnet_jax.transfer.discriminative import lr_decay_rules
from alexnet_jax.transfer.freeze import freeze_rules


def multipliers(net, entries):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(lambda x: AlexNet(net).init(jax.random.key(0), x), images)["params"]
    rules = Rules(entries)
    rules.check(shapes)
    return {row.name.split("/")[-2]: row.lr_mult for row in rules.table(shapes)}


def test_each_layer_has_a_part_of_the_rate_above_it():
    found = multipliers(spec("small"), lr_decay_rules(spec("small"), 0.5))
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "head"]
    assert [found[name] for name in layers] == [0.5**k for k in range(7, -1, -1)]


def test_norms_and_repeated_layers_go_with_theirs_and_freezing_with_both():
    net = spec("small", normalization="batch", depth=2)
    found = multipliers(net, (*freeze_rules(net, "pool1"), *lr_decay_rules(net, 0.5)))
    assert found["conv4_2"] == found["conv4"] == found["norm4"] == 0.5**4
    assert found["head"] == 1.0


def test_one_is_no_rule_and_nonsense_is_refused():
    assert lr_decay_rules(spec("small"), 1.0) == ()
    for decay in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"lr_decay is .*at most 1"):
            lr_decay_rules(spec("small"), decay)
