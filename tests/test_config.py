"""Settings: JSON both ways, what a resumed run may change, and refusals that say what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from alexnet_jax import assemble
from alexnet_jax.config import (
    MAY_CHANGE,
    Augment,
    Config,
    Input,
    Model,
    OnPlateau,
    Optimizer,
    Run,
    Schedule,
    Stopping,
    differences,
)
from alexnet_jax.optim.rules import parse_rules
from alexnet_jax.recipes import NAMES, recipe
from alexnet_jax.settings import changed, from_json, to_json

# Every kind of value that JSON would change: tuples, None, nested dataclasses, a dict, a union.
FULL = Config(
    patience=None,
    model=Model(dropout=("pool5", "fc6"), dropout_rate=0.1),
    optimizer=Optimizer(rules=("^head/ lr_mult=10", "conv1/ frozen=true"), extra={"b2": 0.95}),
    schedule=Schedule("step", warmup="2 epochs", milestones=("30 epochs", 70)),
    augment=Augment(crop="resized", scale=(0.25, 1.0)),
    plateau=OnPlateau(factor=0.1 + 0.2),
    input=Input(mean=(1.0, 2.0, 3.0), size=40),
)


@pytest.mark.parametrize("config", [*map(recipe, NAMES), FULL], ids=[*NAMES, "full"])
def test_comes_back_from_json(config):
    again = from_json(json.loads(json.dumps(to_json(config))), Config)
    assert again == config
    hash((again.model, again.schedule, again.augment, again.input))  # no list is left
    assert differences(config, again) == []


def test_a_field_that_lacks_keeps_its_default_and_an_unknown_one_is_refused():
    assert from_json({"seed": 3, "run": {"keep": 5}}, Config) == Config(seed=3, run=Run(keep=5))
    with pytest.raises(ValueError, match="Config has no field lerning_rate"):
        from_json({"lerning_rate": 0.1}, Config)
    with pytest.raises(ValueError, match="Optimizer has no field momentums"):
        from_json({"optimizer": {"momentums": 0.1}}, Config)


def test_every_setting_that_may_change_exists_and_may():
    values = {"run_dir": "x", "fresh": True, "dry_run": True, "epochs": 7, "patience": None}
    values |= {"input.workers": 5, "input.memory": 9.0, "input.data_dir": "y"}
    values |= {"input.bad_images": 0.5, "run.keep": 9, "run.model_devices": 2}
    values |= {"transfer.against": "z"}
    assert set(values) == set(MAY_CHANGE)
    now = Config()
    for name, value in values.items():
        now = changed(now, {name: value})
        assert differences(Config(), now) == []


def test_every_other_difference_is_told():
    now = Config(seed=4, optimizer=Optimizer(momentum=0.5, extra={"b2": 0.9}), patience=1)
    now = changed(now, {"augment.scale": (0.5, 1.0)})
    assert differences(Config(), now) == [
        "augment.scale: (0.08, 1.0) -> (0.5, 1.0)",
        "optimizer.extra: {} -> {'b2': 0.9}",
        "optimizer.momentum: None -> 0.5",
        "seed: 0 -> 4",
    ]


@pytest.mark.parametrize(
    ("schedule", "may"),
    [
        (Schedule(), True),
        (Schedule("step", milestones=("3 epochs",)), True),
        (Schedule("cosine"), False),
        (Schedule("linear", warmup="1 epoch"), False),
        (Schedule("cosine", duration="10 epochs"), True),
    ],
)
def test_epochs_may_change_where_no_schedule_ends_with_them(schedule, may):
    begun = Config(epochs=60, schedule=schedule)
    expected = [] if may else ["epochs: 60 -> 90"]
    assert differences(begun, replace(begun, epochs=90)) == expected


def test_rules_are_read():
    assert parse_rules(("^head/ lr_mult=10 l2=0", r"conv\d/ frozen=TRUE", "fc6/ shard=1")) == (
        ("^head/", {"lr_mult": 10.0, "l2": 0.0}),
        (r"conv\d/", {"frozen": True}),
        ("fc6/", {"shard": 1}),
    )
    assert parse_rules(()) == ()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "not of the form"),
        ("^head/", "not of the form"),
        ("^head/ lr_mult 10", "not of the form"),
        ("^head/ lr_mult=ten", "lr_mult=ten: expected a number"),
        ("fc6/ shard=0.5", "shard=0.5"),
    ],
)
def test_a_rule_that_cannot_be_read_is_shown(rule, said):
    with pytest.raises(ValueError, match=said):
        parse_rules((rule,))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", (0, -1, float("nan"), float("inf"))),
        ("batch_size", (0, -8)),
        ("learning_rate", (-0.1, float("nan"), float("inf"))),
        ("patience", (0, -1)),
        ("seed", (-1, 2**32)),
        ("stopping.mode", ("up",)),
        ("stopping.min_delta", (-0.1, float("nan"))),
        ("plateau.factor", (0.0, 1.0, 2.0)),
        ("plateau.patience", (0, 7)),  # not without plateau.factor
        ("input.size", (0,)),
        ("input.canvas", (-1,)),
        ("input.examples", (0,)),
        ("input.workers", (0,)),
        ("input.memory", (-1.0,)),
        ("input.bad_images", (-0.1, 1.1)),
        ("run.precision", ("float16", "")),
        ("run.label_smoothing", (-0.1, 1.0)),
        ("run.keep", (0,)),
        ("run.accumulate", (0,)),
        ("run.model_devices", (0,)),
        ("run.evaluate_every", ("0 epochs", "-1 epoch", "1 week", "often")),
        ("schedule.name", ("cosin",)),
        ("augment.flip", (1.5,)),
        ("pose.refinements", (-1, 1)),  # none behind heat maps
        ("pose.box", (0.0, float("inf"))),
        ("pose.context", (True,)),  # not without pose.refine
        ("segmentation.context", (True,)),
        ("segmentation.jaccard", (-0.5, float("inf"))),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ValueError) as refusal:
            changed(Config(), {name: value})
        assert str(value) in str(refusal.value)
        if name not in ("schedule.name", "run.evaluate_every"):  # told as schedule and duration
            assert name.rpartition(".")[2] in str(refusal.value)


def test_a_batch_that_does_not_fall_into_equal_parts_is_refused():
    with pytest.raises(
        ValueError, match=r"batch_size is 32; expected a multiple of run.accum.*, 5"
    ):
        changed(Config(), {"run.accumulate": 5})
    assert changed(Config(), {"run.accumulate": 4}).batch_size == 32


def test_a_monitor_and_the_wrong_direction_are_refused():
    with pytest.raises(ValueError, match="expected min, since validation/loss is to fall"):
        Stopping(monitor="validation/loss")
    assert Stopping(monitor="validation/loss", mode="min").mode == "min"


def test_a_task_stops_on_its_own_metric_where_nothing_else_is_asked_for():
    config = Config(task="segmentation")
    task = assemble.make_task(config, assemble.make_spec(config, 3))
    found = assemble.with_monitor(config, task).stopping
    assert (found.monitor, found.mode) == ("validation/mean_iou", "max")
    asked = replace(config, stopping=Stopping(monitor="validation/loss", mode="min"))
    assert assemble.with_monitor(asked, task) == asked
    config = Config()
    task = assemble.make_task(config, assemble.make_spec(config, 3))
    assert assemble.with_monitor(config, task) == config
    with pytest.raises(ValueError, match="there are classification, segmentation, detection, pose"):
        assemble.make_task(Config(task="depth"), assemble.make_spec(Config(), 3))


def test_segmentations_options_reach_its_network():
    """In a mirror image a class is what it is; joints change sides."""
    config = recipe("street-segmentation")
    changes = {"context": True, "mirrored": True, "jaccard": 0.5, "refine": 8}
    config = changed(config, {f"segmentation.{name}": value for name, value in changes.items()})
    task = assemble.make_task(config, assemble.make_spec(config, 7))
    assert task.net.mirrored == (0, 1, 2, 3, 4, 5, 6)
    assert (task.net.context, task.net.refine, task.jaccard) == (True, 8, 0.5)
    plain = changed(config, {"segmentation.mirrored": False})
    assert not assemble.make_task(plain, assemble.make_spec(config, 7)).net.mirrored


def test_labels_are_smoothed_where_there_are_some_and_else_it_is_refused():
    def made(name, *classes):
        config = changed(recipe(name), {"run.label_smoothing": 0.1})
        return assemble.make_task(config, assemble.make_spec(config, 2), classes)

    for name in ("street-detection", "street-pose"):
        with pytest.raises(ValueError, match=r"label_smoothing is 0\.1; (detection|pose) has no"):
            made(name)
    _, segmentation = made(
        "street-multi",
        *(f"detection/{i}" for i in range(6)),
        *(f"segmentation/{i}" for i in range(7)),
    ).tasks
    assert segmentation.label_smoothing == 0.1


def test_every_recipe_is_one_of_the_documented_names():
    documented = (
        "street", "cifar10", "folder", "street-segmentation", "segmentation-folder",
        "street-detection", "detection-folder", "street-pose", "pose-folder",
        "street-multi",
    )  # fmt: skip
    assert documented == NAMES
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        recipe("cifar-10")
    with pytest.raises(ValueError, match="there are street, cifar10, folder"):
        recipe("xyz")


def test_crops_out_of_the_files_leave_none_for_the_device():
    config = Config(augment=Augment(crop="resized", scale=(0.2, 1.0)), input=Input(crop_files=True))
    assert assemble.file_crop(config).scale == (0.2, 1.0)
    assert assemble.make_augment(config, 2).crop == "center"
    with pytest.raises(ValueError, match=r"crop_files goes with augment\.crop resized"):
        assemble.file_crop(Config(input=Input(crop_files=True)))
