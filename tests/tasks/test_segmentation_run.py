"""Segmentation from outside: trained, gone on with, judged, asked about a photograph, reported."""

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

from alexnet_jax.data.decode import canvas as canvas_of
from alexnet_jax.data.decode import canvas_mask
from alexnet_jax.data.preprocess import Preprocessing, center_crop
from alexnet_jax.export.stablehlo import load as exported
from alexnet_jax.models.spec import spec
from alexnet_jax.predict import lay_back
from alexnet_jax.restored import load
from alexnet_jax.tasks.palette import palette
from alexnet_jax.transfer.initial import initial_state

SPEC = spec("small", num_classes=3, width=0.25)
OPTIONS = (
    "train segmentation-folder --data pictures --spec small --model.width 0.25 --model.kernel-init "
    "zeros --input.canvas 40 --input.size 36 --batch-size 4 --learning-rate 0.05 --init given.npz "
    "--run.precision exact --augment.crop random --augment.pad 1 --run.evaluate-every '8 epochs' "
    "--model.normalization none --model.dense 256 256 --segmentation.skips pool2 pool1 "
    "--segmentation.refine None --optimizer.name sgd --optimizer.momentum 0.9 --optimizer.decay 0 "
    "--optimizer.clip 1 --schedule.name constant --schedule.warmup 0"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_classifier):
    """Dark ground with a bright square, void at the top; and a classifier's weights."""
    folder = tmp_path_factory.mktemp("segmentation")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "classes.txt").write_text("ground\nsquare\nnone (ignore)\n")
    for split, count in {"train": 8, "val": 4, "test": 5}.items():
        for i in range(count):
            mask = np.zeros((44, 60), np.uint8)
            y, x = rng.integers((4, 8), (24, 32))
            mask[y : y + 18, x : x + 18] = 1
            image = rng.integers(0, 60, (44, 60, 3), dtype=np.uint8) + 150 * mask[..., None]
            mask[:3] = 2
            for kind, pixels in (("", image), ("annot", mask)):
                path = folder / "pictures" / f"{split}{kind}" / f"{i}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(path)
    write_classifier(folder / "given.npz", SPEC)
    return folder


@pytest.fixture(scope="module")
def finished(told):
    status, text = told(f"{OPTIONS} --epochs 16 --run-dir run")
    assert status == 0, text
    return Path("run"), text


def test_it_begins_with_a_classifiers_layers_and_says_so(finished, rows_of):
    run, text = finished
    assert "the head, of another task or form, stays at its initialization\n" in text
    assert "mean_iou" in text and (run / "init.json").exists()
    assert json.loads((run / "config.json").read_text())["stopping"]["monitor"] == (
        "validation/mean_iou"
    )
    assert len(rows_of(run)) == 2


@pytest.mark.slow
def test_gone_on_with_half_way_it_ends_in_the_same_bits(told, finished, rows_of):
    assert told(f"{OPTIONS} --epochs 8 --run-dir again")[0] == 0
    assert told(f"{OPTIONS} --epochs 16 --run-dir again")[0] == 0
    facts = [json.loads(told(f"inspect {run} --format json")[1]) for run in ("run", "again")]
    assert facts[0]["sha256"] == facts[1]["sha256"] and facts[0]["task"] == "segmentation"
    assert rows_of(Path("again")) == rows_of(Path("run"))


def test_evaluate_finds_what_predict_shows(told, finished):
    """Mean IoU from the indexed PNGs that `predict` writes, over the square that is judged."""
    status, text = told("evaluate run --split test")
    assert status == 0, text
    printed = dict(line.split()[:2] for line in text.splitlines()[1:])
    files = [f"pictures/test/{i}.png" for i in range(5)]
    status, text = told(f"predict run {' '.join(files)} --format json --out drawn")
    assert status == 0, text
    counts = np.zeros((2, 2))
    for answer in json.loads(text):
        with Image.open(answer["files"]["mask"]) as mask:
            assert mask.mode == "P" and mask.size == (60, 44)
            assert mask.getpalette()[:768] == palette().ravel().tolist()
            said = np.asarray(mask)
        shown = said != 255
        inside = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        # 36 of 40 canvas pixels, of 44: from 2.2 to 41.8 down; of 60 across, which are
        # scaled to 54, 7 of those further: from 10 to 50.
        assert [(x[0], x[-1]) for x in inside] == [(2, 41), (10, 49)]
        assert sum(p["share"] for p in answer["predictions"]) == pytest.approx(1)
        with Image.open(answer["files"]["answer"]) as drawn:
            assert drawn.mode == "RGB" and drawn.size == (60, 44)
        with Image.open(Path("pictures/testannot", Path(answer["image"]).name)) as true:
            true = np.asarray(true)
        for t in (0, 1):
            counts[t] += [((true == t) & (said == s)).sum() for s in (0, 1)]
    both = counts.diagonal()
    shares = both / (counts.sum(0) + counts.sum(1) - both)
    assert float(printed["mean_iou"]) == pytest.approx(shares.mean(), abs=0.03)
    assert float(printed["mean_iou"]) > 0.5  # ground alone would give 0.4
    results = json.loads(Path("run/results.json").read_text())
    assert results["splits"]["test"]["mean_iou"] == float(printed["mean_iou"])
    assert results["splits"]["test"]["pixels"] == int(printed["pixels"])
    judged = np.array(results["confusion"]["counts"])
    assert judged.sum() == results["splits"]["test"]["pixels"]


def test_predict_prints_shares_and_paths(told, finished):
    status, text = told("predict run pictures/val/0.png --out shown")
    assert status == 0
    assert re.search(r"\d+\.\d\d%  ground", text) and "mask: shown/0_predicted_mask.png" in text
    status, text = told("predict run pictures/val/0.png pictures/test/0.png --out shown")
    assert status == 1 and "would both be drawn as shown/0_predicted_mask.png" in text


def test_exported_it_answers_as_predict_does(told, finished):
    status, text = told("export run segments.stablehlo")
    assert status == 0, text
    assert told("predict run pictures/test/1.png --out exported")[0] == 0
    with (
        Image.open("pictures/test/1.png") as image,
        Image.open("exported/1_predicted_mask.png") as drawn,
    ):
        canvas = canvas_of(np.asarray(image.convert("RGB")), 40)
        expected = np.asarray(drawn)
    mask = exported("segments.stablehlo")(canvas[None])["mask"][0]
    assert (lay_back(mask, expected.shape, load("run").preprocessing) != expected).mean() < 1e-3
    card = Path("README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: image-segmentation" in card and "`mask`, uint8 [1, 36, 36]" in card
    results = json.loads(Path("run/results.json").read_text())
    assert f" {results['splits']['test']['mean_iou']:.5g} |" in card and "mean_iou" in card


def test_the_report_shows_answers_beside_the_truth(finished):
    run, _ = finished
    document = (run / "report.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", document)).split())
    assert "Class by class" in text and "Best and worst answers" in text
    assert "reaches mean_iou" in text and "on the test split" in text
    results = json.loads((run / "results.json").read_text())
    said = [example["said"] for example in results["examples"]]
    assert len(said) == 5 and all(one in text for one in said)
    assert document.count('alt="truth"') == document.count('alt="answer"') == 5
    square = results["per_class"]["square"]
    assert f"square {square['iou']:.1%} {square['recall']:.1%} {square['pixels']:,}" in text
    assert "numbers: pixels" in text


def test_what_is_for_classifiers_is_refused_in_words(told, finished):
    for line, said in (
        ("evaluate run --views 10", "ten views are averaged for classification"),
        ("convert run out.npz", "was trained for segmentation"),
        ("export run out.onnx", "was trained for segmentation; files of weights and ONNX graphs "
         "are classifiers. export RUN OUT.stablehlo"),
        ("probe run --data pictures", "no label for each image"),
        ("train folder --task segmentation --data pictures --input.crop-files --augment.crop "
         "resized --spec small --run-dir no", "input.crop_files goes with classification"),
        ("train folder --data pictures --run-dir no", "no label for each image"),
        ("train folder --task depth --data pictures --run-dir no", "no task is called 'depth'"),
        (f"{OPTIONS} --segmentation.skips pool1 pool2 --run-dir no", "expected the deepest first"),
    ):  # fmt: skip
        status, text = told(line)
        assert status == 1 and said in text, (line, text)
    assert not Path("no").exists()


def test_a_run_begins_with_another_segmentations_parameters(finished):
    """The head included where its classes are the same, in their order; else all but the head."""
    run = load("run")
    nine = jax.tree.map(lambda x: jnp.full(x.shape, 9, x.dtype), run.state)
    state, said = initial_state("run", nine, classes=run.classes)
    jax.tree.map(np.testing.assert_array_equal, state.params, run.state.params)
    assert said.endswith(str(run.path))
    state, said = initial_state("run", nine, classes=run.classes[::-1])
    kernel = run.state.params["head"]["score_pool1"]["kernel"]
    np.testing.assert_array_equal(state.params["head"]["score_pool1"]["kernel"], kernel[:, ::-1])
    state, said = initial_state("run", nine, classes=("sky", "road"))
    assert np.all(state.params["head"]["score"]["kernel"] == 9) and "sky" not in said
    assert "the head, for the classes ground, square, stays at its initialization" in said
    assert "score" not in said


@pytest.mark.parametrize("shape", [(44, 60), (61, 40), (90, 90), (33, 200)])
def test_a_mask_is_laid_back_where_the_network_looked(shape):
    """A mask that tells each pixel its own row, or column, through canvas and crop and back."""
    p = Preprocessing(20, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    scale = min(shape) / 20  # pixels of the photograph in one of the canvas
    for own in np.indices(shape).astype(np.uint8):
        seen = center_crop(canvas_mask(own, 20)[..., None], 16)[..., 0]
        laid = lay_back(seen, shape, p)
        inside = laid != 255
        error = np.abs(laid.astype(int) - own)[inside]
        assert error.max() <= scale / 2 + 0.5
        assert inside.sum() == pytest.approx((16 * scale) ** 2, rel=0.07)
