"""Detection from outside: trained, gone on with, judged, asked about a photograph, reported."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.letterbox import boxes_back, letterbox
from alexnet_jax.export.stablehlo import load as exported
from alexnet_jax.models.spec import spec
from alexnet_jax.restored import load
from alexnet_jax.transfer.initial import initial_state

SPEC = spec("small", num_classes=3, width=0.25)
pytestmark = pytest.mark.slow  # tasks/test_detection.py holds the task itself to its parts
OPTIONS = (
    "train detection-folder --data pictures --spec small --model.width 0.25 --input.canvas 40 "
    "--input.size 40 --batch-size 4 --learning-rate 0.01 --init given.npz --run.precision exact "
    "--augment.crop center --run.evaluate-every '15 epochs' --model.normalization none"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_classifier):
    """Bright and dim squares on dark ground, some pictures empty; and a classifier's weights."""
    folder = tmp_path_factory.mktemp("detection")
    rng = np.random.default_rng(0)
    root = folder / "pictures"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    number = 0
    for split, count in {"train": 8, "val": 4, "test": 6}.items():
        ids = [str(number + i) for i in range(count)]
        number += count
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(ids))
        for i, name in enumerate(ids):
            image = rng.integers(0, 30, (45, 60, 3), dtype=np.uint8)
            objects = ""
            if i % 4 != 3:
                y, x = rng.integers((2, 2), (24, 38))
                image[y : y + 18, x : x + 18] += np.uint8(210 if i % 2 else 100)
                objects = (
                    f"<object><name>{'bright' if i % 2 else 'dim'}</name><bndbox>"
                    f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 18}</xmax>"
                    f"<ymax>{y + 18}</ymax></bndbox></object>"
                )
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.png")
            (root / "Annotations" / f"{name}.xml").write_text(
                "<annotation><size><width>60</width><height>45</height></size>"
                f"{objects}</annotation>"
            )
    write_classifier(folder / "given.npz", SPEC)
    return folder


@pytest.fixture(scope="module")
def finished(told):
    status, text = told(f"{OPTIONS} --epochs 30 --run-dir run")
    assert status == 0, text
    return Path("run"), text


def test_what_judges_it_is_missed_before_anything_is_trained(told, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    status, text = told(f"{OPTIONS} --run-dir lacking")
    assert status == 1
    assert "computed by pycocotools: pip install 'alexnet_jax[detection]'" in text
    assert not Path("lacking").exists()


def test_a_beginning_that_cannot_be_loaded_leaves_no_folder_and_deletes_no_run(finished, told):
    for run, fresh in (("missing", ""), (str(finished[0]), "--fresh")):
        status, text = told(
            f"{OPTIONS} --epochs 30 --run-dir {run} --init nowhere/weights.npz {fresh}"
        )
        assert status == 1 and "nowhere/weights.npz" in text
    assert not Path("missing").exists()
    assert (finished[0] / "checkpoints").is_dir() and (finished[0] / "metrics.csv").exists()


def test_a_validation_without_objects_is_told_as_such(finished, told):
    shutil.copytree("pictures", "empty")
    for name in (Path("empty") / "ImageSets/Main/val.txt").read_text().split():
        path = Path("empty/Annotations") / f"{name}.xml"
        path.write_text(re.sub("<object>.*</object>", "", path.read_text()))
    options = OPTIONS.replace("--data pictures", "--data empty").replace("15 epochs", "2 epochs")
    status, text = told(f"{options} --epochs 2 --run-dir objectless")
    assert status == 1
    said = text.splitlines()[-1]
    assert "validation/ap50 is not finite at step 4, but the loss is" in said
    assert "does validation show what is judged?" in said


def test_it_begins_with_a_classifiers_convolutions_and_says_so(finished):
    run, text = finished
    said = next(line for line in text.splitlines() if "Parameters from given.npz" in line)
    assert "the head, of another task or form, stays at its initialization" in said
    assert "at their initialization stay offset, size, deep, fine, mix1, mix2" in said
    assert "left out fc6, fc7" in said
    config = json.loads((run / "config.json").read_text())
    assert config["stopping"]["monitor"] == "validation/ap50"


def test_it_learns_and_once_finished_stays_as_it_is(told, finished, rows_of):
    run, _ = finished
    first, last = rows_of(run)
    assert float(last["train/loss"]) < float(first["train/loss"])
    assert {"validation/ap50", "validation/ap", "validation/objects"} <= set(last)
    assert told(f"{OPTIONS} --epochs 30 --run-dir run")[0] == 0
    assert rows_of(run) == [first, last]


def test_killed_half_way_it_ends_in_the_same_bits(told, kill, finished, rows_of):
    """Two batches an epoch; after 15 epochs, step 30, it is judged and saved."""
    kill(f"{OPTIONS} --epochs 30 --run-dir again", 33)
    status, text = told(f"{OPTIONS} --epochs 30 --run-dir again")
    assert status == 0 and "Going on from step 30" in text
    facts = [json.loads(told(f"inspect {run} --format json")[1]) for run in ("run", "again")]
    assert facts[0]["sha256"] == facts[1]["sha256"] and facts[0]["task"] == "detection"
    assert rows_of(Path("again")) == rows_of(Path("run"))


def test_evaluate_says_what_the_run_found(told, finished):
    status, text = told("evaluate run --split test")
    assert status == 0, text
    printed = dict(line.split()[:2] for line in text.splitlines()[1:])
    results = json.loads(Path("run/results.json").read_text())
    for name in ("ap50", "ap", "loss", "objects"):
        assert float(printed[name]) == results["splits"]["test"][name]
    assert int(printed["objects"]) == 5 and float(printed["ap50"]) > 0.5


def test_exported_it_answers_as_predict_does(told, finished):
    """Size and canvas are one, so the program's boxes are in pixels of the letterboxed picture."""
    status, text = told("export run finds.stablehlo")
    assert status == 0, text
    said = json.loads(
        told("predict run pictures/JPEGImages/13.png --format json --out exported")[1]
    )
    with Image.open("pictures/JPEGImages/13.png") as image:
        picture = np.asarray(image.convert("RGB"))
    answer = {k: v[0] for k, v in exported("finds.stablehlo")(letterbox(picture, 40)[None]).items()}
    boxes = boxes_back(answer["boxes"], picture.shape[:2], 40)
    for one in (said[0], said[1]):
        row = np.flatnonzero(np.isclose(answer["score"], one["score"], atol=1e-5))[0]
        y0, x0, y1, x1 = boxes[row]
        np.testing.assert_allclose(one["bbox"], [x0, y0, x1 - x0, y1 - y0], atol=6e-3)  # rounded
        assert answer["box_label"][row] + 1 == one["category_id"]
    card = Path("README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: object-detection" in card and "the long side scaled to 40" in card


def test_predict_gives_cocos_results_in_the_photographs_pixels(told, finished):
    """The best box lies on the square that was painted; the picture drawn has its edge there."""
    status, text = told("predict run pictures/JPEGImages/13.png --format json --out drawn")
    assert status == 0, text
    results = json.loads(text)
    assert {"image_id", "category_id", "bbox", "score"} <= set(results[0])
    assert results[0]["image_id"] == "pictures/JPEGImages/13.png"
    assert [r["score"] for r in results] == sorted((r["score"] for r in results), reverse=True)
    image = np.asarray(Image.open("pictures/JPEGImages/13.png")).astype(int)
    bright = image.sum(axis=2) > 3 * 60
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    x, y, width, height = results[0]["bbox"]
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(np.array([x, y, x + width, y + height]) - expected).max() < 6
    with Image.open("drawn/13_predicted_answer.png") as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == (45, 60, 3)
    assert drawn[round(y), round(x + width / 2)].tolist() == [255, 255, 255]
    status, text = told("predict run pictures/JPEGImages/13.png --out drawn")
    assert status == 0 and re.search(r"\d+\.\d\d%  \w+  x, y, width, height: \d+, \d+", text)
    assert "answer: drawn/13_predicted_answer.png" in text


def test_the_report_tells_class_by_class_and_draws(finished):
    run, _ = finished
    document = (run / "report.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())
    results = json.loads((run / "results.json").read_text())
    assert "Class by class" in text and "reaches ap50" in text
    dim = results["per_class"]["dim"]
    assert f"dim {dim['ap50']:.1%} {dim['ap']:.1%}" in text
    curve = results["precision_at_recall"]["bright"]
    assert len(curve) == 11 and "Precision at so much recall" in text
    assert " ".join(["bright", *(f"{share:.1%}" for share in curve)]) in text
    said = [example["said"] for example in results["examples"]]
    assert said and all(one in text for one in said)
    assert document.count('alt="truth"') == document.count('alt="answer"') == len(said)


def test_what_is_for_others_is_refused_in_words(told, finished):
    for line, said in (
        ("evaluate run --views 10", "ten views are averaged for classification"),
        ("export run out.onnx", "was trained for detection"),
        ("train folder --task detection --data street/none --run-dir no", "no configuration"),
    ):
        status, text = told(line)
        assert status == 1 and said in text, (line, text)


def test_a_run_begins_with_another_detectors_parameters(finished):
    """The head with its classes in their order; boxes, which know no classes, as they are."""
    run = load("run")
    state, said = initial_state("run", run.state, classes=run.classes[::-1])
    given, own = run.state.params, state.params
    kernel = given["head"]["heat"]["kernel"]
    np.testing.assert_array_equal(own["head"]["heat"]["kernel"], kernel[:, ::-1])
    for part in ("backbone", "neck", "boxes"):
        jax.tree.map(np.testing.assert_array_equal, own[part], given[part])
    assert "classes were put into this data set's order" in said and "left out" not in said
