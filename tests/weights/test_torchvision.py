"""torchvision's AlexNet: the same values at every tap, and the same bits there and back."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.data.sources.folder import FolderSplit
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import spec
from alexnet_jax.weights import Weights, read, torchvision, write

HIDDEN, CLASSES = (64, 48), 7  # torchvision's two have 4096 neurons
NARROW = spec("one_weird_trick", dense=HIDDEN)
# Where torchvision's modules compute our taps.
TAPS = {
    "conv1": "features.1", "pool1": "features.2", "conv2": "features.4", "pool2": "features.5",
    "conv3": "features.7", "conv4": "features.9", "conv5": "features.11", "pool5": "features.12",
    "fc6": "classifier.2", "fc7": "classifier.5", "logits": "classifier.6",
}  # fmt: skip


class TorchAlexNet(nn.Module):
    """torchvision.models.AlexNet, line by line, but for the number of hidden neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, HIDDEN[0]),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(*HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN[1], CLASSES),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def theirs() -> TorchAlexNet:
    torch.manual_seed(0)
    return TorchAlexNet().eval()


@pytest.fixture(scope="module")
def file(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def weights(file) -> Weights:
    return read(file, NARROW)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)


@pytest.fixture(scope="module")
def their_taps(theirs, pictures) -> dict[str, np.ndarray]:
    """[B, H, W, C] or [B, C] on the pictures' middles, prepared as torchvision prepares them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    middle = torch.tensor(pictures[:, 16:240, 16:240]) / 255
    values, modules = {}, dict(theirs.named_modules())

    def keep(tap):
        def hook(module, inputs, output):
            values[tap] = output.movedim(1, -1).numpy()

        return hook

    hooks = [modules[name].register_forward_hook(keep(tap)) for tap, name in TAPS.items()]
    with torch.no_grad():
        theirs(((middle - mean) / std).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return values


@pytest.mark.parametrize("exact", [True, False])
def test_every_tap_has_torchvisions_values(weights, pictures, their_taps, exact):
    net = AlexNet(weights.spec, exact=exact)
    batch = preprocess({"image": pictures}, Preprocessing.from_json(weights.preprocessing))
    forward = jax.jit(lambda params, x: net.apply({"params": params}, x, taps=True))
    logits, taps = forward(weights.params, batch["image"])
    assert set(taps) == set(their_taps)
    for tap, expected in their_taps.items():
        ours = np.asarray(taps[tap])
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max(), tap
    np.testing.assert_array_equal(logits.argmax(-1), their_taps["logits"].argmax(-1))


@pytest.mark.parametrize(
    ("width", "height", "levels"),
    [
        *((341, 256, 1), (455, 256, 1), (333, 500, 1), (161, 150, 1), (1301, 1025, 1)),
        (1608, 1208, 2),  # the codec halves it
    ],
)
def test_a_photograph_is_prepared_as_torchvision_prepares_it(
    weights, tmp_path, width, height, levels
):
    """AlexNet_Weights.IMAGENET1K_V1.transforms() on a JPEG file, line by line, with Pillow."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=90)
    p = Preprocessing.from_json(weights.preprocessing)
    split = FolderSplit(tmp_path, ["a.jpg"], np.zeros(1, np.int64))
    (batch,) = evaluation_batches(Reader(split, canvas=p.canvas), batch_size=1)
    (ours,) = np.asarray(preprocess(batch, p)["image"])

    image, size, crop = Image.open(tmp_path / "a.jpg"), 256, 224
    shape = (size, size * height // width) if width <= height else (size * width // height, size)
    scaled = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (round((side - crop) / 2.0) for side in scaled.size)
    pixels = np.asarray(scaled.crop((left, top, left + crop, top + crop))) / 255
    theirs = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    level = 1 / 255 / 0.224
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < (levels + 0.05) * level
    assert np.abs(ours - theirs).mean() < 0.25 * level


def test_there_and_back_is_the_same_to_the_bit(theirs, weights, tmp_path):
    write(weights, tmp_path / "again.safetensors")
    again = safetensors.torch.load_file(tmp_path / "again.safetensors")
    other = TorchAlexNet()
    other.load_state_dict(again, strict=True)
    for name, tensor in theirs.state_dict().items():
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name], tensor), name
    # It says itself what it is.
    back = read(tmp_path / "again.safetensors")
    assert back.spec == weights.spec == dataclasses.replace(NARROW, num_classes=CLASSES)
    assert back.preprocessing == weights.preprocessing
    jax.tree.map(np.testing.assert_array_equal, back.params, weights.params)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_what_torch_saved_is_read_alike(theirs, weights, tmp_path, zipped):
    path = tmp_path / "alexnet.pth"
    torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=zipped)
    read_back = read(path, NARROW)
    jax.tree.map(np.testing.assert_array_equal, read_back.params, weights.params)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(read_back.params))


def test_half_precision_becomes_float32(theirs, tmp_path):
    state = {name: tensor.to(torch.float16) for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "half.pt")
    head = read(tmp_path / "half.pt", NARROW).params["head"]["bias"]
    assert head.dtype == np.float32
    np.testing.assert_array_equal(head, state["classifier.6.bias"].float().numpy())


def test_torchvisions_own_shapes_need_no_word():
    shapes = {
        "features.0": (64, 3, 11, 11), "features.3": (192, 64, 5, 5),
        "features.6": (384, 192, 3, 3), "features.8": (256, 384, 3, 3),
        "features.10": (256, 256, 3, 3), "classifier.1": (4096, 9216),
        "classifier.4": (4096, 4096), "classifier.6": (1000, 4096),
    }  # fmt: skip
    arrays = {}
    for layer, shape in shapes.items():
        arrays[f"{layer}.weight"] = np.zeros(shape, np.float32)
        arrays[f"{layer}.bias"] = np.zeros(shape[:1], np.float32)
    found = torchvision.from_arrays(arrays, {}, None)
    assert found.spec == spec("one_weird_trick", num_classes=1000)
    assert sum(x.size for x in jax.tree.leaves(found.params)) == 61_100_840  # as published
    p = Preprocessing.from_json(found.preprocessing)
    assert (p.canvas, p.size, p.channels) == (256, 224, "rgb")
    np.testing.assert_allclose(np.array(p.mean) / 255, [0.485, 0.456, 0.406])
    np.testing.assert_allclose(np.array(p.std) / 255, [0.229, 0.224, 0.225])


def test_what_does_not_fit_is_listed(theirs, tmp_path):
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    del state["features.3.bias"]
    state["features.0.weight"] = torch.zeros(64, 1, 11, 11)
    state["features.1.running_mean"] = torch.zeros(64)
    state["classifier.4.bias"] = torch.zeros(48, dtype=torch.int64)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError) as refusal:
        read(path, NARROW)
    for line in (
        str(path),
        "missing features.3.bias (192,)",
        "unexpected features.1.running_mean (64,)",
        "features.0.weight has shape (64, 1, 11, 11), expected (64, 3, 11, 11)",
        "classifier.4.bias has type int64, expected float32",
    ):
        assert line in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bvlc_alexnet", {}, r"(?s)normalization is 'local_response'.*conv2: groups is 2, not 1"),
        ("notes_224", {}, r"conv1: padding is \(0, 0\), not \(2, 2\)"),
        ("one_weird_trick", {"activation": "gelu"}, "activation is 'gelu', not 'relu'"),
        ("one_weird_trick", {"depth": 2}, "depth is 2, not 1"),
        ("one_weird_trick", {"dense": (8,)}, "5 convolutions and 1 dense"),
        ("one_weird_trick", {"image_size": 128}, "at 128 px its fc6 reads 3 x 3 positions"),
    ],
)
def test_a_network_that_torchvision_cannot_express_is_refused(
    weights, tmp_path, name, changes, said
):
    other = Weights(spec(name, **{"dense": HIDDEN, "dropout": (), **changes}), weights.params, None)
    with pytest.raises(ValueError, match=said):
        write(other, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())
