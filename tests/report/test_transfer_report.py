"""The report on transfer: where parameters came from, what was trained of them, and what it gained.

Everything is made of plain values; a whole run is in tests/transfer/test_transfer_run.py.
"""

from __future__ import annotations

import html
import json
import re
import shlex

import jax
import numpy as np
import pytest

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.optim.rules import Row, Rules
from alexnet_jax.report import plots
from alexnet_jax.report.against import OtherRun, read_run
from alexnet_jax.report.command import changed
from alexnet_jax.report.page import RunSummary, page
from alexnet_jax.report.transfer import TransferSummary, incomparable, layers, transfer_section
from alexnet_jax.transfer.freeze import freeze_rules

CLASSES = ["bike", "bus", "car"]
DATA = {"name": "street/b", "version": "1", "fingerprint": "00ff"}


def tables(net, taps, size, *more):
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    params = jax.eval_shape(AlexNet(net).init, jax.random.key(0), images)["params"]
    return [Rules((*more, *freeze_rules(net, tap))).table(params) for tap in taps]


def results(*counts, split="test", classes=tuple(CLASSES), **changes):
    matrix = [list(row) for row in counts] or [[41, 2, 1], [3, 42, 0], [0, 5, 43]]
    found = {"split": split, "classes": list(classes), "counts": matrix}
    return {"last_step": 500, "data": DATA, "confusion": found, **changes}


def summary(**changes) -> TransferSummary:
    stages = ((1, Row("backbone/conv1/kernel", (2, 3), frozen=True), Row("head/bias", (4,))),)
    return TransferSummary(
        **{
            "source": {"from": "runs/street/checkpoints/1000", "said": "Parameters from there"},
            "stages": [(begin, rows) for begin, *rows in stages],
            "results": results(),
            **changes,
        }
    )


def rows(count, gain=0.0):
    return [{"epoch": e, "validation/top1": 1 - 0.5 / e + gain} for e in range(1, count + 1)]


def text_of(document):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())


def said(**changes):
    return text_of(transfer_section(summary(**changes), rows(3), "top1"))


def test_parameters_are_counted_layer_by_layer_as_the_formulas_have_them():
    """torchvision's AlexNet for 4 classes: k * k * in * out + out, in * out + out."""
    (table,) = tables(spec("one_weird_trick", num_classes=4), ["pool5"], 224)
    channels = {1: (11, 3, 64), 2: (5, 64, 192), 3: (3, 192, 384), 4: (3, 384, 256)}
    channels[5] = (3, 256, 256)
    expected = {f"conv{i}": k * k * a * b + b for i, (k, a, b) in channels.items()}
    widths = {"fc6": (6 * 6 * 256, 4096), "fc7": (4096, 4096), "head": (4096, 4)}
    expected |= {name: a * b + b for name, (a, b) in widths.items()}
    found = layers([table])
    assert {layer.name: layer.parameters for layer in found} == expected
    assert [layer.name for layer in found] == list(expected)
    assert [layer.frozen == (layer.parameters,) for layer in found] == [True] * 5 + [False] * 3
    text = said(stages=[(1, table)])
    assert "all 2,469,696 of 57,020,228 frozen 57,020,228" in text
    assert "conv1 frozen 23,296 conv2 frozen" in text and "head trained 16,388" in text
    assert "learning rate ×" not in text


def test_each_stage_has_a_column_and_norms_stand_beside_their_layers():
    net = spec("small", num_classes=3, dense=(8, 8), width=0.25, normalization="batch")
    rules = ("^head/kernel", {"lr_mult": 10.0}), ("^head/", {"lr_mult": 20.0})
    found = tables(net, ["pool5", "pool1", None], 32, *rules)
    all_stages = list(zip((1, 7, 501), found, strict=True))
    found = layers([table for _, table in all_stages])
    assert [layer.name for layer in found[:4]] == ["conv1", "norm1", "conv2", "norm2"]
    frozen = {layer.name: [n > 0 for n in layer.frozen] for layer in found}
    assert frozen["norm1"] == [True, True, False]
    assert frozen["conv2"] == [True, False, False]
    assert frozen["head"] == [False, False, False]
    text = said(stages=all_stages)
    assert "from step 1 on from step 7 on from step 501 on (not reached)" in text
    assert re.search(r"conv2 frozen trained trained [\d,]+ 1 ", text)
    assert "head trained trained trained 27 10 and 20" in text


def test_what_is_frozen_in_part_or_for_good_is_told():
    table = [
        Row("backbone/conv1/kernel", (2, 3), frozen=True, lr_mult=3.0),
        Row("backbone/fc6/bias", (4,), lr_mult=2.0),
        Row("backbone/fc6/kernel", (5, 4), frozen=True),
    ]
    text = said(stages=[(1, table)])
    assert "conv1 frozen 6 fc6 20 of 24 frozen 24 2 all" in text  # no rate for what is not trained


def test_the_source_is_told_as_it_was_kept():
    text = said(
        source={
            "from": "runs/street/checkpoints/1000",
            "spec": "small",
            "classes": [f"class {i}" for i in range(25)],
            "data": "street/a",
            "best": {"validation/top1": 0.98125},
            "said": "Parameters from there; the head stays at its initialization\nnote: other mean",
        }
    )
    for expected in (
        "parameters of runs/street/checkpoints/1000 trained on street/a network small",
        "classes 25: class 0, class 1,",
        "class 19 and 5 more its best validation/top1 0.98125",
        "Parameters from there; the head stays at its initialization. note: other mean",
    ):
        assert expected in text
    assert "No parameters were given" in said(source={})
    assert "parameters of x.npz What" in said(source={"from": "x.npz", "classes": [], "best": {}})


def test_the_curve_of_the_other_run_is_drawn_beside_this_one():
    figure = plots.comparison(
        [("this run", rows(3, 0.1)), ("runs/scratch", rows(5))], "validation/top1"
    )
    (axis,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert drawn["this run"] == [[e, 1 - 0.5 / e + 0.1] for e in (1, 2, 3)]
    assert drawn["runs/scratch"] == [[e, 1 - 0.5 / e] for e in (1, 2, 3, 4, 5)]
    assert axis.get_ylabel() == "validation/top1"
    text = said(against=OtherRun("runs/scratch", rows(5)))
    assert "this run runs/scratch" in text  # the legend
    text = said(against=OtherRun("runs/scratch", [{"epoch": 1.0}]))
    assert "runs/scratch has no validation/top1." in text


def test_both_confusion_matrices_are_shown():
    other = results([31, 12, 1], [13, 32, 0], [0, 15, 33])
    text = said(against=OtherRun("runs/scratch", rows(5), other))
    assert "This run: 126 of 137 right. Split: test." in text
    assert "runs/scratch: 96 of 137 right. Split: test." in text
    assert all(re.search(rf"\b{count}\b", text) for count in (41, 42, 43, 31, 12, 32, 15, 33))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({}, "that run is not finished"),
        ({"last_step": 3}, "an earlier version finished that run; its own command adds"),
        (results(classes=("cat", "dog", "owl")), "its classes are 3: cat, dog, owl"),
        (results(split="validation"), "its matrix is of the validation split"),
        (results(data={**DATA, "name": "street/a"}), "other images, those of street/a"),
    ],
)
def test_a_matrix_of_something_else_is_left_out_and_the_section_says_why(other, why):
    assert why in incomparable(results(), other)
    text = said(against=OtherRun("runs/scratch", rows(5), other))
    assert "No confusion matrix of runs/scratch: " in text and why in text
    assert "right." not in text
    assert incomparable(results(), results()) == ""


def test_without_another_run_the_commands_that_make_one_are_told():
    text = said(commands={"Train from scratch": "train --run-dir b", "Compare": "train again"})
    assert "There is no run to compare with." in text
    assert "Train from scratch train --run-dir b Compare train again" in text


def test_everything_is_escaped():
    evil = '<script>alert("1")</script>&amp;'
    run = summary(
        source={"from": evil, "data": evil, "classes": [evil], "said": f"{evil}\n{evil}"},
        stages=[(1, [Row(f"backbone/{evil.replace('/', '')}/kernel", (2,))])],
        results=results(classes=(evil, "b", "c")),
        against=OtherRun(evil, rows(2), results(classes=(evil, "b", "c"))),
    )
    other = summary(against=OtherRun(evil, rows(2)), commands={evil: evil})
    unlike = summary(against=OtherRun(evil, [{"epoch": 1.0}], results(classes=(evil,))))
    alone = summary(commands={evil: evil})
    for transfer in (run, other, unlike, alone):
        document = transfer_section(transfer, rows(2), "top1")
        assert "<script" not in document
        assert "<script>alert" in html.unescape(document)


def test_the_section_is_part_of_the_page_where_there_is_one():
    run = RunSummary(
        title="a", monitor="validation/loss", stop_reason="COMPLETED", last_step=3,
        config={}, environment={}, rows=[{**row, "validation/loss": 1.0} for row in rows(2)],
    )  # fmt: skip
    assert "Transfer" not in page(run)
    with_it = RunSummary(**{**vars(run), "transfer": summary(against=OtherRun("x", rows(2)))})
    assert "<h2>Transfer</h2>" in page(with_it)
    assert "validation/top1 of both runs" in page(with_it)


def test_a_command_is_changed_option_by_option():
    typed = (
        "python -m alexnet_jax train folder --init a.npz --data 'my photos' --transfer.freeze "
        "pool5 'none after 2 epochs' --seed=3 --transfer.keep fc head --run_dir runs/a "
        "--transfer.against=b"
    )
    scratch = changed(typed, {"--run-dir": "runs/the other"}, without=("--init", "--transfer."))
    assert shlex.split(scratch) == [
        *("python", "-m", "alexnet_jax", "train", "folder", "--data", "my photos", "--seed=3"),
        *("--run-dir", "runs/the other"),
    ]
    compared = changed(typed, {"--transfer.against": "runs/c"})
    assert compared.endswith("--run_dir runs/a --transfer.against runs/c")
    assert "=b" not in compared and "'none after 2 epochs'" in compared
    assert changed("train --patience=5 --init-x 1", {"--patience": 10}, without=("--init",)) == (
        "train --init-x 1 --patience 10"
    )


def test_another_run_is_read_from_its_folder(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,epoch,validation/top1\n5,0.5,0.25\n")
    unfinished = read_run(str(tmp_path))
    assert unfinished.rows == [{"step": 5, "epoch": 0.5, "validation/top1": 0.25}]
    assert (unfinished.name, unfinished.results) == (str(tmp_path), {})
    (tmp_path / "results.json").write_text(json.dumps(results()))
    assert read_run(str(tmp_path)).results == results()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (None, "which does not exist"),
        ({}, r"which has no metrics\.csv"),
        ({"metrics.csv": "step,epoch\n"}, r"whose metrics\.csv has no evaluation in it yet"),
        ({"metrics.csv": "step,loss\n1,2.0\n"}, r"whose metrics\.csv has no column `epoch`"),
        ({"metrics.csv": "name,epoch\nfred,2\n"}, "which cannot be read .*'fred'"),
        ({"metrics.csv": "step,epoch\n1,2\n", "results.json": "{"}, "which cannot be read"),
    ],
)
def test_a_folder_without_a_run_is_named_with_what_is_expected(tmp_path, files, why):
    folder = tmp_path / "other"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=why) as told:
        read_run(str(folder))
    assert f"transfer.against is {str(folder)!r}" in str(told.value)
    assert "expected the folder of a run, such as runs/street, with a metrics.csv" in str(
        told.value
    )
    assert folder.exists() == (files is not None)  # looking leaves nothing behind
