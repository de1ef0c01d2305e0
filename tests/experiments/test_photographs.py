"""The experiment on photographs: what its rows say, what is refused, and tiny folders."""

from __future__ import annotations

import json

import jax
import numpy as np
import photographs
import pytest
from PIL import Image
from scipy.io import savemat

from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.parts import make_parts
from alexnet_jax.transfer.initial import Given
from alexnet_jax.weights import Weights, write

SPEC = spec("small", num_classes=3, width=0.1)
PREPARED = Preprocessing(64, 64, (120.0, 120.0, 120.0), (60.0, 60.0, 60.0)).to_json()


@pytest.fixture
def options(tmp_path):
    """Options with a source and a folder of joints that are there."""
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(AlexNet(SPEC).init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), shapes)
    write(Weights(SPEC, params, PREPARED, classes=tuple("abc")), tmp_path / "given.npz")
    rng = np.random.default_rng(0)
    (tmp_path / "people" / "images").mkdir(parents=True)
    table = np.zeros((14, 3, 20))
    for i in range(20):
        pixels = rng.integers(0, 255, (44, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "people" / "images" / f"im{i + 1:04d}.png")
        table[:, :2, i] = rng.uniform((15, 5), (45, 40), (14, 2))
        table[:, 2, i] = 1
    savemat(tmp_path / "people" / "joints.mat", {"joints": table})
    return {
        "source": str(tmp_path / "given.npz"),
        "pose": str(tmp_path / "people"),
        "out": str(tmp_path / "out"),
    }


def test_files_that_are_not_there_and_no_data_are_refused(options, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source 'none\.npz' does not exist; give a file"):
        photographs.Options(**options | {"source": "none.npz"})
    with pytest.raises(FileNotFoundError, match="pose 'nowhere' is no folder; give yours"):
        photographs.Options(**options | {"pose": "nowhere"})
    with pytest.raises(ValueError, match="no data is given: --detection, --segmentation, --pose"):
        photographs.Options(**options | {"pose": ""})
    with pytest.raises(ValueError, match="more than none"):
        photographs.Options(**options, epochs=(1, 0, 1))
    assert photographs.Options(**options).tasks == ("pose",)


def test_the_answer_follows_from_the_rows(options, tmp_path):
    """Two seeds each: pose better in both, segmentation in one of them."""
    scores = {
        ("segmentation", "most frequent class"): (0.02,),
        ("segmentation", "most frequent class of each place"): (0.15,),
        ("segmentation", "from scratch"): (0.30, 0.34),
        ("segmentation", "pre-trained"): (0.36, 0.33),
        ("pose", "mean pose"): (0.04,),
        ("pose", "from scratch"): (0.10, 0.12),
        ("pose", "pre-trained"): (0.20, 0.26),
    }
    rows = [
        {"task": task, "start": start, "seed": seed, "score": score}
        for (task, start), each in scores.items()
        for seed, score in enumerate(each)
    ]
    asked = photographs.Options(**options | {"segmentation": str(tmp_path)})
    told = photographs.answer(asked, rows)
    assert told == (
        f"With {options['source']}, against a start from scratch: in segmentation mean IoU 34.5 % "
        "(33.0 to 36.0), no difference shown (+2.5 points, -1.0 to 6.0, n = 2); in pose PCK@0.2 "
        "23.0 % (20.0 to 26.0), 12.0 points more (10.0 to 14.0, n = 2). From scratch, beside the "
        "best answer that does not look: in segmentation 32.0 % (30.0 to 34.0) against 15.0 % by "
        "the most frequent class of each place; in pose 11.0 % (10.0 to 12.0) against 4.0 % by the "
        "mean pose."
    )


def test_blind_answers_are_scored_as_networks_are(options, tmp_path):
    """Masks of 36 x 36, in train class 1 in the left third; mean IoU by hand."""
    root = tmp_path / "streets"
    for split, left in (("train", (12, 12, 12)), ("val", (12,)), ("test", (18, 12))):
        for i, width in enumerate(left):
            mask = np.zeros((36, 36), np.uint8)
            mask[:, :width] = 1
            for folder, pixels in (
                (split, np.zeros((36, 36, 3), np.uint8)),
                (f"{split}annot", mask),
            ):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / folder / f"{i}.png")
    (root / "classes.txt").write_text("road\nwall\n")
    asked = photographs.Options(**options | {"segmentation": str(root)}, size=(36, 36, 36))
    source = Given(AlexNet(SPEC), {}, {}, where="", preprocessing=PREPARED, about={})
    parts = make_parts(photographs.configured(asked, source, "segmentation", "from scratch"))
    # of 72 columns 42 are road; told road everywhere, or wall in 12 of each 36
    common = photographs.judged_blind(parts, photographs.CLASS, "test")
    assert common["mean_iou"] == pytest.approx((42 / 72 + 0) / 2)
    there = photographs.judged_blind(parts, photographs.CLASS_THERE, "test")
    assert there["mean_iou"] == pytest.approx((42 / 48 + 24 / 30) / 2)
    assert there["pixel_accuracy"] == pytest.approx(66 / 72)


@pytest.mark.slow
def test_each_start_is_measured_and_told(options, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = photographs.Options(**options, seeds=2, epochs=(2, 2, 2), size=(36, 36, 36))
    photographs.main(asked)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    starts = [row["start"] for row in rows]
    assert starts == ["mean pose", *["from scratch", "pre-trained"] * 2]
    assert all(row["judged_on"] == "test" and 0 <= row["score"] <= 1 for row in rows)
    assert rows[1]["images"] == {"train": 16, "validation": 2, "test": 2}
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| pose, PCK@0.2 | pre-trained | 2 |" in page
