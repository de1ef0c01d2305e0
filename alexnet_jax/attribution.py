"""Where a classifier looks: maps over the image of what its answer depends on.

Pure functions of any `apply(images [N, H, W, 3]) -> logits [N, K]` that treats its images one by
one, such as `lambda images: net.apply({"params": params}, images)`. Shapes are static, so under
`jax.jit` each is one program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Apply = Callable[[Array], Array]


def saliency(apply: Apply, images: Array, classes: Any) -> Array:
    """How much the logit of a class changes with each pixel: the gradient's absolute value,
    of the three channels the largest.

    Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034, section 3. `images` float [B, H, W, 3]
    as the network takes them, `classes` int [B], one an image; returns [B, H, W] in the images'
    dtype, logits per unit of input. Raises ValueError for other shapes, and for whole numbers,
    which have no gradient.
    """
    classes = _checked(images, classes)

    def logits(images: Array) -> Array:
        return jnp.take_along_axis(apply(images), classes[:, None], axis=1).sum()

    return jnp.abs(jax.grad(logits)(images)).max(axis=-1)


def occlusion(
    apply: Apply,
    images: Array,
    classes: Any,
    *,
    patch: int,
    stride: int,
    fill: Any = 0.0,
    batch: int = 128,
) -> Array:
    """How much of a class's probability is lost where a square patch hides the image.

    Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2. The image is divided into cells of
    `stride` x `stride` pixels; over the middle of each lies, in its turn, a patch of side `patch`,
    cut off at the image's edge (an odd `patch - stride` puts the odd pixel behind). `images` float
    [B, H, W, 3] as the network takes them, `classes` int [B]; `fill` is the patch's value, a number
    or one a channel: 0 is the mean colour where that was subtracted. The network sees about
    `batch` images at a time, however many there are.

    Returns float [B, ceil(H / stride), ceil(W / stride)]: probability of the whole image minus that
    of the hidden one, from -1 to 1; a negative value says that what lies there speaks against the
    class. Raises ValueError for other shapes and for sizes below 1.
    """
    classes = _checked(images, classes)
    if min(patch, stride, batch) < 1:
        raise ValueError(
            f"patch {patch}, stride {stride}, batch {batch}: each has to be at least 1"
        )
    count, height, width, channels = images.shape
    rows, columns = -(-height // stride), -(-width // stride)
    together = min(rows * columns, max(1, batch // count))  # places that one call sees
    calls = -(-rows * columns // together)
    fill = jnp.broadcast_to(jnp.asarray(fill, images.dtype), (channels,))

    def probability(images: Array) -> Array:
        shares = jax.nn.softmax(apply(images))  # of each place all images, one after the other
        asked = jnp.tile(classes, len(images) // count)
        return jnp.take_along_axis(shares, asked[:, None], axis=1).reshape(-1, count)

    def behind_patches(places: Array) -> Array:
        down = _covered(places // columns, stride, patch, height)
        across = _covered(places % columns, stride, patch, width)
        hidden = (down[:, :, None] & across[:, None, :])[:, None, :, :, None]
        return probability(jnp.where(hidden, fill, images).reshape(-1, height, width, channels))

    # The last call is filled up with places beyond the last one, which are dropped again.
    places = jnp.arange(calls * together).reshape(calls, together)
    left = jax.lax.map(behind_patches, places).reshape(-1, count)[: rows * columns]
    return (probability(images) - left).T.reshape(count, rows, columns)


def _covered(cells: Array, stride: int, patch: int, length: int) -> Array:
    """bool [n, length]: which pixels of an axis lie under the patch over each of n cells."""
    begin = (cells * stride - (patch - stride) // 2)[:, None]
    pixels = jnp.arange(length)
    return (begin <= pixels) & (pixels < begin + patch)


def _checked(images: Array, classes: Any) -> Array:
    """`classes` as an array, one an image."""
    classes = jnp.asarray(classes)
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; expected floating point "
            "[B, H, W, 3] as the network takes them (preprocess does that to pixels)"
        )
    if classes.shape != images.shape[:1] or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"classes are {classes.dtype} {list(classes.shape)}; expected a whole number an image, "
            f"[{images.shape[0]}]"
        )
    return classes
