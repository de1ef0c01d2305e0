"""Pose from outside: trained, judged, asked about a photograph, reported."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from alexnet_jax.data.decode import canvas_points
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.models.spec import spec
from alexnet_jax.predict import points_back

SPEC = spec("small", num_classes=3, width=0.25)
OPTIONS = (
    "train pose-folder --data pictures --spec small --model.width 0.25 --model.kernel-init zeros "
    "--input.canvas 40 --input.size 36 --batch-size 4 --learning-rate 0.05 --init given.npz "
    "--run.precision exact --augment.crop random --augment.pad 1 --run.evaluate-every '4 epochs' "
    "--model.normalization none --model.dense 256 256 --pose.skips conv5 pool2 pool1 "
    "--pose.refine None --pose.no-context --optimizer.name sgd --optimizer.momentum 0.9 "
    "--optimizer.decay 0 --optimizer.clip 1 --schedule.name constant --schedule.warmup 0 --epochs 8"
)
HEIGHT, WIDTH = 44, 60
# A person of dots, from the feet up, 14 x 2, y and x in parts of the height.
FIGURE = np.array([
    (1.0, -0.1), (0.8, -0.1), (0.55, -0.1), (0.55, 0.1), (0.8, 0.1), (1.0, 0.1), (0.55, -0.3),
    (0.4, -0.25), (0.25, -0.15), (0.25, 0.15), (0.4, 0.25), (0.55, 0.3), (0.2, 0.0), (0.0, 0.0),
])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_classifier):
    """Figures of bright dots, some with joints that are not visible; and a classifier's weights."""
    folder = tmp_path_factory.mktemp("pose")
    rng = np.random.default_rng(0)
    (folder / "pictures" / "images").mkdir(parents=True)
    table = np.zeros((14, 3, 20))
    for i in range(20):
        tall, top, left = rng.uniform(22, 30), rng.uniform(3, 9), rng.uniform(22, 38)
        joints = FIGURE * tall + (top, left)
        image = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for y, x in joints.astype(int):
            image[y : y + 3, x : x + 3] += 150
        Image.fromarray(image).save(folder / "pictures" / "images" / f"im{i + 1:04d}.png")
        visible = (rng.random(14) < 0.9) & (np.array(JOINTS) != "head top")  # as in FLIC
        table[..., i] = np.column_stack([joints[:, ::-1] + 0.5, visible])
    savemat(folder / "pictures" / "joints.mat", {"joints": table})
    write_classifier(folder / "given.npz", SPEC)
    return folder


# The classifier's dense layers are for 64 px; only heat maps slide them over another size.
REGRESSION = (
    "--learning-rate 0.01 --transfer.keep fc head --model.kernel-init he_normal "
    "--pose.head regression"
)
HEADS = {
    "heatmap": "--pose.head heatmap",
    "regression": REGRESSION,
    "cascade": f"{REGRESSION} --pose.refinements 1",
}


LONG = [pytest.param(head, marks=pytest.mark.slow) for head in ("regression", "cascade")]


@pytest.fixture(scope="module", params=["heatmap", *LONG])
def finished(request, told):
    status, text = told(f"{OPTIONS} {HEADS[request.param]} --run-dir {request.param}")
    assert status == 0, text
    return request.param, Path(request.param), text


def test_it_begins_with_a_classifiers_layers_and_stops_on_pck(finished):
    head, run, text = finished
    said = "of another task or form" if head == "heatmap" else "of another number of classes"
    assert f"the head, {said}, stays at its initialization" in text
    assert json.loads((run / "config.json").read_text())["stopping"]["monitor"] == "validation/pck"
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert float(rows[1]["train/loss"]) < float(rows[0]["train/loss"])


@pytest.mark.slow
def test_killed_half_way_it_ends_in_the_same_bits(told, kill, finished, rows_of):
    """After 4 of 8 epochs it is judged and saved."""
    head, run, _ = finished
    if head == "regression":
        pytest.skip("a cascade has all that a regression has")
    again = f"{head}-again"
    line = f"{OPTIONS} {HEADS[head]} --run-dir {again}"
    saved, last = (int(float(row["step"])) for row in rows_of(run))
    kill(line, (saved + last) // 2)
    status, text = told(line)
    assert status == 0 and f"Going on from step {saved} " in text
    facts = [json.loads(told(f"inspect {run} --format json")[1]) for run in (run, again)]
    assert facts[0]["sha256"] == facts[1]["sha256"] and facts[0]["task"] == "pose"
    assert rows_of(Path(again)) == rows_of(run)


def test_evaluate_finds_what_predict_tells(told, finished):
    """Mean error and PCK from the keypoints that `predict` tells, in pixels of the photographs."""
    head, run, _ = finished
    status, text = told(f"evaluate {run} --split test")
    assert status == 0, text
    printed = dict(line.split()[:2] for line in text.splitlines()[1:])
    files = [f"pictures/images/im{i:04d}.png" for i in (19, 20)]
    status, text = told(f"predict {run} {' '.join(files)} --format json --out drawn_{head}")
    assert status == 0, text
    from scipy.io import loadmat

    table = loadmat("pictures/joints.mat")["joints"]
    errors, hits = [], []
    scale = np.array([40 / HEIGHT, (40 * WIDTH // HEIGHT) / WIDTH])  # the long side, rounded down
    for answer, row in zip(json.loads(text), (18, 19), strict=True):
        said = np.array([(p["y"], p["x"]) for p in answer["predictions"]])
        assert [p["joint"] for p in answer["predictions"]] == list(JOINTS)
        assert all(("score" in p) == (head == "heatmap") for p in answer["predictions"])
        x, y, visible = table[..., row].T
        true = np.column_stack([y, x]) - 0.5
        # 36 of 40 canvas pixels, of 44; across 7 of the canvas further.
        inside = ((true * scale - (2, 9) >= 0) & (true * scale - (2, 9) < 36)).all(axis=1)
        seen = (visible == 1) & inside
        error = np.hypot(*((said - true) * scale).T)
        pairs = [(a, b) for a, b in ((8, 3), (9, 2)) if seen[a] and seen[b]]
        torso = max(np.hypot(*((true[a] - true[b]) * scale)) for a, b in pairs)
        errors += error[seen].tolist()
        hits += (error[seen] <= 0.2 * torso).tolist()
        with Image.open(answer["files"]["answer"]) as drawn, Image.open(answer["image"]) as given:
            assert drawn.size == (WIDTH, HEIGHT)
            assert (np.asarray(drawn) != np.asarray(given.convert("RGB"))).any()
    assert float(printed["mean_error"]) == pytest.approx(np.mean(errors), rel=1e-4)
    assert float(printed["pck"]) == pytest.approx(np.mean(hits), abs=1e-6)
    assert int(printed["joints"]) == len(errors)
    results = json.loads((run / "results.json").read_text())
    assert results["splits"]["test"]["pck"] == float(printed["pck"])


def test_what_nothing_was_counted_of_is_left_out_of_the_results(finished):
    """Without a head top there is no length of a head, which PCKh is measured by."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    _, run, _ = finished
    results = json.loads((run / "results.json").read_text(), parse_constant=refuse)
    assert "pckh" not in results["splits"]["test"] and "pck" in results["splits"]["test"]


def test_predict_prints_the_joints_and_where_they_are_drawn(told, finished):
    head, run, _ = finished
    status, text = told(f"predict {run} pictures/images/im0001.png --out shown")
    assert status == 0
    assert re.search(r"  head top +x -?\d+\.\d  y -?\d+\.\d", text)
    assert ("%" in text) == (head == "heatmap")
    assert "answer: shown/im0001_predicted_answer.png" in text


def test_the_report_has_a_row_a_joint_and_answers_beside_the_truth(finished):
    _, run, _ = finished
    document = (run / "report.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())
    assert "Class by class" in text and "reaches pck" in text and "on the test split" in text
    results = json.loads((run / "results.json").read_text())
    assert list(results["per_class"]) == list(JOINTS)
    assert all(example["said"] in text for example in results["examples"])
    assert document.count('alt="truth"') == len(results["examples"]) == 2


def test_what_does_not_fit_is_refused_in_words(told, finished):
    _, run, _ = finished
    for line, said in (
        (f"evaluate {run} --views 10", "ten views are averaged for classification"),
        (f"export {run} out.onnx", "was trained for pose"),
        (f"{OPTIONS} --run.label-smoothing 0.1 --run-dir no", "no labels to smooth"),
        (f"{OPTIONS} --augment.erase 0.5 --run-dir no", "cannot be used with joints"),
        (f"{OPTIONS} --pose.skips pool1 pool2 --run-dir no", "expected the deepest first"),
    ):
        status, text = told(line)
        assert status == 1 and said in text, (line, text)


@pytest.mark.parametrize("shape", [(44, 60), (61, 40), (33, 200)])
def test_points_go_back_where_they_came_from(shape):
    p = Preprocessing(20, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    points = np.random.default_rng(0).uniform(0, 40, (14, 2))
    seen = canvas_points(points, shape, p.canvas) - (20 - 16) // 2
    np.testing.assert_allclose(points_back(seen, shape, p), points)
