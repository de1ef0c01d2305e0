"""The report: one HTML file that needs nothing else, says what happened and survives odd runs."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from alexnet_jax.config import Config
from alexnet_jax.finish import go_on
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.report import inline, plots
from alexnet_jax.report.page import Mistake, RunSummary, interval, page, sentence

VOID = {"meta", "img", "wbr", "br", "link", "hr", "input"}


class Checker(HTMLParser):
    """Fails on a tag that is not closed; gathers the text, the attributes and the ids."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def rows(count: int = 14) -> list[dict]:
    return [
        {
            "step": 250 * epoch,
            "epoch": float(epoch),
            "train/loss": 1 / epoch,
            "validation/loss": 1 / epoch + 0.125,
            "validation/top1": 1 - 0.5 / epoch,
            "learning_rate": 0.01 if epoch < 8 else 0.001,
        }
        for epoch in range(1, count + 1)
    ]


def summary(**changes) -> RunSummary:
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    run = RunSummary(
        title="street, seed 0",
        monitor="validation/top1",
        stop_reason="PATIENCE_EXHAUSTED",
        last_step=3500,
        config={"optimizer": {"name": "sgd", "momentum": 0.9}, "epochs": 60},
        environment={"cpu": "Some CPU"},
        rows=rows(),
        epochs=60,
        patience=5,
        best_step=2250,
        best_epoch=9.0,
        results={
            "validation": {"loss": 0.25, "top1": 0.94, "correct": 470, "count": 500},
            "test": {"loss": 0.2714, "top1": 0.931, "correct": 931, "count": 1000},
        },
        classes=("bike", "bus", "car"),
        confusion=np.array([[310, 14, 9], [12, 311, 10], [13, 11, 310]]),
        mistakes=(Mistake(image, 1, 2, 0.987, "test/bus/17.jpg"),),
        conv1=np.random.default_rng(1).normal(size=(11, 11, 3, 96)),
        notes=("validation: 10 % of train",),
        bad_images=("train/bus/3.jpg: truncated",),
        parameters="backbone/conv1/kernel  lr_mult 1.0",
        commands={"Predict": "python -m alexnet_jax predict runs/a 'my photo.jpg'"},
    )
    return replace(run, **changes)


def test_page_is_whole_html_and_loads_nothing():
    document = page(summary())
    checked = Checker(document)
    assert document.startswith("<!DOCTYPE html>")
    assert not {"link", "script", "iframe", "object"} & {tag for tag, _, _ in checked.attributes}
    for _, name, value in checked.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset", "data"):
            assert value.startswith(("data:image/", "#")), value[:80]
    assert "http" not in re.sub(r"data:image/[^\"]*", "", document)
    assert "@import" not in document


def test_page_says_what_happened():
    text = Checker(page(summary())).text
    assert (
        "Stopped after epoch 14 of 60: no improvement of validation/top1 for 5 evaluations. "
        "The best checkpoint (epoch 9) gets 93.1 % of the test split right (931 of 1000)."
    ) in text
    for expected in (
        "0.2714", "93.10 %", "94.00 %", "stopped: PATIENCE_EXHAUSTED", "best (epoch 9)",
        "311", "bus → car (0.99)", "test/ bus/ 17.jpg",
        "optimizer.momentum 0.9", "Some CPU", "validation: 10 % of train",
        "train/bus/3.jpg: truncated", "backbone/conv1/kernel", "'my photo.jpg'",
    ):  # fmt: skip
        assert expected in text, expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"results": {"validation": {"top1": 0.94, "correct": 470, "count": 500}}},
            "gets 94.0 % of the validation split (validation, used for stopping: no test split) "
            "right (470 of 500).",
        ),
        ({"stop_reason": "COMPLETED"}, "Trained to the end, epoch 14 of 60. The best"),
        ({"stop_reason": "COMPLETED", "epochs": 9}, "Trained to the end, epoch 14. The best"),
        ({"stop_reason": "INTERRUPTED"}, "epoch 14 of 60: interrupted; the same command goes on"),
        ({"stop_reason": "NON_FINITE"}, "validation/top1 or the training loss was not finite."),
        ({"stop_reason": "disk full"}, "Stopped after epoch 14 of 60: disk full."),
        ({"best_step": None}, "validation/top1 was never finite."),
        ({"rows": (), "best_step": None}, "Stopped after step 3500: "),
        ({"rows": ()}, "No evaluation was made."),
        ({"results": {}}, "The best checkpoint is that of epoch 9."),
        ({"patience": 1}, "for 1 evaluation."),
        (
            {"monitor": "validation/map", "results": {"test": {"map": 0.4321}}},
            "(epoch 9) reaches map 0.4321 on the test split.",
        ),
    ],
)
def test_sentence(changes, expected):
    assert expected in sentence(summary(**changes))


def test_everything_is_escaped():
    evil = '<script>alert("1")</script>&amp;$x$'
    image = np.zeros((32, 32, 3), np.uint8)
    run = summary(
        title=evil,
        monitor=f"validation/{evil}",
        stop_reason=evil,
        config={evil: evil},
        environment={evil: {evil: evil}},
        classes=(evil, "b", "c"),
        mistakes=(Mistake(image, 0, 0, 0.5, evil),),
        notes=(evil,),
        bad_images=(evil,),
        parameters=evil,
        commands={evil: evil},
        results={evil: {evil: 0.5}},
        rows=[{**row, evil: 0.5, f"validation/{evil}": 0.5} for row in rows()],
    )
    document = page(run)
    assert "<script" not in document
    checked = Checker(document)
    assert not any(tag == "script" for tag, _, _ in checked.attributes)
    assert checked.text.count(evil) >= 12  # the reader sees what was meant, also in the figures


ODD = {
    "no evaluation": {"rows": (), "results": {}, "best_step": None, "best_epoch": None},
    "one evaluation": {"rows": rows(1)},
    "nan": {
        "rows": [*rows(2), {**rows(3)[-1], "validation/loss": math.nan, "train/loss": -math.inf}],
        "results": {"test": {"loss": math.nan, "top1": math.nan, "correct": 0, "count": 0}},
    },
    "all nan": {"rows": [dict.fromkeys(row, math.nan) | {"epoch": 1.0} for row in rows(2)]},
    "rate zero": {"rows": [{**row, "learning_rate": 0.0} for row in rows(3)]},
    "rows differ": {"rows": [{"step": 1, "epoch": 1.0}, *rows(3)]},
    "absent class": {"confusion": np.array([[5, 0, 1], [0, 0, 0], [1, 0, 5]])},
    "no class": {"classes": (), "confusion": None, "mistakes": ()},
    "foreign letters": {"classes": ("自転車", "حافلة", "машина")},
    "dead filter": {"conv1": np.zeros((11, 11, 3, 1))},
    "nan filter": {"conv1": np.full((3, 3, 3, 20), np.nan)},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_odd_runs_have_a_report_too(changes):
    run = summary(**changes)
    text = Checker(page(run)).text
    assert sentence(run) in text
    if changes is ODD["absent class"]:
        assert "No example of: bus." in text
    if changes is ODD["nan"]:
        assert "not finite" in text


def test_report_of_noise_stays_below_two_megabytes():
    image = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    mistakes = [Mistake(image, 0, 1, 0.5, f"{i}.jpg") for i in range(100)]
    classes = tuple(f"class {i}" for i in range(1000))
    document = page(
        summary(
            mistakes=mistakes,
            rows=rows(3000),
            classes=classes,
            confusion=np.ones((1000, 1000), int),
            bad_images=tuple(f"{i}.jpg" for i in range(10_000)),
        )
    )
    assert len(document.encode()) < 2_000_000
    assert "the last 200 of 3000 evaluations" in document
    assert "and 9950 more" in document


def test_interval_is_wilsons():
    for correct, count in ((931, 1000), (0, 7), (7, 7), (1, 3)):
        expected = binomtest(correct, count).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(interval(correct, count), expected, atol=1e-7)


def test_curves_mark_best_stop_and_gaps():
    given = rows(5)
    given[2]["validation/loss"] = math.inf
    loss, top1, rate = plots.learning_curves(given, "top1", 4.0, "NON_FINITE").axes
    lines = {line.get_label(): line for line in loss.lines}
    np.testing.assert_array_equal(lines["train"].get_ydata(), [1 / epoch for epoch in range(1, 6)])
    assert np.isnan(lines["validation"].get_ydata()).tolist() == [False, False, True, False, False]
    assert list(lines["not finite"].get_xdata()) == [3.0]
    for axis in (loss, top1, rate):
        marks = {line.get_label(): line.get_xdata()[0] for line in axis.lines}
        assert marks["best (epoch 4)"] == 4.0
        assert marks["stopped: NON_FINITE"] == 5.0


def test_confusion_shows_shares_of_the_true_class():
    figure = plots.confusion(np.array([[8, 2], [0, 0]]), ("a", "b"))
    (axis,) = figure.axes
    cells = {cell.get_xy(): cell.get_alpha() for cell in axis.patches}
    right, wrong = cells[(-0.5, -0.5)], cells[(0.5, -0.5)]  # row "a" lies on top
    assert 1 > right > wrong > 0
    assert cells[(-0.5, 0.5)] == cells[(0.5, 0.5)] == 0  # class "b" has no examples
    assert sorted(text.get_text() for text in axis.texts) == ["2", "8"]
    with pytest.raises(ValueError, match="does not fit 3 classes"):
        plots.confusion(np.zeros((2, 2), int), ("a", "b", "c"))


def test_many_classes_get_the_most_confused_pairs():
    classes = [f"class {i}" for i in range(40)]
    matrix = np.diag(np.full(40, 20))
    matrix[3, 4], matrix[10, 2] = 5, 30
    assert plots.most_confused(matrix, classes) == [
        ("class 10", "class 2", 30, 0.6),
        ("class 3", "class 4", 5, 0.2),
    ]
    text = Checker(page(summary(classes=tuple(classes), confusion=matrix, mistakes=()))).text
    assert "class 10 class 2 30 60.0 %" in text


def test_filters_are_stretched_each_to_its_own_range():
    kernel = np.zeros((2, 2, 3, 3))
    kernel[0, 0, 0, 0] = 1e-3  # a faint kernel is as bright as a strong one
    kernel[1, 1, 2, 1] = 50.0
    with Image.open(io.BytesIO(inline.png(plots.filters(kernel)))) as image:
        pixels = np.asarray(image.convert("RGBA"))
    zoom = 22  # 44 pixels a kernel, and a gap of one weight between two
    assert pixels.shape == (2 * zoom, 8 * zoom, 4)
    centres = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert centres[0, 0].tolist() == [255, 0, 0, 255]
    assert centres[1, 1].tolist() == [0, 0, 0, 255]
    assert centres[1, 4].tolist() == [0, 0, 255, 255]
    assert centres[0, 2, 3] == 0  # the gap shows the page
    assert abs(int(centres[0, 6, 0]) - 128) <= 1  # a kernel without range is grey


def test_thumbnails_keep_the_picture():
    small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = np.zeros((600, 300, 3), np.uint8)
    large[:300] = (200, 40, 40)
    opened = []
    for image in (small, large):
        kind, data = inline.thumbnail(image, side=192).split(";base64,")
        opened.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
        assert kind.startswith("data:image/")
    np.testing.assert_array_equal(opened[0], small)
    assert opened[1].shape == (192, 96, 3)
    assert np.abs(opened[1][:80].astype(int) - (200, 40, 40)).max() <= 6


def test_figures_take_the_pages_ink_and_repeat_exactly():
    def draw() -> str:
        return inline.svg(plots.learning_curves(rows(), "top1", 9.0, "PATIENCE_EXHAUSTED"))

    text = draw()
    assert "currentColor" in text and plots.INK not in text
    assert draw() == text


def test_pyplot_is_not_touched():
    code = "import sys, alexnet_jax.report.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "alexnet_jax.report.plots")
    with pytest.raises(ImportError, match=re.escape("pip install 'alexnet_jax[report]'")):
        import alexnet_jax.report.plots  # noqa: F401


def test_how_to_go_on_is_what_trains_on():
    """Patience does nothing for a run that its epochs ended, nor may a schedule's end move."""
    command = "alexnet_jax train street --patience 5 --epochs 3"
    more = {"Go on, for more epochs": "alexnet_jax train street --patience 5 --epochs 6"}
    config = replace(Config(), patience=5, epochs=3)
    assert go_on(config, "EPOCH_LIMIT", command) == more
    cosine = replace(config, schedule=Schedule(name="cosine"))
    assert go_on(cosine, "EPOCH_LIMIT", command) == {}
    more = {"Go on, with more patience": "alexnet_jax train street --epochs 3 --patience 10"}
    assert go_on(cosine, "PATIENCE_EXHAUSTED", command) == more
