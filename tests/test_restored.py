"""A run read back: which of its checkpoints, and looking at whatever pictures people have."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.decode import BadImage
from alexnet_jax.predict import predict_files
from alexnet_jax.restored import find_checkpoint, load
from alexnet_jax.train.checkpoint import Checkpoints, DamagedCheckpoint

RUN = Path(__file__).parent / "train" / "format_1" / "run"


@pytest.fixture(scope="module")
def restored():
    return load(RUN)


def test_a_folder_without_checkpoints_is_told(tmp_path):
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    for path, said in (
        (tmp_path / "begun", "holds no checkpoints"),
        (tmp_path / "nowhere", "does not exist"),
        (RUN / "checkpoints" / "3", "does not exist"),
    ):
        with pytest.raises(FileNotFoundError, match=said) as told:
            load(path)
        assert str(path) in str(told.value)
        assert "runs/street/checkpoints/1000" in str(told.value)
    with pytest.raises(ValueError, match="expected best or last"):
        find_checkpoint(RUN, "first")


def test_the_best_and_the_last_are_found(restored, tmp_path, caplog):
    shutil.copytree(RUN, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        later = restored.state.replace(step=jnp.int32(5), opt_state=())
        meta = {k: v for k, v in restored.meta.items() if k not in ("crc32", "format")}
        checkpoints.save(later, meta, best_step=2)
    assert find_checkpoint(tmp_path / "run") == (folder, 2)
    assert find_checkpoint(folder) == (folder, 2)
    assert find_checkpoint(tmp_path / "run", "last") == (folder, 5)
    assert find_checkpoint(folder / "5", "best") == (folder, 5)
    assert int(load(tmp_path / "run").state.step) == 2
    # A damaged newest one hides nothing: the one before knows a best one, too.
    shutil.rmtree(folder / "5" / "meta")
    assert find_checkpoint(tmp_path / "run") == (folder, 2)
    assert str(folder / "5") in caplog.text
    shutil.rmtree(folder / "2" / "meta")
    with pytest.raises(DamagedCheckpoint, match=r"none of the checkpoints .* \[2, 5\]"):
        find_checkpoint(tmp_path / "run")


# ---- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """The same smooth picture in every shape that files come in."""
    y, x = np.mgrid[0:60, 0:60]
    grey = Image.fromarray((60 + 2 * x + y).astype(np.uint8))
    rgb = grey.convert("RGB")
    alpha = rgb.copy()
    alpha.putalpha(255)
    turned = rgb.transpose(Image.Transpose.ROTATE_90)  # and a tag that says how to turn it back
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / "rgb.png")
    grey.save(tmp_path / "grey.png")
    alpha.save(tmp_path / "rgba.png")
    grey.save(tmp_path / "palette.gif")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    turned.save(tmp_path / "turned.jpg", quality=98, exif=exif)
    return tmp_path


def test_odd_pictures_are_seen_as_a_viewer_shows_them(restored, pictures):
    names = ("rgb.png", "grey.png", "rgba.png", "palette.gif", "cmyk.jpg", "turned.jpg")
    answers = predict_files(restored, [str(pictures / name) for name in names])
    shares = {
        name: {p["class"]: p["probability"] for p in answer["predictions"]}
        for name, answer in zip(names, answers, strict=True)
    }
    for name, share in shares.items():
        assert sum(share.values()) == pytest.approx(1, abs=1e-6)
        tolerance = 1e-6 if not name.endswith("jpg") else 0.01
        assert share == pytest.approx(shares["rgb.png"], abs=tolerance), name
    best = [p["probability"] for p in answers[0]["predictions"]]
    assert best == sorted(best, reverse=True)


def test_predictions_do_not_depend_on_the_company(restored, pictures):
    """33 pictures: more than one batch, the last one filled up."""
    files = [str(pictures / n) for n in ("rgb.png", "cmyk.jpg", "turned.jpg")] * 11
    many = predict_files(restored, files, top=1)
    assert [a["image"] for a in many] == files
    assert many[:3] == many[30:]
    assert all(len(a["predictions"]) == 1 for a in many)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_picture_is_named(restored, tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=r"broken\.png"):
        predict_files(restored, [str(path)])
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        predict_files(restored, [str(tmp_path / "none.png")])
