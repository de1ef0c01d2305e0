"""Augmentation against Pillow, published figures and closed forms; windows are in test_window."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from alexnet_jax.data import colour
from alexnet_jax.data.augment import Augment, augment
from alexnet_jax.data.preprocess import Preprocessing, preprocess

KEY = jax.random.key(7)
run = jax.jit(augment, static_argnums=(2, 3))


def plain(canvas: int, size: int) -> Preprocessing:
    """Leave grey levels as they are, so that outputs can be compared with pixels."""
    return Preprocessing(canvas, size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(batch_size: int, side: int) -> np.ndarray:
    shape = (batch_size, side, side, 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def pixels(images: np.ndarray, size: int, settings: Augment, key=KEY, **others) -> np.ndarray:
    batch = {"image": images, **others}
    return np.asarray(run(key, batch, plain(images.shape[1], size), settings)["image"])


def test_nothing_is_changed_by_default():
    p = Preprocessing(12, 8, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))
    batch = {"image": noise(4, 12), "index": np.arange(4)}
    out, expected = run(KEY, batch, p, Augment()), preprocess(batch, p)
    assert out.keys() == expected.keys()
    np.testing.assert_array_equal(out["image"], expected["image"])


# Colours


def test_pca_noise_has_the_covariance_of_imagenets_colours():
    """std 0.1: along each published axis, a tenth of the published standard deviation."""
    out = pixels(np.full((20000, 2, 2, 3), 100, np.uint8), 2, Augment(pca_noise=0.1)) - 100
    assert np.ptp(out, axis=(1, 2)).max() == 0  # one shift an image
    shift = out[:, 0, 0]
    assert np.abs(shift.mean(0)).max() < 0.3  # 12 / sqrt(20000) = 0.08
    variances, axes = np.linalg.eigh(np.cov(shift.T))
    published = np.array([0.0045, 0.0188, 0.2175]) * 25.5**2
    np.testing.assert_allclose(variances, published, rtol=0.05)
    first, last = [-0.5675, -0.5808, -0.5836], [0.4009, -0.8140, 0.4203]
    assert abs(axes[:, 2] @ first) > 0.999 and abs(axes[:, 0] @ last) > 0.99


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.7])
@pytest.mark.parametrize(
    ("change", "pillow"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
    ],
)
def test_jitter_is_pillows_enhancement(change, pillow, factor):
    image = noise(1, 16)
    image[..., 2] //= 3
    expected = np.asarray(pillow(Image.fromarray(image[0])).enhance(factor), np.float32)
    out = np.asarray(change(image.astype(np.float32), np.float32([factor])))[0]
    assert np.abs(out - expected).max() <= 1.5  # Pillow rounds the grey and the result


@pytest.mark.parametrize(("strength", "low", "high"), [(0.4, 60, 140), (1.5, 0, 250)])
def test_jitter_factors_fill_their_range(strength, low, high):
    levels = pixels(np.full((1000, 1, 1, 3), 100, np.uint8), 1, Augment(brightness=strength))
    assert low <= levels.min() + 1e-4 and levels.max() - 1e-4 <= high
    scaled = (levels[:, 0, 0, 0] - low) / (high - low)
    assert stats.kstest(scaled, "uniform").pvalue > 0.001


# Replaced pixels


def bounds(patch: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]


def test_erasing_sets_rectangles_to_the_mean():
    p = Preprocessing(40, 40, (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))
    batch = {"image": np.full((600, 40, 40, 3), 100, np.uint8)}
    erased = (np.asarray(run(KEY, batch, p, Augment(erase=0.5))["image"]) == 0).all(-1)
    happened = erased.any((1, 2))
    assert abs(happened.mean() - 0.5) < 0.08
    shares = []
    for mask in erased[happened]:
        y0, x0, y1, x1 = bounds(mask)
        assert mask[y0:y1, x0:x1].all()
        shares.append(mask.mean())
    # 0.02 to 0.4 of the area, give or take the rounding of sides to whole pixels.
    assert 0.01 < min(shares) < 0.05 and 0.35 < max(shares) < 0.43
    reached = erased.any(0)
    assert reached[[0, -1]].any(1).all() and reached[:, [0, -1]].any(0).all()  # all four sides


def test_mixup_blends_images_and_labels_by_one_lambda():
    images, labels = noise(8, 6), np.arange(8)
    batch = {"image": images, "label": labels}
    settings = Augment(mixup=1.0, num_classes=8)
    out = run(KEY, batch, plain(6, 6), settings)
    target = np.asarray(out["target"])
    np.testing.assert_allclose(target.sum(-1), 1.0, atol=1e-6)
    assert (target > 0).sum() == 16
    np.testing.assert_array_equal(out["label"], labels)
    # What the target says about the classes is how the images were made.
    expected = np.einsum("bk,khwc->bhwc", target, images)
    np.testing.assert_allclose(out["image"], expected, atol=1e-3)


def test_mixup_lambda_is_beta_distributed():
    batch = {"image": np.zeros((1500, 1, 1, 3), np.uint8), "label": np.arange(1500) % 2}
    target = run(KEY, batch, plain(1, 1), Augment(mixup=0.4, num_classes=2))["target"]
    lam = np.asarray(target)[np.arange(1500), batch["label"]]
    assert stats.kstest(lam, stats.beta(0.4, 0.4).cdf).pvalue > 0.001


def test_cutmix_weights_labels_by_the_pixels_shown():
    count = 400
    images = np.zeros((count, 20, 20, 3), np.float32) + np.arange(count)[:, None, None, None]
    batch = {"image": images, "label": np.arange(count)}
    settings = Augment(cutmix=1.0, num_classes=count)
    out = jax.tree.map(np.asarray, run(KEY, batch, plain(20, 20), settings))
    shown = np.stack([(out["image"][..., 0] == k).mean((1, 2)) for k in range(count)], axis=1)
    np.testing.assert_allclose(out["target"], shown, atol=1e-6)
    np.testing.assert_allclose(shown.sum(1), 1.0, atol=1e-6)
    replaced = 1.0 - shown[np.arange(count), np.arange(count)]
    for i in np.flatnonzero(replaced):
        y0, x0, y1, x1 = bounds(out["image"][i, :, :, 0] != i)
        assert np.isclose((y1 - y0) * (x1 - x0) / 400, replaced[i])  # it is a rectangle
    # Side r of the image's, r^2 uniform, cut at the border: E (r - r^2 / 4)^2 = 77 / 240.
    assert abs(replaced.mean() - 77 / 240) < 0.05


def test_cutmix_takes_each_pixels_class_along():
    count = 6
    masks = np.zeros((count, 20, 20), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]
    valid = np.array([True, True, True, False, True, True])
    batch = {"image": np.repeat(masks[..., None] * 10, 3, -1), "segmentation": masks}
    out = run(KEY, batch | {"valid": valid}, plain(20, 20), Augment(cutmix=1.0))
    shown = np.asarray(out["segmentation"])
    np.testing.assert_array_equal(np.asarray(out["image"])[..., 0], 10 * shown)
    for i in np.flatnonzero(valid):
        assert set(np.unique(shown[i])) <= {i, (i + 1) % count}
    assert (shown[2] == 2).all()  # its partner is padding
    assert sum((shown[i] != i).any() for i in (0, 1, 4, 5)) >= 2
    assert "target" not in out


def test_with_both_on_each_example_takes_one_of_them():
    images = np.zeros((400, 8, 8, 3), np.uint8)
    images[::2] = 100
    batch = {"image": images, "label": np.arange(400) % 2}
    settings = Augment(mixup=1.0, cutmix=1.0, num_classes=2)
    out = run(KEY, batch, plain(8, 8), settings)
    share = np.asarray(out["target"])[:, 0]  # of the bright class
    image = np.asarray(out["image"])[..., 0]
    np.testing.assert_allclose(image.mean((1, 2)), 100 * share, atol=1e-3)
    blended = (image[:, 0, 0] > 0.5) & (image[:, 0, 0] < 99.5)
    assert np.ptp(image[blended], axis=(1, 2)).max() == 0
    assert np.isin(image[~blended].round(), (0, 100)).all()
    assert abs(blended.mean() - 0.5) < 0.1


def test_padding_rows_are_nobodys_partner():
    valid = np.array([True, True, False, True, True])
    batch = {"image": noise(5, 4), "label": np.arange(5), "valid": valid}
    for settings in (Augment(mixup=1.0, num_classes=5), Augment(cutmix=1.0, num_classes=5)):
        target = np.asarray(run(KEY, batch, plain(4, 4), settings)["target"])
        assert target[valid][:, 2].max() == 0
        row = np.flatnonzero((target == np.eye(5)).all(1))
        out = np.asarray(run(KEY, batch, plain(4, 4), settings)["image"])
        assert 1 in row
        np.testing.assert_array_equal(out[1], batch["image"][1])


# Keys

EVERYTHING = {
    "flip": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "pca_noise": 0.1,
    "erase": 0.5,
}


def test_a_row_depends_on_the_key_and_its_place_only():
    images = noise(8, 12)
    settings = Augment(crop="random", **EVERYTHING)
    whole = pixels(images, 8, settings)
    np.testing.assert_allclose(pixels(images[:3], 8, settings), whole[:3], atol=1e-3)
    others = images.copy()
    others[:5] = 0
    np.testing.assert_allclose(pixels(others, 8, settings)[5:], whole[5:], atol=1e-3)
    assert not np.allclose(pixels(images, 8, settings, key=jax.random.key(8)), whole, atol=1)
    alike = pixels(np.broadcast_to(images[:1], images.shape), 8, settings)
    assert len(np.unique(alike.reshape(8, -1).round(2), axis=0)) == 8  # rows differ


def test_switching_an_operation_on_leaves_the_draws_of_the_others():
    images = 50 + noise(8, 12) // 4
    crop = pixels(images, 8, Augment(crop="random"))
    flipped = pixels(images, 8, Augment(crop="random", flip=1.0))
    np.testing.assert_array_equal(flipped, crop[:, :, ::-1])
    noisy = pixels(images, 8, Augment(crop="random", flip=1.0, pca_noise=0.1))
    alone = pixels(images, 12, Augment(pca_noise=0.1)) - images
    np.testing.assert_allclose(noisy - flipped, alone[:, :8, :8], atol=1e-3)
    erased = pixels(images, 8, Augment(crop="random", flip=1.0, pca_noise=0.1, erase=1.0))
    np.testing.assert_allclose(erased, np.where(erased == 0, 0, noisy), atol=1e-3)


def test_jit_gives_the_same_numbers():
    batch = {"image": noise(4, 12)}
    settings = Augment(crop="resized", flip=0.5, contrast=0.4, pca_noise=0.1)
    p = Preprocessing(12, 8, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))
    eager, jitted = augment(KEY, batch, p, settings), run(KEY, batch, p, settings)
    np.testing.assert_allclose(eager["image"], jitted["image"], atol=1e-4)


# Refusals


@pytest.mark.parametrize("name", ["boxes", "segmentation", "joints"])
@pytest.mark.parametrize("asked", [{"erase": 0.5}, {"mixup": 0.2}, {"cutmix": 1.0}])
def test_replacing_pixels_under_annotations_is_refused(name, asked):
    given = {"image": noise(2, 8), "label": np.zeros(2, np.int32), name: np.zeros((2, 1, 4))}
    with pytest.raises(ValueError, match=f"{next(iter(asked))} cannot be used with {name}"):
        augment(KEY, given, plain(8, 8), Augment(num_classes=2, **asked))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "centre"}, "'centre', expected one of center, random, resized"),
        ({"pad": 4}, 'padding goes with crop "random"'),
        ({"pad_mode": "edge"}, "expected one of zero, reflect"),
        ({"flip": 1.5}, "flip is 1.5, expected a probability"),
        ({"pca_noise": -0.1}, "pca_noise is -0.1"),
        ({"scale": (0.5, 0.2)}, "smallest <= largest"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Augment(**changes)


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        ({"image": noise(1, 6)}, Augment(), r"6 x 6 .* 8 x 8"),
        ({"image": noise(1, 4)}, Augment(crop="random", pad=1), r"6 x 6 .* 8 x 8"),
        (
            {"image": noise(1, 4)},
            Augment(crop="random", pad=4, pad_mode="reflect"),
            "reflects more than",
        ),
        ({"image": noise(1, 8)}, Augment(mixup=0.2, num_classes=2), "add label"),
        (
            {"image": noise(1, 8), "label": np.zeros(1, np.int32)},
            Augment(mixup=0.2),
            "set num_classes",
        ),
        ({"image": noise(1, 8), "boxes": np.zeros((1, 1, 4))}, Augment(), "no box_label"),
        ({"image": noise(1, 8), "joints": np.zeros((1, 1, 14, 2))}, Augment(), "no joint_visible"),
        (
            {"image": noise(1, 8), "segmentation": np.zeros((1, 4, 4), np.uint8)},
            Augment(),
            "one label per image pixel",
        ),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, settings, message):
    with pytest.raises(ValueError, match=message):
        augment(KEY, batch, plain(8, 8), settings)
