"""Two tasks from outside: trained, gone on with, judged, asked about a photograph, reported."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.letterbox import letterbox
from alexnet_jax.data.preprocess import preprocess
from alexnet_jax.data.street.source import COUNTS
from alexnet_jax.export import stablehlo
from alexnet_jax.models.spec import spec
from alexnet_jax.restored import load
from alexnet_jax.transfer.initial import initial_state

SPEC = spec("small", num_classes=3, width=0.25)
pytestmark = pytest.mark.slow  # tasks/test_multi.py holds the task itself to its parts

OPTIONS = (
    "train street-multi --model.width 0.25 --model.normalization none --model.kernel-init zeros "
    "--segmentation.refine 8 --input.size 40 --batch-size 4 --init given.npz --run.precision exact "
    "--augment.crop center --augment.pad 0 --run.evaluate-every '2 epochs' "
    "--multi.weights segmentation 0.5"
)
NAMES = ("car", "bus", "bicycle", "bike", "man", "woman")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_classifier):
    """A few street scenes, a photograph that is wider than high, and a classifier's weights."""
    folder = tmp_path_factory.mktemp("multi")
    pixels = np.random.default_rng(0).integers(0, 255, (45, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    write_classifier(folder / "given.npz", SPEC)
    counts = {"train": 12, "validation": 4, "test": 6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COUNTS, "scenes", counts)
        yield folder


@pytest.fixture(scope="module")
def finished(told):
    status, text = told(f"{OPTIONS} --epochs 4 --run-dir run")
    assert status == 0, text
    return Path("run"), text


def test_it_begins_with_a_classifiers_layers_and_says_so(finished):
    run, text = finished
    said = next(line for line in text.splitlines() if "Parameters from given.npz" in line)
    for task in ("detection", "segmentation"):
        assert f"the head of {task}, of another task or form, stays at its initialization" in said
    assert "at their initialization stay offset, size, deep, fine, mix1, mix2" in said
    assert "fc6" not in said
    config = json.loads((run / "config.json").read_text())
    assert config["stopping"]["monitor"] == "validation/detection/ap50"


def test_it_learns_both_and_tells_the_weighted_loss(told, finished, rows_of):
    first, last = ({k: float(v) for k, v in row.items()} for row in rows_of(finished[0]))
    for name in ("loss", "detection/loss", "segmentation/loss"):
        assert last[f"train/{name}"] < first[f"train/{name}"]
        both = last["validation/detection/loss"] + 0.5 * last["validation/segmentation/loss"]
        assert last["validation/loss"] == pytest.approx(both)
    assert {"validation/detection/ap50", "validation/segmentation/mean_iou"} <= set(last)
    assert last["validation/segmentation/pixels"] == 4 * 40 * 40


def test_killed_half_way_it_ends_in_the_same_bits(told, kill, finished, rows_of):
    """Three batches an epoch; after two epochs, step 6, it is judged and saved."""
    kill(f"{OPTIONS} --epochs 4 --run-dir again", 9)
    status, text = told(f"{OPTIONS} --epochs 4 --run-dir again")
    assert status == 0 and "Going on from step 6" in text
    facts = [json.loads(told(f"inspect {run} --format json")[1]) for run in ("run", "again")]
    assert facts[0]["sha256"] == facts[1]["sha256"]
    assert rows_of(Path("again")) == rows_of(Path("run"))
    assert facts[0]["task"] == "detection+segmentation"
    classes = [f"detection/{name}" for name in NAMES]
    classes += [f"segmentation/{name}" for name in ("background", *NAMES)]
    assert facts[0]["classes"] == classes


def test_evaluate_says_what_the_run_found(told, finished):
    status, text = told("evaluate run --split test")
    assert status == 0, text
    printed = dict(line.split()[:2] for line in text.splitlines()[1:])
    figures = json.loads(Path("run/results.json").read_text())["splits"]["test"]
    for name in ("loss", "detection/ap50", "detection/objects", "segmentation/mean_iou"):
        assert float(printed[name]) == pytest.approx(figures[name], nan_ok=True)
    assert int(printed["segmentation/pixels"]) == 6 * 40 * 40


def test_predict_answers_for_each_task_in_the_photographs_pixels(told, finished):
    """The whole photograph is seen, and so every pixel of it has a class."""
    status, text = told("predict run photo.png --format json --out drawn")
    assert status == 0, text
    (answer,) = json.loads(text)
    by_task = {
        task: [said for said in answer["predictions"] if said["task"] == task]
        for task in ("detection", "segmentation")
    }
    assert sum(map(len, by_task.values())) == len(answer["predictions"])
    shares = {said["class"]: said["share"] for said in by_task["segmentation"]}
    for said in by_task["detection"]:
        x, y, width, height = said["bbox"]
        assert 0 <= x < x + width <= 60.01 and 0 <= y < y + height <= 45.01
    kinds = {"segmentation/mask", "detection/answer", "segmentation/answer"}
    assert set(answer["files"]) == kinds
    assert answer["files"]["detection/answer"] == "drawn/photo_predicted_detection_answer.png"
    for kind, path in answer["files"].items():
        with Image.open(path) as picture:
            assert picture.size == (60, 45)
            if kind == "segmentation/mask":
                mask = np.asarray(picture)
    assert mask.max() < 7 and set(shares) <= {"background", *NAMES}
    assert shares["background"] == pytest.approx((mask == 0).mean(), abs=0.05)
    status, text = told("predict run photo.png --out drawn")
    assert status == 0 and re.search(r"  segmentation: \d+\.\d\d%  background", text)
    assert "detection/answer: drawn/photo_predicted_detection_answer.png" in text


def test_its_program_gives_the_answers_of_both(told, finished):
    """As `predict` does: the mask beside it is the one of the whole picture on its canvas."""
    status, text = told("export run program/net.stablehlo")
    assert status == 1 and "program does not exist" in text
    Path("program").mkdir()
    status, text = told("export run program/net.stablehlo")
    assert status == 0, text
    image = np.asarray(Image.open("photo.png").convert("RGB"))
    seen = letterbox(image, 40)[None]
    found = stablehlo.load("program/net.stablehlo")(seen)
    run = load("run")
    variables = {"params": run.state.params, **run.state.model_state}
    outputs = run.task.net.apply(variables, preprocess({"image": seen}, run.preprocessing)["image"])
    expected = jax.device_get(run.task.decode(outputs))
    assert set(found) == set(expected) >= {"detection/boxes", "segmentation/mask"}
    np.testing.assert_array_equal(found["segmentation/mask"], expected["segmentation/mask"])
    np.testing.assert_allclose(found["detection/score"], expected["detection/score"], atol=1e-5)
    card = Path("program/README.md").read_text()
    assert "of segmentation, called `segmentation/...`" in card and "the long side scaled" in card


def test_the_report_tells_of_both(finished):
    run, _ = finished
    document = (run / "report.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())
    results = json.loads((run / "results.json").read_text())
    assert "reaches detection/ap50" in text and "segmentation/car" in text
    assert results["confusion"]["classes"] == ["background", *NAMES]
    assert sum(map(sum, results["confusion"]["counts"])) == 6 * 40 * 40
    for one in results["examples"]:
        assert one["said"] in text
        assert f"{one['task'].capitalize()} {one['rank']}" in text
    assert {one["task"] for one in results["examples"]} >= {"segmentation"}
    assert document.count('alt="truth"') == len(results["examples"])


def test_a_run_begins_with_anothers_parameters(finished):
    """Of the same tasks all, but heads of other classes; of another task the backbone."""
    run = load("run")
    nine = jax.tree.map(lambda x: jnp.full(x.shape, 9, x.dtype), run.state)
    state, said = initial_state("run", nine, classes=run.classes)
    jax.tree.map(np.testing.assert_array_equal, state.params, run.state.params)
    assert said.endswith(str(run.path))

    others = tuple(name.replace("detection/", "detection/small ") for name in run.classes)
    state, said = initial_state("run", nine, classes=others)
    assert np.all(state.params["detection"]["head"]["heat"]["kernel"] == 9)
    for part in (("detection", "neck"), ("segmentation", "head")):
        given, own = run.state.params, state.params
        for name in part:
            given, own = given[name], own[name]
        jax.tree.map(np.testing.assert_array_equal, own, given)
    assert "the head of detection, for the classes car, bus" in said

    params = nine.params
    alone = nine.replace(params={"backbone": params["backbone"], **params["segmentation"]})
    state, said = initial_state("run", alone, classes=("background", *NAMES))
    given = run.state.params["backbone"]
    jax.tree.map(np.testing.assert_array_equal, state.params["backbone"], given)
    assert np.all(state.params["neck_conv1"]["mix1"]["kernel"] == 9)
    assert "; the head, of another task or form, stays at its initialization" in said


def test_what_does_not_go_together_is_refused_in_words(told, finished):
    line = "train street-multi --run-dir no --input.size 40 --task"
    for more, said in (
        ("detection+depth", "no task is called 'depth'; there are"),
        ("detection+detection", "has detection more than once"),
        ("detection+classification", "segmentation, detection and pose do"),
        ("detection+pose", "street/scenes has no joints of one person, which pose learns"),
        ("detection+segmentation --multi.weights pose 2", "tasks are detection, segmentation"),
        ("detection+segmentation --multi.weights detection -1", "expected at least 0"),
        ("detection --multi.weights detection 2", "multi.weights goes with several tasks"),
        (
            "pose+segmentation --data street/people --pose.head regression "
            "--segmentation.class-weights",
            "pose has a DeepPose, which reads a picture as a whole",
        ),
    ):
        status, text = told(f"{line} {more}")
        assert status == 1 and said in text, (more, text)
    for line, said in (
        ("evaluate run --views 10", "ten views are averaged for classification"),
        ("export run out.onnx", "was trained for detection+segmentation"),
        ("convert run out.npz", "was trained for detection+segmentation"),
    ):
        status, text = told(line)
        assert status == 1 and said in text, (line, text)
    assert not Path("no").exists()
