"""The command `probe`, on a folder of pictures and a run of a tiny network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.transfer.command import probe
from alexnet_jax.transfer.probe import STRENGTHS

RUN = str(Path(__file__).parent.parent / "train" / "format_1" / "run")
OPTIONS = {"tap": "fc6", "method": "linear", "shots": (2, 0), "draws": 3, "neighbours": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """Dark and bright noise; the validation pictures are some of the training ones."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "bright")):
        for i in range(6):
            pixels = rng.integers(0, 128, (44, 44, 3)) + 127 * label
            for split in ("train", "val")[: 2 if i < 3 else 1]:
                (tmp_path / "pictures" / split / name).mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(tmp_path / "pictures" / split / name / f"{i}.png")
    return str(tmp_path / "pictures")


def test_the_nearest_neighbour_of_a_training_picture_is_itself(pictures, tmp_path):
    said = probe(RUN, pictures, **OPTIONS | {"method": "knn"})
    lines = said.splitlines()
    assert "frozen up to fc6, 8 features" in lines[0]
    assert "6 images of validation (no test split)" in lines[1]
    assert lines[-1].split() == ["all", "1", "100.0%"]
    few = lines[-2].split()
    assert few[:2] == ["2", "3"] and few[4] == "to"  # two of each class, three draws, the range

    kept = list((tmp_path / "cache").glob("alexnet_jax/features/*.npz"))
    assert len(kept) == 2  # of train and validation
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert probe(RUN, pictures, **OPTIONS | {"method": "knn"}) == said
    assert {path: path.stat().st_mtime_ns for path in kept} == before  # not computed again


def test_the_strength_is_chosen_or_given(pictures):
    """A penalty without end leaves the means of the labels, by which all are of one class."""
    chosen = probe(RUN, pictures, **OPTIONS).splitlines()
    assert chosen[2].split()[-1] == "strength"
    assert float(chosen[-1].split()[-1]) in STRENGTHS
    weak = probe(RUN, pictures, **OPTIONS, strength=1e-6).splitlines()[-1].split()
    endless = probe(RUN, pictures, **OPTIONS, strength=1e30).splitlines()[-1].split()
    assert weak[2:] == ["100.0%", "1e-06"]
    assert endless[2:] == ["50.0%", "1e+30"]


def test_more_images_of_a_class_than_there_are_are_told(pictures):
    assert probe(RUN, pictures, **OPTIONS | {"shots": (6,)}).splitlines()[-1].startswith("6 ")
    said = probe(RUN, pictures, **OPTIONS | {"shots": (2, 7)})
    assert said.splitlines()[-1].startswith("note: a class has 6 images")
    with pytest.raises(ValueError, match=r"shots \(\); expected"):
        probe(RUN, pictures, **OPTIONS | {"shots": ()})


def test_mirror_images_are_learned_from_too(pictures, tmp_path):
    """Of pictures that are their own mirror images, no answer changes. Every row is there twice,
    against which half the strength is as strong."""
    for path in Path(pictures).rglob("*.png"):
        half = np.asarray(Image.open(path))[:, :22]
        Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1)).save(path)
    plain = probe(RUN, pictures, **OPTIONS)
    mirrored = probe(RUN, pictures, **OPTIONS, mirrored=True)
    assert "8 features of each picture and its mirror image" in mirrored
    answers = [[line[:50] for line in said.splitlines()[1:]] for said in (mirrored, plain)]
    assert answers[0] == answers[1] and "100.0%" in answers[0][-1]
    assert len(list((tmp_path / "cache").glob("alexnet_jax/features/*.npz"))) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "svm"}, "'svm'; expected linear or knn"),
        ({"tap": "conv9"}, "no tap 'conv9'; there are conv1"),
        ({"draws": 0}, "draws is 0, neighbours 1, shots"),
        ({"strength": 0.0}, "strength is 0.0 and method linear; expected more than 0"),
        ({"strength": 1.0, "method": "knn"}, "expected more than 0, and method linear"),
    ],
)
def test_bad_options_are_told(pictures, change, said):
    with pytest.raises(ValueError, match=said):
        probe(RUN, pictures, **OPTIONS | change)
