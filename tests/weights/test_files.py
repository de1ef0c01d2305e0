"""Files of weights: ours there and back, and every file that is not what it should be, by name."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.weights import Weights, containers, read, write

ROOT = Path(__file__).parents[2]
PREPROCESSING = {
    "canvas": 72,
    "size": 68,
    "mean": [1.0, 2.0, 3.0],
    "std": [4.0, 5.0, 6.0],
    "channels": "rgb",
}
NARROW = spec("one_weird_trick", width=1 / 16, dense=(64, 48), num_classes=3)


def torchvision_arrays() -> dict[str, np.ndarray]:
    """NARROW in torchvision's names; widths are rounded to a multiple of 8, and at least 8."""
    rng = np.random.default_rng(0)
    shapes = {
        "features.0": (8, 3, 11, 11), "features.3": (16, 8, 5, 5), "features.6": (24, 16, 3, 3),
        "features.8": (16, 24, 3, 3), "features.10": (16, 16, 3, 3),
        "classifier.1": (8, 16 * 6 * 6), "classifier.4": (8, 8), "classifier.6": (3, 8),
    }  # fmt: skip
    arrays = {}
    for layer, shape in shapes.items():
        arrays[f"{layer}.weight"] = rng.standard_normal(shape, np.float32)
        arrays[f"{layer}.bias"] = rng.standard_normal(shape[:1], np.float32)
    return arrays


def conv_arrays() -> dict[str, np.ndarray]:
    """one_weird_trick's convolutions alone, in our layout."""
    rng = np.random.default_rng(1)
    shapes = {
        "conv1": (11, 11, 3, 64), "conv2": (5, 5, 64, 192), "conv3": (3, 3, 192, 384),
        "conv4": (3, 3, 384, 256), "conv5": (3, 3, 256, 256),
    }  # fmt: skip
    arrays = {}
    for layer, shape in shapes.items():
        arrays[f"{layer}/kernel"] = rng.standard_normal(shape, np.float32)
        arrays[f"{layer}/bias"] = rng.standard_normal(shape[-1:], np.float32)
    return arrays


@pytest.fixture(scope="module")
def normed() -> Weights:
    """A network with batch norm and its statistics, all of it random."""
    of = spec("batchnorm", num_classes=3, width=1 / 16, image_size=68)
    shapes = jax.eval_shape(
        AlexNet(of).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 68, 68, 3), np.float32)
    )
    rng = np.random.default_rng(2)
    full = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    return Weights(
        of, full["params"], PREPROCESSING, full["batch_stats"], ("a", "b", "ü"), ("a note",)
    )


# ---- ours ----------------------------------------------------------------------------------------


def test_npz_gives_back_all_of_it_to_the_bit(normed, tmp_path):
    write(normed, tmp_path / "ours.npz")
    back = read(tmp_path / "ours.npz")
    for name in ("spec", "preprocessing", "classes", "notes", "absent"):
        assert getattr(back, name) == getattr(normed, name)
    for ours, theirs in ((back.params, normed.params), (back.batch_stats, normed.batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as file:
        kernel = file["backbone/conv1/kernel"]
        np.testing.assert_array_equal(kernel, normed.params["backbone"]["conv1"]["kernel"])
        assert json.loads(str(file["alexnet_jax"]))["preprocessing"] == PREPROCESSING


def test_convolutions_alone_are_a_backbone_without_the_rest(tmp_path):
    arrays = conv_arrays()
    extra = {"lpips_lin0/kernel": np.ones((1, 1, 64, 1), np.float32)}
    np.savez(tmp_path / "convs.npz", **arrays, **extra)
    weights = read(tmp_path / "convs.npz")
    assert weights.spec == spec("one_weird_trick")
    assert weights.absent == ("fc6", "fc7", "head")
    assert set(weights.params) == {"backbone"}
    assert set(weights.params["backbone"]) == {f"conv{i}" for i in range(1, 6)}
    for name, array in arrays.items():
        layer, kind = name.split("/")
        np.testing.assert_array_equal(weights.params["backbone"][layer][kind], array)
    assert any("lpips_lin0/kernel" in note for note in weights.notes)
    assert any("torchvision's is assumed" in note for note in weights.notes)
    write(weights, tmp_path / "again.npz")
    again = read(tmp_path / "again.npz")
    assert (again.absent, again.notes) == (weights.absent, weights.notes)
    with pytest.raises(ValueError, match=r"lack fc6, fc7, head; write an \.npz"):
        write(weights, tmp_path / "out.safetensors")


def test_the_published_convolutions_are_read():
    path = ROOT.parent / "shared" / "data" / "weights" / "alexnet_torchvision_conv_f32.npz"
    if not path.exists():
        pytest.skip("the file of published convolutions is not here")
    weights = read(path)
    assert weights.spec.name == "one_weird_trick"
    assert weights.absent == ("fc6", "fc7", "head")
    sizes = [x.size for x in jax.tree.leaves(weights.params)]
    assert sum(sizes) == 2_469_696  # torchvision's convolutions, as published


def test_shapes_that_several_specs_have_are_asked_about(tmp_path):
    arrays = conv_arrays()
    rng = np.random.default_rng(3)
    for layer, shape in {
        "conv1": (11, 11, 3, 96), "conv2": (5, 5, 48, 256), "conv3": (3, 3, 256, 384),
        "conv4": (3, 3, 192, 384), "conv5": (3, 3, 192, 256),
    }.items():  # fmt: skip
        arrays[f"{layer}/kernel"] = rng.standard_normal(shape, np.float32)
        arrays[f"{layer}/bias"] = rng.standard_normal(shape[-1:], np.float32)
    np.savez(tmp_path / "towers.npz", **arrays)
    with pytest.raises(ValueError, match=r"original_2012, bvlc_alexnet, caffenet all fit.*--spec"):
        read(tmp_path / "towers.npz")
    weights = read(tmp_path / "towers.npz", "caffenet")
    assert weights.spec == spec("caffenet")
    assert weights.preprocessing is None
    assert any("preprocessing is unknown" in note for note in weights.notes)
    with pytest.raises(ValueError, match=r"conv1/kernel has shape \(11, 11, 3, 96\), expected"):
        read(tmp_path / "towers.npz", "one_weird_trick")


def test_a_file_that_says_what_it_is_is_believed(normed, tmp_path):
    write(normed, tmp_path / "ours.npz")
    with pytest.raises(ValueError, match=r"ours\.npz: it holds 'batchnorm', not 'small'"):
        read(tmp_path / "ours.npz", "small")
    with pytest.raises(ValueError, match="did you mean 'small'"):
        read(tmp_path / "ours.npz", "smal")


def test_what_is_missing_or_wrong_in_an_npz_is_listed(normed, tmp_path):
    write(normed, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as file:
        arrays = dict(file)
    del arrays["head/bias"], arrays["batch_stats/backbone/norm1/mean"]
    arrays["backbone/conv9/kernel"] = np.zeros((2, 3), np.float32)
    arrays["backbone/fc7/kernel"] = np.zeros((2, 3), np.float32)
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(ValueError) as refusal:
        read(tmp_path / "changed.npz")
    for line in (
        "missing head/bias (3,)",
        "missing batch_stats/backbone/norm1/mean (8,)",
        "unexpected backbone/conv9/kernel (2, 3)",
        "backbone/fc7/kernel has shape (2, 3), expected (256, 256)",
    ):
        assert line in str(refusal.value)


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "not one of ours"),
        ('{"format": 1}', "not one of ours"),
        ('{"format": 2}', "format 2 is newer than 1: update"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, description, said):
    np.savez(tmp_path / "x.npz", **conv_arrays(), alexnet_jax=np.array(description))
    with pytest.raises(ValueError, match=rf"x\.npz: .*{said}"):
        read(tmp_path / "x.npz")


# ---- what is refused -----------------------------------------------------------------------------


class Evil:
    """Unpickled by an ordinary pickle, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("kind", ["zip", "old", "bare", "renamed", "npz"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, kind):
    marker, path = tmp_path / "it ran", tmp_path / f"evil.{'npz' if kind == 'npz' else 'pth'}"
    state = {"features.0.weight": torch.zeros(1), "x": Evil(marker)}
    if kind == "npz":
        np.savez(path, **{"conv1/kernel": np.array(Evil(marker), object)}, allow_pickle=True)
    elif kind in ("bare", "renamed"):
        path = path.with_suffix(".pth" if kind == "bare" else ".safetensors")
        path.write_bytes(pickle.dumps(Evil(marker)))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=rf"{path.name}: refused.*could run code"):
        read(path)
    assert not marker.exists()
    if kind == "zip":  # the marker tells the truth
        torch.load(path, weights_only=False)
        assert marker.exists()


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "zip.pth", "old.pth"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.4, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, name, part):
    path, arrays = tmp_path / name, torchvision_arrays()
    if name == "x.npz":
        np.savez(path, **conv_arrays())
    elif name == "x.safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        state = {n: torch.tensor(a) for n, a in arrays.items()}
        torch.save(state, path, _use_new_zipfile_serialization=name.startswith("zip"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=rf"{name}: (cut short|refused.*damaged|begins with b'')"):
        read(path, NARROW)


def test_a_flipped_bit_in_an_npz_is_found(tmp_path):
    np.savez(tmp_path / "x.npz", **conv_arrays())
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: damaged"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "name", ["x.npz", "x.safetensors", "x.pth", "x.pt", "x.caffemodel", "x.h5", "x"]
)
def test_a_page_in_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / name).write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    with pytest.raises(ValueError, match=f"{name}: "):
        read(tmp_path / name)


def test_other_peoples_arrays_and_objects_are_told(tmp_path):
    np.savez(tmp_path / "x.npz", weight=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"are called weight; expected torchvision's names"):
        read(tmp_path / "x.npz")
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"holds epoch, state_dict; expected a state dict alone"):
        read(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "nowhere.npz")


def test_without_torch_the_line_that_is_printed_makes_a_file_that_is_read(tmp_path, monkeypatch):
    arrays = torchvision_arrays()
    torch.save({n: torch.tensor(a) for n, a in arrays.items()}, tmp_path / "alexnet.pth")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)
        with pytest.raises(ValueError, match="needs PyTorch, which is not installed") as refusal:
            read(tmp_path / "alexnet.pth", NARROW)
    command = shlex.split(str(refusal.value).splitlines()[-1])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=120)
    params = read(tmp_path / "alexnet.safetensors", NARROW).params
    np.testing.assert_array_equal(params["head"]["kernel"], arrays["classifier.6.weight"].T)


# ---- writing -------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_file_that_was_there(normed, tmp_path, monkeypatch):
    path = tmp_path / "ours.npz"
    write(normed, path)
    before = path.read_bytes()

    def full_disk(path, arrays, about):
        path.write_bytes(before[:100])
        raise OSError("no space left")

    monkeypatch.setattr(containers, "write_npz", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write(normed, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_told(normed, tmp_path):
    with pytest.raises(ValueError, match=r"expected an ending of \.npz or \.safetensors"):
        write(normed, tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="make the folder first"):
        write(normed, tmp_path / "none" / "x.npz")
