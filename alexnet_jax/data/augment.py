"""Training's random changes: one pure function of a key and a batch.

    batch = jax.jit(augment, static_argnums=(2, 3))(key, batch, preprocessing, Augment(flip=0.5))

Row i of the global batch draws from fold_in(key, i) and every operation from a sub-stream of its
own, so what happens to a row depends neither on its neighbours, nor on how the batch lies on
devices, nor on which other operations are on. (Mixup and cutmix of course show the neighbour.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax.data import colour, mix
from alexnet_jax.data import window as windows
from alexnet_jax.data.preprocess import Preprocessing, check_covers, check_images, normalize

CROPS = ("center", "random", "resized")
PADS = ("zero", "reflect")
CROP_TRIES = 10  # after which a resized crop that does not fit is cut at the image's sides


@dataclass(frozen=True)
class Augment:
    """What training changes at random; nothing by default."""

    crop: str = "center"
    """Window of the canvas: "center", "random" (position), "resized" (position, area and shape,
    resized to the network's input; Szegedy et al. 2015)."""
    pad: int = 0
    """Pixels added on each side before a random crop (4 for CIFAR)."""
    pad_mode: str = "zero"
    """What is added: "zero" (black) or "reflect" (the mirrored border)."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of a resized crop, as a share of the canvas."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of a resized crop."""
    flip: float = 0.0
    """Probability of a mirror image (left to right)."""
    brightness: float = 0.0
    """Strength s of brightness jitter: a factor uniform in [max(0, 1 - s), 1 + s]."""
    contrast: float = 0.0
    """Strength of contrast jitter, likewise."""
    saturation: float = 0.0
    """Strength of saturation jitter, likewise."""
    pca_noise: float = 0.0
    """Standard deviation of the colour noise along ImageNet's principal colour axes, in units of
    the pixels' own (0.1 in Krizhevsky et al. 2012, section 4.1)."""
    erase: float = 0.0
    """Probability of erasing a rectangle (Zhong et al. 2017)."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al. 2017); 0 is off. One lambda an example."""
    cutmix: float = 0.0
    """Alpha of cutmix's Beta distribution (Yun et al. 2019); 0 is off. One rectangle an example.
    With mixup also on, each example takes one of the two, with even chances. In segmentation each
    pixel's class goes with it (French et al. 2020)."""
    num_classes: int | None = None
    """Number of classes, needed by mixup and cutmix, whose labels are distributions."""

    def __post_init__(self) -> None:
        _one_of("crop", self.crop, CROPS)
        _one_of("pad_mode", self.pad_mode, PADS)
        if self.pad < 0 or (self.pad and self.crop != "random"):
            raise ValueError(
                f'pad is {self.pad} with crop {self.crop!r}: padding goes with crop "random" '
                "and is not negative"
            )
        for name in ("flip", "erase"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability")
        for name in ("brightness", "contrast", "saturation", "pca_noise", "mixup", "cutmix"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 (off) or more")
        if not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            raise ValueError(f"scale is {self.scale}, expected 0 < smallest <= largest <= 1")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}, expected 0 < smallest <= largest")

    @property
    def mixes(self) -> bool:
        """Whether labels become distributions, `target` in the batch."""
        return self.mixup > 0.0 or self.cutmix > 0.0


@unique
class Stream(IntEnum):
    """One sub-stream of a row's key per operation; renumbering changes every past run."""

    CROP = 0
    FLIP = 1
    BRIGHTNESS = 2
    CONTRAST = 3
    SATURATION = 4
    PCA_NOISE = 5
    ERASE = 6
    MIXUP = 7
    CUTMIX = 8
    MIXUP_OR_CUTMIX = 9


Keys = Callable[[Stream], jax.Array]


def augment(
    key: jax.Array, batch: Mapping[str, Any], preprocessing: Preprocessing, settings: Augment
) -> dict[str, Any]:
    """Change a training batch at random and normalise it; pure, jittable, shapes fixed.

    `image` uint8 or float [B, H, W, 3] of 0..255 becomes float32 [B, size, size, 3]; boxes,
    segmentation and joints move with the pixels (`window.move`), segmentation also by cutmix; with
    mixup or cutmix `target` float32 [B, K] is added from `label`. Every other entry is passed on.
    Order: window, mirror, brightness, contrast, saturation, colour noise, normalisation, erasing,
    mixing.

    Raises ValueError where images do not cover the network's input, and where erasing or mixing is
    asked for annotations that it cannot move.
    """
    images = jnp.asarray(batch["image"])
    batch_size, height, width = check_images(images)
    size = preprocessing.size
    if settings.crop != "resized":
        check_covers(height + 2 * settings.pad, width + 2 * settings.pad, size)
    if settings.pad_mode == "reflect" and settings.pad >= min(height, width):
        raise ValueError(f"pad {settings.pad} reflects more than images of {height} x {width} have")
    _check_replaceable(batch, settings)

    rows = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))

    def keys(stream: Stream) -> jax.Array:
        return jax.vmap(jax.random.fold_in, (0, None))(rows, int(stream))

    window = _draw_window(keys, batch_size, height, width, size, settings)
    moved = windows.move(batch, window, size)
    images = _pixels(images, window, size, settings)
    images = normalize(_recolour(keys, images.astype(jnp.float32), settings), preprocessing)
    if settings.erase:
        images = mix.erase(keys(Stream.ERASE), images, settings.erase)
    moved["image"] = images
    return moved | _mix(keys, moved, settings) if settings.mixes else moved


def _draw_window(
    keys: Keys, batch_size: int, height: int, width: int, size: int, settings: Augment
) -> windows.Window:
    window = windows.centered(batch_size, height, width, size)
    if settings.crop == "random":
        low = jnp.asarray([-settings.pad, -settings.pad])
        high = jnp.asarray([height, width]) + settings.pad - size + 1
        offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), low, high))(keys(Stream.CROP))
        y, x = offsets.astype(jnp.float32).T
        window = window._replace(y=y, x=x)
    elif settings.crop == "resized":
        draw = jax.vmap(lambda key: _resized_crop(key, height, width, settings))
        y, x, tall, wide = draw(keys(Stream.CROP)).T
        window = window._replace(y=y, x=x, height=tall, width=wide)
    if settings.flip:
        flip = jax.vmap(lambda key: jax.random.bernoulli(key, settings.flip))(keys(Stream.FLIP))
        window = window._replace(flip=flip)
    return window


def _resized_crop(key: jax.Array, height: int, width: int, settings: Augment) -> jax.Array:
    """Draw (y, x, height, width) in pixels: area uniform, shape log-uniform, the first that fits
    of ten, placed uniformly."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    low, high = settings.scale
    area = height * width * jax.random.uniform(area_key, (CROP_TRIES,), minval=low, maxval=high)
    low, high = (math.log(value) for value in settings.ratio)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (CROP_TRIES,), minval=low, maxval=high))
    tries = jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)], axis=-1)
    image = jnp.asarray([height, width], jnp.float32)
    first = jnp.argmax((tries <= image).all(-1))
    extent = jnp.minimum(tries[first], image)
    return jnp.concatenate([jax.random.uniform(place_key, (2,)) * (image - extent), extent])


def _pixels(images: jax.Array, window: windows.Window, size: int, settings: Augment) -> jax.Array:
    if settings.crop == "resized":
        return windows.resample(images, window, size)
    if not settings.pad:
        return windows.take(images, window, size)
    outside: str | int = "reflect" if settings.pad_mode == "reflect" else 0
    return windows.take(images, window, size, outside)


def _recolour(keys: Keys, images: jax.Array, settings: Augment) -> jax.Array:
    for strength, stream, change in (
        (settings.brightness, Stream.BRIGHTNESS, colour.brightness),
        (settings.contrast, Stream.CONTRAST, colour.contrast),
        (settings.saturation, Stream.SATURATION, colour.saturation),
    ):
        if strength:
            images = change(images, colour.jitter_factor(keys(stream), strength))
    if settings.pca_noise:
        shift = colour.pca_shift(keys(Stream.PCA_NOISE), settings.pca_noise)
        images = images + shift[:, None, None, :]
    return images


def _mix(keys: Keys, batch: Mapping[str, jax.Array], settings: Augment) -> dict[str, Any]:
    """The entries that mixing changes or adds. A row whose partner is not valid (padding) stays as
    it is."""
    images = batch["image"]
    if settings.mixup:
        weight, lam = mix.mixup(keys(Stream.MIXUP), settings.mixup)
    if settings.cutmix:
        cut_weight, cut_lam = mix.cutmix(keys(Stream.CUTMIX), settings.cutmix, images.shape[1])
        if settings.mixup:
            pick = jax.vmap(jax.random.bernoulli)(keys(Stream.MIXUP_OR_CUTMIX))
            cut_weight = jnp.where(pick[:, None, None, None], cut_weight, weight)
            cut_lam = jnp.where(pick, cut_lam, lam)
        weight, lam = cut_weight, cut_lam
    alone = ~jnp.roll(jnp.asarray(batch.get("valid", jnp.ones(len(images), bool))), -1)
    weight = jnp.where(alone[:, None, None, None], 1.0, weight)
    lam = jnp.where(alone, 1.0, lam)
    if "segmentation" in batch:
        images, masks = mix.paste(images, batch["segmentation"], weight)
        return {"image": images, "segmentation": masks}
    if settings.num_classes is None:
        raise ValueError("mixup and cutmix mix labels: set num_classes")
    labels = jnp.asarray(batch["label"])
    images, target = mix.blend(images, labels, weight, lam, settings.num_classes)
    return {"image": images, "target": target}


def _check_replaceable(batch: Mapping[str, Any], settings: Augment) -> None:
    asked = [name for name in ("erase", "mixup", "cutmix") if getattr(settings, name)]
    present = [name for name in windows.ANNOTATIONS if name in batch]
    if asked == ["cutmix"] and present == ["segmentation"] and "label" not in batch:
        return  # a pixel's class goes with it
    if asked and present:
        raise ValueError(
            f"{', '.join(asked)} cannot be used with {', '.join(present)}: they replace pixels "
            "that the annotations describe; switch them off for this task"
        )
    if settings.mixes and "label" not in batch:
        raise ValueError(
            f"mixup and cutmix mix the labels of a classification batch, but it has only "
            f"{', '.join(sorted(batch))}: add label [B] or switch them off"
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
