"""Caffe's networks out of bytes that are written here, against PyTorch's grouped convolutions."""

from __future__ import annotations

import struct

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_jax.data.preprocess import Preprocessing, normalize
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.weights import caffe, read, write

HIDDEN, CLASSES = (40, 24), 6  # Caffe's two have 4096 neurons
SHAPES = {
    "conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3), "conv5": (256, 192, 3, 3), "fc6": (40, 9216), "fc7": (24, 40),
    "fc8": (6, 24),
}  # fmt: skip

# ---- protobuf, the other way round ---------------------------------------------------------------


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def new_blob(array: np.ndarray) -> bytes:
    """shape with packed dims, then packed floats, then the gradient that nobody needs."""
    dims = b"".join(varint(n) for n in array.shape)
    return (
        message(7, message(1, dims))
        + message(5, array.astype("<f4").tobytes())
        + message(6, b"\0\0\0\0" * 3)
    )


def unpacked_blob(array: np.ndarray) -> bytes:
    """The same with every dim and every float on its own."""
    dims = b"".join(number(1, n) for n in array.shape)
    key = varint(5 << 3 | 5)
    return b"".join(key + struct.pack("<f", x) for x in array.ravel()) + message(7, dims)


def double_blob(array: np.ndarray) -> bytes:
    dims = b"".join(number(1, n) for n in array.shape)
    return message(7, dims) + message(8, array.astype("<f8").tobytes())


def old_blob(array: np.ndarray) -> bytes:
    """num, channels, height, width: ones in front where there are fewer axes."""
    four = (1,) * (4 - array.ndim) + array.shape
    dims = b"".join(number(i, n) for i, n in enumerate(four, 1))
    return dims + message(5, array.astype("<f4").tobytes())


def new_net(blobs: dict[str, list[bytes]], name: str = "AlexNet") -> bytes:
    """NetParameter with `layer`, among others a data layer without blobs and an unknown field."""
    layers = [message(1, b"data") + message(2, b"Data")]
    for layer, parts in blobs.items():
        kind = b"Convolution" if layer.startswith("conv") else b"InnerProduct"
        content = message(1, layer.encode()) + message(2, kind) + number(10, 1)
        layers.append(content + b"".join(message(7, part) for part in parts))
    return message(1, name.encode()) + number(5, 1) + b"".join(message(100, x) for x in layers)


def old_net(blobs: dict[str, list[bytes]], name: str = "AlexNet") -> bytes:
    """NetParameter with V1 `layers`: name = 4, blobs = 6, and floats of fixed width (blobs_lr)."""
    layers = []
    for layer, parts in blobs.items():
        rates = varint(7 << 3 | 5) + struct.pack("<f", 2.0)
        content = number(5, 4) + message(4, layer.encode()) + rates
        layers.append(content + b"".join(message(6, part) for part in parts))
    return message(1, name.encode()) + b"".join(message(2, x) for x in layers)


# ---- the network ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)

    def draw(shape):
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        return rng.standard_normal(shape, np.float32) * scale, rng.random(shape[0], np.float32)

    return {layer: draw(shape) for layer, shape in SHAPES.items()}


def reference(arrays: dict, pictures: np.ndarray, pool_first: bool) -> dict[str, np.ndarray]:
    """{tap: value} of deploy.prototxt's layers on RGB pictures of 0..255, [B, H, W, 3]."""
    bgr = pictures[..., ::-1].astype(np.float32) - np.array([104.007, 116.669, 122.679], np.float32)
    x = torch.tensor(bgr).permute(0, 3, 1, 2)
    w = {layer: [torch.tensor(a) for a in pair] for layer, pair in arrays.items()}
    taps = {}

    def norm(x):
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    x = torch.relu(F.conv2d(x, *w["conv1"], stride=4))
    x = taps["pool1"] = norm(pool(x)) if pool_first else pool(norm(x))
    x = torch.relu(F.conv2d(x, *w["conv2"], padding=2, groups=2))
    x = taps["pool2"] = norm(pool(x)) if pool_first else pool(norm(x))
    x = taps["conv3"] = torch.relu(F.conv2d(x, *w["conv3"], padding=1))
    x = taps["conv4"] = torch.relu(F.conv2d(x, *w["conv4"], padding=1, groups=2))
    x = taps["conv5"] = torch.relu(F.conv2d(x, *w["conv5"], padding=1, groups=2))
    x = taps["pool5"] = pool(x)
    x = taps["fc6"] = torch.relu(F.linear(x.flatten(1), *w["fc6"]))
    x = taps["fc7"] = torch.relu(F.linear(x, *w["fc7"]))
    taps["logits"] = F.linear(x, *w["fc8"])
    return {tap: value.movedim(1, -1).numpy() for tap, value in taps.items()}


def written(path, arrays, net=new_net, blob=new_blob, **keywords):
    blobs = {layer: [blob(a) for a in pair] for layer, pair in arrays.items()}
    path.write_bytes(net(blobs, **keywords))
    return path


@pytest.mark.parametrize("name", ["bvlc_alexnet", "caffenet"])
def test_every_tap_has_the_values_of_caffes_layers(arrays, tmp_path, name):
    path = written(tmp_path / "net.caffemodel", arrays)
    weights = read(path, spec(name, dense=HIDDEN))
    assert weights.spec == spec(name, dense=HIDDEN, num_classes=CLASSES)
    pictures = np.random.default_rng(1).integers(0, 256, (2, 227, 227, 3), np.uint8)
    images = normalize(pictures, Preprocessing.from_json(weights.preprocessing))
    net = AlexNet(weights.spec, exact=True)
    forward = jax.jit(lambda params, x: net.apply({"params": params}, x, taps=True))
    _, taps = forward(weights.params, images)
    for tap, expected in reference(arrays, pictures, pool_first=name == "caffenet").items():
        ours = np.asarray(taps[tap])
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max(), tap
    assert "reads red, green, blue" in weights.notes[0]


def test_all_forms_of_the_file_give_the_same(arrays, tmp_path):
    """Old and new layers, blobs and numbers; and the arrays as pycaffe users keep them."""
    given = spec("bvlc_alexnet", dense=HIDDEN)
    expected = read(written(tmp_path / "new.caffemodel", arrays), given)
    blobs = {layer: [old_blob(a) for a in pair] for layer, pair in arrays.items()}
    blobs["fc7"] = [unpacked_blob(a) for a in arrays["fc7"]]
    blobs["fc8"] = [double_blob(a) for a in arrays["fc8"]]
    (tmp_path / "old.caffemodel").write_bytes(old_net(blobs))
    pairs = {f"{layer}.weight": weight for layer, (weight, _) in arrays.items()}
    pairs |= {f"{layer}.bias": bias for layer, (_, bias) in arrays.items()}
    np.savez(tmp_path / "arrays.npz", **pairs)
    for name in ("old.caffemodel", "arrays.npz"):
        found = read(tmp_path / name, given)
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
        assert found.preprocessing == expected.preprocessing
    write(expected, tmp_path / "ours.npz")
    ours = read(tmp_path / "ours.npz")
    jax.tree.map(np.testing.assert_array_equal, ours.params, expected.params)
    assert (ours.spec, ours.notes) == (expected.spec, expected.notes)


def test_conv1_reads_red_first(arrays, tmp_path):
    path = written(tmp_path / "net.caffemodel", arrays)
    weights = read(path, spec("bvlc_alexnet", dense=HIDDEN))
    kernel = weights.params["backbone"]["conv1"]["kernel"]  # [h, w, in, out]
    np.testing.assert_array_equal(kernel[2, 5, 0], arrays["conv1"][0][:, 2, 2, 5])  # their blue
    assert weights.preprocessing["channels"] == "rgb"
    assert weights.preprocessing["mean"] == [122.679, 116.669, 104.007]
    assert weights.preprocessing["std"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("called", "name"), [("AlexNet", "bvlc_alexnet"), ("CaffeNet", "caffenet")]
)
def test_the_files_name_tells_which_of_the_two_it_is(called, name):
    full = {**SHAPES, "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (20, 4096)}
    blobs = {n: [np.zeros(s, np.float32), np.zeros(s[0], np.float32)] for n, s in full.items()}
    weights = caffe.from_arrays(caffe.from_blobs(blobs), {"network": called}, None)
    assert weights.spec == spec(name, num_classes=20)


def test_a_name_that_tells_nothing_is_asked_about(arrays, tmp_path):
    path = written(tmp_path / "net.caffemodel", arrays, name="my net")
    with pytest.raises(ValueError, match=r"called 'my net'.*bvlc_alexnet and caffenet.*--spec"):
        read(path)


def test_what_does_not_fit_is_listed(arrays, tmp_path):
    changed = {n: pair for n, pair in arrays.items() if n != "fc8"}
    changed["fc8_style"] = arrays["fc8"]
    changed["conv2"] = (np.zeros((256, 96, 5, 5), np.float32), arrays["conv2"][1])
    path = written(tmp_path / "other.caffemodel", changed)
    with pytest.raises(ValueError) as refusal:
        read(path, spec("bvlc_alexnet", dense=HIDDEN))
    for line in (
        "missing fc8.weight (1000, 24)",
        "unexpected fc8_style.weight (6, 24)",
        "conv2.weight has shape (256, 96, 5, 5), expected (256, 48, 5, 5)",
    ):
        assert line in str(refusal.value)


@pytest.mark.parametrize("left", [0, 1, 5, 12, 1000, 140_000, -1])
def test_a_file_cut_short_is_refused(arrays, tmp_path, left):
    path = written(tmp_path / "net.caffemodel", arrays)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"net\.caffemodel: .*(cut short|missing)"):
        read(path, spec("bvlc_alexnet", dense=HIDDEN))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>not found</html>", "no Caffe network|cut short|no layer"),
        (b"\xff" * 64, "no Caffe network"),
        (message(100, message(1, b"conv1") + message(7, message(5, b"\0" * 8))), "'conv1'.*has 2"),
        (message(100, message(1, b"conv1") + number(7, 1)), "number where a message belongs"),
        (message(100, message(1, b"x") + message(7, message(5, b"\0" * 7))), "'x'"),
    ],
)
def test_other_bytes_are_refused(tmp_path, content, said):
    (tmp_path / "x.caffemodel").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.caffemodel: .*({said})"):
        read(tmp_path / "x.caffemodel")
