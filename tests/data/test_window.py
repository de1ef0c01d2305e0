"""Windows: crops, padding, mirrors and resizing move pixels and annotations alike.

References are NumPy slices, Pillow, and patches painted into the image.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from alexnet_jax.data.augment import Augment, augment
from alexnet_jax.data.preprocess import Preprocessing

KEY = jax.random.key(7)
run = jax.jit(augment, static_argnums=(2, 3))


def plain(canvas: int, size: int) -> Preprocessing:
    """Leave grey levels as they are, so that outputs can be compared with pixels."""
    return Preprocessing(canvas, size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(batch_size: int, side: int) -> np.ndarray:
    shape = (batch_size, side, side, 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def coordinates(batch_size: int, side: int) -> np.ndarray:
    """Images whose pixels say where they are: (y + 0.5, x + 0.5, 1)."""
    y, x = np.mgrid[:side, :side] + 0.5
    image = np.stack([y, x, np.ones_like(y)], axis=-1)
    return np.broadcast_to(image, (batch_size, *image.shape)).astype(np.float32)


def pixels(images: np.ndarray, size: int, settings: Augment, key=KEY, **others) -> np.ndarray:
    batch = {"image": images, **others}
    return np.asarray(run(key, batch, plain(images.shape[1], size), settings)["image"])


@pytest.mark.parametrize(
    ("pad", "pad_mode", "numpy_mode"),
    [(0, "zero", "constant"), (2, "zero", "constant"), (2, "reflect", "reflect")],
)
def test_random_crops_are_slices_and_every_offset_occurs(pad, pad_mode, numpy_mode):
    image = noise(1, 10)[0]
    settings = Augment(crop="random", pad=pad, pad_mode=pad_mode)
    out = pixels(np.broadcast_to(image, (2000, *image.shape)), 8, settings)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=numpy_mode)
    offsets = padded.shape[0] - 8 + 1
    counts = np.array(
        [
            [(out == padded[y : y + 8, x : x + 8]).all((1, 2, 3)).sum() for x in range(offsets)]
            for y in range(offsets)
        ]
    )
    assert counts.sum() == 2000  # each output is exactly one of the slices
    assert stats.chisquare(counts.ravel()).pvalue > 0.001


def test_flip_mirrors_about_the_given_share_of_the_images():
    images = noise(1000, 6)
    out = pixels(images, 6, Augment(flip=0.3))
    same, mirrored = ((out == given).all((1, 2, 3)) for given in (images, images[:, :, ::-1]))
    assert (same ^ mirrored).all()
    assert abs(mirrored.mean() - 0.3) < 0.05  # 3.5 standard deviations


def resized_windows(settings: Augment, batch_size: int, side: int) -> np.ndarray:
    """Recover (y, x, height, width) by reading enlarged ramps: bilinear keeps a line a line."""
    out = pixels(coordinates(batch_size, side), side, settings)
    middle = np.arange(side // 4, side - side // 4)  # away from the image's border
    height, y = np.polyfit((middle + 0.5) / side, out[:, middle, side // 2, 0].T, 1)
    width, x = np.polyfit((middle + 0.5) / side, out[:, side // 2, middle, 1].T, 1)
    return np.stack([y, x, height, width], axis=-1)


@pytest.mark.parametrize("size", [24, 80], ids=["mostly reducing", "enlarging"])
def test_resized_crop_is_pillows_antialiased_bilinear(size):
    settings = Augment(crop="resized", scale=(0.1, 1.0))
    images = noise(16, 80)
    images[8:] = np.sort(images[8:], axis=1)  # smooth ones too
    out = pixels(images, size, settings)
    recovered = resized_windows(settings, 16, 80)
    for image, result, (y, x, height, width) in zip(images, out, recovered, strict=True):
        box = tuple(np.clip([x, y, x + width, y + height], 0, 80))  # recovered to 1e-3
        expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box)
        assert np.abs(result - np.asarray(expected, np.float32)).mean() < 0.5


def test_resized_crops_fill_their_ranges_and_stay_inside():
    settings = Augment(crop="resized", scale=(0.2, 0.8), ratio=(0.5, 2.0))
    y, x, height, width = resized_windows(settings, 1500, 40).T
    assert min(y.min(), x.min()) > -0.01
    assert max((y + height).max(), (x + width).max()) < 40.01
    area, ratio = height * width / 1600, width / height
    assert 0.199 < area.min() < 0.22 and 0.7 < area.max() < 0.801
    assert 0.499 < ratio.min() < 0.55 and 1.9 < ratio.max() < 2.002
    assert abs(np.log(ratio).mean()) < 0.04  # neither lying nor standing is preferred
    free = 40 - height > 4
    assert stats.kstest(y[free] / (40 - height[free]), "uniform").pvalue > 0.001


# Annotations, compared with patches painted into the image

RIGHT_TO_LEFT = {0: 5, 1: 4, 2: 3, 6: 11, 7: 10, 8: 9}  # ankle, knee, hip, wrist, elbow, shoulder
MIRROR = np.arange(14)
for right, left in RIGHT_TO_LEFT.items():
    MIRROR[right], MIRROR[left] = left, right


def painted(batch_size: int, side: int) -> dict[str, np.ndarray]:
    """Paint one box in red, joint i with green i + 1, and the labels of `segmentation` in blue."""
    rng = np.random.default_rng(2)
    image = np.zeros((batch_size, side, side, 3), np.uint8)
    boxes = np.zeros((batch_size, 2, 4), np.float32)  # the second is padding
    joints = np.zeros((batch_size, 1, 14, 2), np.float32)
    segmentation = rng.integers(1, 255, (batch_size, side, side), dtype=np.uint8)
    image[..., 2] = segmentation
    for i in range(batch_size):
        y, x = rng.integers(0, side - 8, 2)
        height, width = rng.integers(4, 9, 2)
        image[i, y : y + height, x : x + width, 0] = 200
        boxes[i, 0] = y, x, y + height, x + width
        places = rng.choice(side * side, 14, replace=False)
        for joint, place in enumerate(places):
            image[i, place // side, place % side, 1] = joint + 1
            joints[i, 0, joint] = place // side + 0.5, place % side + 0.5
    return {
        "image": image,
        "boxes": boxes,
        "box_label": np.tile(np.int32([3, -1]), (batch_size, 1)),
        "box_ignore": np.zeros((batch_size, 2), bool),
        "segmentation": segmentation,
        "joints": joints,
        "joint_visible": np.ones((batch_size, 1, 14), bool),
    }


def bounds(patch: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("pad", [0, 6])
def test_annotations_stay_on_their_pixels_through_crop_pad_and_flip(flip, pad):
    batch = painted(60, 24)
    settings = Augment(crop="random", pad=pad, flip=flip)
    out = jax.tree.map(np.asarray, run(KEY, batch, plain(24, 14), settings))
    red, green, blue = np.moveaxis(out["image"], -1, 0)
    # Padding is black, and no painted label is 0.
    np.testing.assert_array_equal(out["segmentation"], np.where(blue == 0, 255, blue))
    assert (blue == 0).any() == (pad > 0)
    assert (out["box_label"][:, 1] == -1).all()
    seen = set()
    for i in range(60):
        y0, x0, y1, x1 = batch["boxes"][i, 0]
        shown = (red[i] > 0).sum() / ((y1 - y0) * (x1 - x0))
        if shown == 0:
            assert out["box_label"][i, 0] == -1
            seen.add("lost")
        else:
            assert out["box_label"][i, 0] == 3
            np.testing.assert_array_equal(out["boxes"][i, 0], bounds(red[i] > 0))
            assert out["box_ignore"][i, 0] == (shown < 0.2)
            seen.add("faint" if shown < 0.2 else "shown")
        for joint in range(14):
            mark = (MIRROR[joint] if flip else joint) + 1
            assert out["joint_visible"][i, 0, joint] == (green[i] == mark).any()
            if out["joint_visible"][i, 0, joint]:
                y, x = out["joints"][i, 0, joint]
                assert green[i, int(y), int(x)] == mark and (y % 1, x % 1) == (0.5, 0.5)
    assert seen == {"lost", "faint", "shown"}


def test_annotations_follow_a_resized_crop_to_within_a_pixel():
    batch = painted(60, 48)
    settings = Augment(crop="resized", scale=(0.3, 0.9), flip=0.5)
    out = jax.tree.map(np.asarray, run(KEY, batch, plain(48, 48), settings))
    found = 0
    for i in range(60):
        clear = out["image"][i, :, :, 0] > 100
        if out["box_label"][i, 0] == 3 and clear.any():
            assert np.abs(out["boxes"][i, 0] - bounds(clear)).max() < 1.0
            found += 1
    assert found > 20
    # Nearest labels: half a pixel of the input at most from where the image was taken.
    ramp = dict(batch, segmentation=np.tile(np.arange(48, dtype=np.uint8), (60, 48, 1)))
    taken = np.asarray(run(KEY, ramp, plain(48, 48), settings)["segmentation"], np.float32)
    columns = pixels(coordinates(60, 48), 48, settings)[..., 1]
    assert np.abs(taken + 0.5 - columns)[:, :, 2:-2].max() < 0.51


def test_flipping_twice_changes_nothing():
    batch, settings = painted(5, 16), Augment(flip=1.0)
    once = run(KEY, batch, plain(16, 16), settings)
    twice = run(KEY, once, plain(16, 16), settings)
    assert not np.array_equal(once["joints"], batch["joints"])
    for name, given in batch.items():
        np.testing.assert_array_equal(twice[name], given, err_msg=name)
