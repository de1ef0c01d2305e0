"""Spec -> a network that scores every pixel: the classifier's layers at every place of the image.

Long, Shelhamer and Darrell 2015, arXiv:1411.4038. The first dense layer becomes a convolution of
the kernel [h, w, c, n] that is the dense [h * w * c, n] reshaped; those behind it, and the scores,
work on each place alone. Scores of a deep map are laid bilinearly on the places of a shallower one
and added to its own. In the networks for 224 px, whose last map has a stride of 32, a skip from
pool2 makes FCN-16s, and pool1 besides FCN-8s; without skips it is FCN-32s.

Where they pad the image by 100 pixels, we pad the first dense layer's input, so that each place of
the last map has its window. Convolutions that do not pad shift the maps against the image: places
are therefore kept as numbers (`Places`), and no crop is needed to make maps meet. Interpolation is
fixed, as their last one is.

Scores that are added cannot say that an edge belongs to the one object and not to the other: with
`refine`, a skip joins features in their place, which a 3x3 convolution mixes (`Neck`), and each
place of the last skip scores the pixels around it (Shi et al. 2016, arXiv:1609.05158). With
`context`, the mean of the deepest map goes to each of its places (Liu et al. 2015,
arXiv:1506.04579): what is far away may decide what is here.

Parameters: `backbone` as AlexNet's; `head/{score, score_pool2, score_pool1}/{kernel, bias}`,
kernels zero at first, as theirs; with `refine`, `neck_{tap}/{fine, deep, mix1}` and `head/score`;
`context/{kernel, bias}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.models.backbone import Convolution, add_bias, seen, window_padding
from alexnet_jax.models.spec import Conv, Spec, shapes

FEATURES = "features"  # what the last dense layer gives, at the places of the last map


class Places(NamedTuple):
    """Where a map's elements look: element i sees the image around pixel first + step * i."""

    first: float
    step: int

    def of(self, count: int) -> np.ndarray:
        """The pixels that so many elements see, float64 [count]."""
        return self.first + self.step * np.arange(count)

    def around(self) -> Places:
        """The pixels around all elements, step x step of each."""
        return Places(self.first - (self.step - 1) // 2, 1)


def taps_of(values: Mapping[str, Array]) -> dict[str, Array]:
    """What a backbone saw, without what its last dense layer gives."""
    return {tap: value for tap, value in values.items() if tap != FEATURES}


class FCN(nn.Module):
    """`FCN(spec).apply({"params": p}, images) -> logits`, float32 [B, H, W, num_classes].

    Arguments and fields as `AlexNet` has them. `skips` are taps, deepest first; `refine` is the
    number of channels that they are joined in, None adds their scores; `context` then lets each
    place see the mean over all. `mirrored` says which class each one is in a mirror image: outside
    of training, logits are then the mean of the picture's and its mirror image's. Without `pixels`
    the logits are those of the last skip's places, not laid on the pixels. The first dense layer's
    window is that of a classifier at `spec.image_size`; images may have any size from the spec's
    smallest on.
    """

    spec: Spec
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    exact: bool = False
    skips: tuple[str, ...] = ("pool2", "pool1")
    pixels: bool = True
    refine: int | None = None
    context: bool = False
    mirrored: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        images: Array,
        *,
        taps: bool = False,
        values: dict[str, Array] | None = None,
        **how: Any,
    ) -> Any:
        """Logits of images [B, H, W, 3]; with `taps`, (logits, {tap: value}).

        `values` are those of a backbone that saw the images already; this network then has none,
        and no mirror image.
        Raises ValueError for images too small, and for skips that are no taps, deepest first.
        """
        check_skips(self.spec, self.skips)
        size = images.shape[1], images.shape[2]
        both = self.mirrored and values is None and not how.get("train", False)
        if both:
            images = jnp.concatenate([images, images[:, :, ::-1]])
            how |= {"rows": None, "valid": None}  # of dropout and batch statistics
        values = seen(self, images, window(self.spec), how) if values is None else values
        if self.refine is None:
            head = Head(self.spec, self.dtype, self.param_dtype, self.skips, name="head")
            logits = head(values, size if self.pixels else None)
        else:
            logits = self.refined(values, self.refine, size if self.pixels else None)
        if both:
            logits, other = jnp.split(logits, 2)
            at = Places(0, 1) if self.pixels else places(self.spec)[(FEATURES, *self.skips)[-1]]
            rows, columns = (at.of(n) for n in logits.shape[1:3])
            other = resample(other[..., np.array(self.mirrored)], at, rows, size[1] - 1 - columns)
            logits = (logits + other) / 2
            values = {tap: jnp.split(value, 2)[0] for tap, value in values.items()}
        return (logits, {**taps_of(values), "logits": logits}) if taps else logits

    def refined(
        self, values: dict[str, Array], features: int, size: tuple[int, int] | None
    ) -> Array:
        """Logits as `Head` gives them, of features that are joined from skip to skip."""
        found, x, tap = places(self.spec), values[FEATURES], FEATURES
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.context:
            whole = x.mean(axis=(1, 2), keepdims=True)
            x = nn.relu(x + nn.Dense(x.shape[-1], **kind, name="context")(whole))
        for finer in self.skips:
            neck = Neck(
                features,
                found[tap],
                found[finer],
                1,
                exact=self.exact,
                **kind,
                name=f"neck_{finer}",
            )
            x, tap = neck(values[finer], x), finer
        at = found[tap]
        head = Around(self.spec.num_classes, at.step if size else 1, **kind, name="head")
        scores = head(x)
        if size is None:
            return scores
        return resample(scores, at.around(), *(np.arange(n) for n in size))


class Head(nn.Module):
    """Scores of each tap, added from the deepest map to the shallowest and laid on the pixels of an
    image of a size, if one is given."""

    spec: Spec
    dtype: Any
    param_dtype: Any
    skips: tuple[str, ...]

    @nn.compact
    def __call__(self, values: dict[str, Array], size: tuple[int, int] | None) -> Array:
        found = places(self.spec)
        scores, at = self.score("score", values[FEATURES]), found[FEATURES]
        for tap in self.skips:
            to, (height, width) = found[tap], values[tap].shape[1:3]
            scores = resample(scores, at, to.of(height), to.of(width))
            scores, at = scores + self.score(f"score_{tap}", values[tap]), to
        return scores if size is None else resample(scores, at, *(np.arange(n) for n in size))

    def score(self, name: str, x: Array) -> Array:
        """[B, h, w, C] -> float32 [B, h, w, num_classes]."""
        layer = nn.Dense(
            self.spec.num_classes,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros,
            name=name,
        )
        return layer(x).astype(jnp.promote_types(jnp.float32, self.dtype))


class Around(nn.Module):
    """Scores of the side x side pixels around each place, [B, h, w, C] -> float32 [B, h * side,
    w * side, classes]: `score/kernel` [C, side, side, classes], zero at first."""

    classes: int
    side: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer = nn.DenseGeneral(
            (self.side, self.side, self.classes),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros,
            name="score",
        )
        batch, height, width, _ = x.shape
        x = layer(x).swapaxes(2, 3)  # [B, h, side, w, side, classes]
        x = x.reshape(batch, height * self.side, width * self.side, self.classes)
        return x.astype(jnp.promote_types(jnp.float32, self.dtype))


class Neck(nn.Module):
    """A fine and a deep map, joined at the places of the fine one: [B, h, w, features].

    Each goes through a 1x1 convolution, as in a feature pyramid (Lin et al. 2017,
    arXiv:1612.03144); `mixes` 3x3 convolutions follow.
    """

    features: int
    deep_at: Places
    fine_at: Places
    mixes: int
    dtype: Any
    param_dtype: Any
    exact: bool = False

    @nn.compact
    def __call__(self, fine: Array, deep: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        each = {**kind, "kernel_init": nn.initializers.he_normal()}
        height, width = fine.shape[1:3]
        rows, columns = self.fine_at.of(height), self.fine_at.of(width)
        deep = nn.Dense(self.features, **each, name="deep")(deep)
        x = nn.Dense(self.features, **each, name="fine")(fine)
        x = nn.relu(x + resample(deep, self.deep_at, rows, columns))
        conv = Conv(self.features, 3, padding=(1, 1))
        for i in range(self.mixes):
            mix = Convolution(conv, "he_normal", 0.0, **kind, exact=self.exact, name=f"mix{i + 1}")
            x = nn.relu(add_bias(*mix(x)))
        return x


def window(spec: Spec) -> int:
    """Side of the last map, in elements, of a classifier at the spec's own image size."""
    maps = [shape for _, shape in shapes(spec, spec.image_size) if len(shape) == 3]
    return maps[-1][0]


def places(spec: Spec) -> dict[str, Places]:
    """The places of every tap that is a map, and of `FEATURES`.

    A layer's element looks at the middle of its kernel: a kernel of k, padded by p before, moves
    the first place by (k - 1) / 2 - p of the steps below it.
    """
    found: dict[str, Places] = {}
    first, step = 0.0, 1

    def through(kernel: int, stride: int = 1, before: int = 0) -> Places:
        nonlocal first, step
        first, step = first + step * ((kernel - 1) / 2 - before), step * stride
        return Places(first, step)

    for name, conv in spec.conv_layers():
        found[name] = through(conv.kernel, conv.stride, conv.padding[0])
        if "pool" in conv.then:
            found[name.split("_")[0].replace("conv", "pool")] = through(3, 2)
    last = Places(first, step)
    side = window(spec)
    found[FEATURES] = through(side, before=window_padding(side)[0]) if spec.dense else last
    return found


def check_skips(spec: Spec, skips: tuple[str, ...]) -> None:
    """Raise ValueError where skips are not maps of the spec, each shallower than the one before."""
    maps = [tap for tap in places(spec) if tap != FEATURES]
    if unknown := [tap for tap in skips if tap not in maps]:
        raise ValueError(f"{spec.name!r} has no map {unknown[0]!r} to skip from: {', '.join(maps)}")
    order = [maps.index(tap) for tap in skips]
    if order != sorted(set(order), reverse=True):
        raise ValueError(f"skips are {' '.join(skips)}; expected the deepest first, each once")


def resample(x: Array, at: Places, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Bilinear values of a map [B, h, w, C], whose elements lie `at`, at pixels rows x columns.

    [B, len(rows), len(columns), C]. Beyond the outermost elements their own values hold.
    """
    down = interpolation(x.shape[1], at, rows).astype(x.dtype)
    across = interpolation(x.shape[2], at, columns).astype(x.dtype)
    x = jnp.einsum("ih,bhwc->biwc", down, x, precision="highest")
    return jnp.einsum("jw,biwc->bijc", across, x, precision="highest")


def interpolation(count: int, at: Places, pixels: np.ndarray) -> np.ndarray:
    """Weights of `count` elements in each of the pixels, float64 [len(pixels), count]."""
    where = np.clip((pixels - at.first) / at.step, 0, count - 1)
    return np.maximum(0.0, 1.0 - np.abs(where[:, None] - np.arange(count)))
