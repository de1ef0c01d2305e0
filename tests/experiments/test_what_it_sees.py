"""What a network sees: shares inside a box by hand, the page's sentences, and a tiny run of all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import seeing
import showing
import what_it_sees
from PIL import Image
from pointing import areas, inside
from what_it_sees import Options, answer, beside

from alexnet_jax import spec
from alexnet_jax.data.street import source as street
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.weights import Weights, write

BOXES = np.array([[2.0, 4.0, 6.0, 8.0]])


def test_a_map_of_one_value_lies_in_a_box_as_much_as_the_box_is_of_the_picture():
    for cell in (1, 2, 4):
        heat = np.full((1, 8 // cell, 8 // cell), 0.3)
        assert inside(heat, BOXES, cell, 8) == pytest.approx(4 * 4 / 64)
    assert areas(BOXES, 8) == pytest.approx(16 / 64)


def test_cells_count_by_how_much_of_them_lies_inside_and_negative_ones_not_at_all():
    heat = np.zeros((3, 2, 2))  # cells of 4 pixels; the box takes half of both cells at the right
    heat[0] = [[0, 1], [0, 0]]
    heat[1] = [[2, 1], [-5, 3]]
    boxes = np.repeat(BOXES, 3, axis=0)
    assert inside(heat, boxes, 4, 8)[:2] == pytest.approx([0.5, (0.5 + 1.5) / 6])
    assert math.isnan(inside(heat, boxes, 4, 8)[2])
    # A last cell that reaches beyond the picture is as large as what lies in it.
    edge = np.zeros((1, 3, 3))
    edge[0, 2, 2] = 1.0
    assert inside(edge, np.array([[6.0, 6.0, 7.0, 7.0]]), 3, 7) == pytest.approx(1.0)


def rows(gains: list[float], slower: bool = True) -> list[dict]:
    """Two seeds at epochs 0, 1, 3; at the end so much more inside the own box than in another's."""
    made = []
    for seed, gain in enumerate(gains):
        for epoch in (0, 1, 3):
            own = 0.4 + gain if epoch == 3 else 0.4
            made.append(
                {
                    "seed": seed, "epoch": epoch, "accuracy": 0.5 + epoch / 10, "box": 0.25,
                    "moved": 0.1 * epoch, "told": 7,
                    "pace": {0: 0.0, 1: 0.1, 3: 0.02 if slower else 0.3}[epoch],
                    "saliency_inside": own, "saliency_elsewhere": 0.4,
                    "occlusion_inside": None if epoch == 0 else own, "occlusion_elsewhere": 0.4,
                }
            )  # fmt: skip
    return made


def test_the_answer_is_what_the_rows_say():
    options = Options(epochs=(0, 1, 3))
    told = answer(options, rows([0.2, 0.1]))
    assert told.startswith("After 3 epochs, at 80.0 % (80.0 to 80.0) right answers: ")
    assert "55.0 % (50.0 to 60.0) of the saliency lies inside the object's box" in told
    assert "that is 15.0 points more (10.0 to 20.0, n = 2), before training no difference" in told
    assert "occlusion takes away lies inside the object's box; against another picture's" in told
    assert "before training not known" in told  # no patch took anything away
    assert "The box is 25.0 % of the picture" in told
    assert "by 10.0 % (10.0 to 10.0) of their first norm an epoch until epoch 1" in told
    assert "slower in every seed; they end 30.0 %" in told
    against = answer(options, rows([0.2, -0.1], slower=False))
    assert "no difference shown (+5.0 points, -10.0 to 20.0, n = 2), before" in against
    assert "slower in 0 of 2 seeds" in against
    assert beside(np.array([0.1, 0.2]), np.array([0.3, 0.3])).startswith("15.0 points fewer")


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="give --run"):
        Options(image=("photo.jpg",))
    for epochs in ((0, 4), (1, 2, 3), (0, 2, 2)):
        with pytest.raises(ValueError, match="expected 0 and at least two more, rising"):
            Options(epochs=epochs)
    with pytest.raises(ValueError, match="at least 1"):
        Options(seeds=0)


def weights_file(folder, he_kernels, **changes):
    """A file of weights for 32 px, and a photograph that is wider than high."""
    import jax

    made = spec("small", num_classes=3, width=0.1, kernel_init="zeros")
    shapes = jax.eval_shape(
        lambda: AlexNet(made).init(jax.random.key(0), np.zeros((1, 32, 32, 3)))["params"]
    )
    params = he_kernels(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes))
    how = {"canvas": 32, "size": 32, "mean": [120.0] * 3, "std": [60.0] * 3, "channels": "rgb"}
    names = ("car", "bus", "tram")
    write(Weights(made, params, how, classes=names, **changes), str(folder / "net.npz"))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return str(folder / "net.npz"), str(folder / "photo.png")


@pytest.mark.slow
def test_a_file_of_weights_and_a_photograph_become_a_page_of_pictures(tmp_path, he_kernels):
    file, photo = weights_file(tmp_path, he_kernels)
    out = tmp_path / "out"
    what_it_sees.main(Options(run=file, image=(photo,), out=str(out), stride=8))
    page = (out / "README.md").read_text()
    assert "| photo.png |" in page and page.count(" %") == 3
    for name in ("kernels.png", "maps.png", "where.jpg"):
        assert f"({name})" in page
        with Image.open(out / name) as image:
            assert min(image.size) > 40
    with pytest.raises(ValueError, match="give --image"):
        what_it_sees.main(Options(run=file, out=str(out)))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such picture file"):
        what_it_sees.main(Options(run=file, image=("none.png",), out=str(out)))


def test_taps_come_in_the_networks_order(tmp_path, he_kernels):
    file, _ = weights_file(tmp_path, he_kernels)
    _, net, variables, p, _ = showing.network(file)
    picture = np.zeros((32, 32, 3), np.uint8)
    found = seeing.taps(variables, picture, net=net, preprocessing=p)
    assert tuple(found) == net.spec.tap_names()
    assert found["conv1"].shape == (16, 16, 8) and found["logits"].shape == (3,)


@pytest.mark.slow
def test_a_small_run_of_it_all(tmp_path, monkeypatch):
    """A narrow net on few pictures; a second call measures nothing again."""
    few = {"train": 40, "validation": 8, "test": 8}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "alexnet_jax.assemble.open_source",
        lambda data, *, canvas, **_: street("a", size=canvas, counts=few),
    )
    options = Options(
        seeds=1, epochs=(0, 1, 2), pictures=4, width=0.1, patch=32, stride=32,
        runs=str(tmp_path / "runs"), out=str(tmp_path / "out"),
    )  # fmt: skip
    what_it_sees.main(options)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(0, 0), (0, 1), (0, 2)]
    for row in rows:
        assert (row["moved"] > 0) == (row["epoch"] > 0)
        assert 0 < row["saliency_inside"] < 1
        assert row["accuracy"] * 8 == pytest.approx(round(row["accuracy"] * 8))
    page = (tmp_path / "out" / "README.md").read_text()
    assert answer(options, rows) in page
    assert all(
        (tmp_path / "out" / name).exists() for name in ("kernels.png", "maps.png", "where.jpg")
    )
    what_it_sees.main(options)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == rows
