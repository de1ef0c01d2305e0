"""Augmentations that replace pixels: random erasing, mixup and cutmix.

A row's partner is the next row of the global batch. The training stream is shuffled, so the next
row is a random one, and under a mesh only the rows at the seams travel between devices.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

ERASED_AREA = (0.02, 0.4)  # share of the image, Zhong et al. 2017, section 4
ERASED_RATIO = (0.3, 1 / 0.3)  # height over width, as there


def erase(keys: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    """Set one rectangle of each normalised image [B, S, S, C] to 0, the mean, with `probability`.

    Zhong et al. 2017, "Random Erasing Data Augmentation" (the variant RE-M). `keys` [B]. Sides are
    cut at the image's, where the paper draws again.
    """
    size = images.shape[1]

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        happens, area, ratio, place = jax.random.split(key, 4)
        share = jax.random.uniform(area, minval=ERASED_AREA[0], maxval=ERASED_AREA[1])
        log_ratio = jax.random.uniform(
            ratio, minval=math.log(ERASED_RATIO[0]), maxval=math.log(ERASED_RATIO[1])
        )
        stretch = jnp.exp(0.5 * log_ratio * jnp.asarray([1.0, -1.0]))
        extent = size * jnp.minimum(jnp.sqrt(share) * stretch, 1.0)
        centre = extent / 2 + jax.random.uniform(place, (2,)) * (size - extent)
        return jax.random.bernoulli(happens, probability), centre, extent

    happens, centre, extent = jax.vmap(draw)(keys)
    inside, _ = rectangle(centre, extent, size)
    return jnp.where(inside & happens[:, None, None, None], 0.0, images)


def mixup(keys: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Draw one lambda ~ Beta(alpha, alpha) an example -> own weight [B, 1, 1, 1], lambda [B].

    Zhang et al. 2017, "mixup: Beyond Empirical Risk Minimization".
    """
    lam = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    return lam[:, None, None, None], lam


def cutmix(keys: jax.Array, alpha: float, size: int) -> tuple[jax.Array, jax.Array]:
    """Draw one rectangle an example for the partner's pixels -> own weight [B, S, S, 1] of 0 or 1,
    and its mean, lambda [B].

    Yun et al. 2019, "CutMix", section 3: the rectangle covers 1 - lambda' of the area, lambda' ~
    Beta(alpha, alpha), around a uniform centre. Cut at the border it covers less, so the labels
    are weighted by the pixels that really are shown.
    """

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        area, place = jax.random.split(key)
        side = size * jnp.sqrt(1.0 - jax.random.beta(area, alpha, alpha))
        return jax.random.uniform(place, (2,), maxval=size), jnp.stack([side, side])

    inside, share = rectangle(*jax.vmap(draw)(keys), size)
    return 1.0 - inside.astype(jnp.float32), 1.0 - share


def blend(
    images: jax.Array, labels: jax.Array, weight: jax.Array, lam: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    """Mix every row with the next: weight * own + (1 - weight) * partner, and the labels by lambda.

    Returns the images and the targets float32 [B, num_classes], whose rows sum to 1.
    """
    own, lam = jax.nn.one_hot(labels, num_classes), lam[:, None]
    return _weighted(images, weight), lam * own + (1.0 - lam) * jnp.roll(own, -1, axis=0)


def paste(images: jax.Array, masks: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lay a part of the next row on every row, where the weight is 0: its pixels and their classes,
    `masks` uint8 [B, S, S].

    French et al. 2020, "Semi-supervised semantic segmentation needs strong, varied perturbations".
    """
    own = weight[..., 0] > 0.5
    return _weighted(images, weight), jnp.where(own, masks, jnp.roll(masks, -1, axis=0))


def _weighted(images: jax.Array, weight: jax.Array) -> jax.Array:
    return weight * images + (1.0 - weight) * jnp.roll(images, -1, axis=0)


def rectangle(centre: jax.Array, extent: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Return the pixels whose centres lie in a rectangle, bool [B, S, S, 1], and their share [B].

    `centre` and `extent` are [B, 2] (y, x) in pixels; what lies beyond the image is cut off.
    """
    pixels = jnp.arange(size, dtype=jnp.float32) + 0.5
    inside = jnp.abs(pixels - centre[..., None]) < extent[..., None] / 2
    share = inside.mean(-1).prod(-1)
    return inside[:, 0, :, None, None] & inside[:, 1, None, :, None], share
