import json

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.optim.rules import Rules, format_table, merge, split

PARAMS = {
    "backbone": {
        "conv1": {"kernel": jnp.ones((3, 3, 3, 4)), "bias": jnp.ones(4)},
        "norm1": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
        "fc6": {"kernel": jnp.ones((36, 8)), "bias": jnp.ones(8)},
    },
    "head": {"kernel": jnp.ones((8, 2)), "bias": jnp.ones(2)},
}


def rows(rules, params=PARAMS):
    return {row.name: row for row in rules.table(params)}


def test_biases_and_norms_are_exempt_by_default_and_kernels_are_not():
    table = rows(Rules())
    for name, row in table.items():
        expected = None if name.endswith("kernel") else 0.0
        assert (row.l1, row.l2, row.decay) == (expected,) * 3, name
        assert (row.lr_mult, row.frozen, row.shard) == (1.0, False, None)
    assert table["backbone/conv1/kernel"].shape == (3, 3, 3, 4)


def test_each_setting_comes_from_the_first_rule_that_gives_it():
    table = rows(
        Rules(
            (
                ("head/bias", {"l2": 0.5, "lr_mult": 20}),
                ("^head/", {"lr_mult": 10, "l2": 0.1, "decay": 0.2}),
                ("kernel", {"lr_mult": 2, "shard": -1}),
            )
        )
    )
    bias, kernel = table["head/bias"], table["head/kernel"]
    assert (bias.lr_mult, bias.l2, bias.decay, bias.l1) == (20.0, 0.5, 0.2, 0.0)
    assert (kernel.lr_mult, kernel.l2, kernel.decay, kernel.shard) == (10.0, 0.1, 0.2, -1)
    assert table["backbone/fc6/kernel"].lr_mult == 2.0


def test_an_earlier_none_hides_a_later_shard():
    rules = Rules((("fc6", {"shard": None}), ("kernel", {"shard": 1})))
    assert rows(rules)["backbone/fc6/kernel"].shard is None
    assert rows(rules)["head/kernel"].shard == 1


def test_rules_are_values():
    rules = Rules([["^head/", {"lr_mult": 10, "l1": 0.0}], ("conv1", {"frozen": True})])
    assert rules == Rules((("^head/", {"l1": 0, "lr_mult": 10.0}), ("conv1", {"frozen": True})))
    assert len({rules, Rules(rules.entries), Rules()}) == 2
    assert Rules.from_json(json.loads(json.dumps(rules.to_json()))) == rules


def test_split_and_merge_are_inverse_and_leave_only_the_trainable():
    rules = Rules((("^backbone/", {"frozen": True}),))
    mask = rules.frozen(PARAMS)
    assert mask["backbone"]["norm1"] == {"scale": True, "bias": True}
    assert mask["head"] == {"kernel": False, "bias": False}
    trainable, fixed = split(PARAMS, mask)
    assert len(jax.tree.leaves(trainable)) == 2
    assert len(jax.tree.leaves(fixed)) == 6
    merged = merge(trainable, fixed)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (merged, PARAMS)), strict=True))
    rules.check(trainable)  # the names of absent leaves still count


def test_a_rule_that_matches_nothing_is_an_error_with_the_table():
    rules = Rules((("^hed/", {"lr_mult": 10}),))
    with pytest.raises(ValueError) as error:
        rules.check(PARAMS)
    text = str(error.value)
    assert "'^hed/'" in text and "nearest name is 'head/" in text
    assert format_table(rules.table(PARAMS)) in text
    Rules((("^head/", {"lr_mult": 10}),)).check(PARAMS)


def test_the_table_shows_every_parameter_and_setting():
    lines = format_table(Rules((("conv1/k", {"frozen": True}),)).table(PARAMS)).splitlines()
    header, *body = (line.split() for line in lines)
    assert header == ["name", "shape", "lr_mult", "l1", "l2", "decay", "frozen", "shard"]
    assert ["backbone/conv1/kernel", "3x3x3x4", "1", "-", "-", "-", "yes", "-"] in body
    assert ["head/bias", "2", "1", "0", "0", "0", "no", "-"] in body
    assert len(body) == 8


def test_sharding_an_axis_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"axis 1 of backbone/fc6/bias, whose shape is \(8,\)"):
        Rules((("fc6", {"shard": 1}),)).check(PARAMS)
    Rules((("fc6", {"shard": -1}),)).check(PARAMS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("head", {"lrmult": 1}), "did you mean 'lr_mult'"),
        (("head(", {"l1": 1}), "no regular expression"),
        ((3, {"l1": 1}), "no regular expression"),
        (("head", {"lr_mult": 0}), "use frozen=True"),
        (("head", {"l2": -1e-3}), "not negative"),
        (("head", {"l2": float("nan")}), "finite"),
        (("head", {"decay": "1e-3"}), "finite number"),
        (("head", {"frozen": 1}), "true or false"),
        (("head", {"shard": True}), "number of an axis"),
        (("head", {}), "gives no setting"),
        ("head", "regular expression"),
    ],
)
def test_bad_rules_are_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        Rules((entry,))
