"""Colour changes of RGB images [B, H, W, 3], float32 in grey levels of 0..255, one draw a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# The principal axes of ImageNet's RGB pixels (columns) and their variances, as published with
# fb.resnet.torch for pixels in 0..1: the variances sum to 0.241, three times the 0.283 squared that
# a pixel deviates.
PCA_AXES = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]],
    np.float32,
)
PCA_VARIANCES = np.array([0.2175, 0.0188, 0.0045], np.float32) * np.float32(255.0**2)


def pca_shift(keys: jax.Array, std: float) -> jax.Array:
    """Draw the RGB shift of each image along the principal axes of ImageNet's colours, [B, 3].

    Krizhevsky et al. 2012, section 4.1. The shift along an axis is std * N(0, 1) * the standard
    deviation of the pixels along it, so its covariance is std^2 times theirs. This is what the
    authors' released code does; the text of the paper multiplies by the variance, which would
    depend on the unit of the pixels (some programs do so, on 0..1). Published value: std 0.1.
    """
    draws = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    axes = PCA_AXES * np.sqrt(PCA_VARIANCES)
    return std * jnp.sum(draws[:, None, :] * axes, axis=-1)


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Scale each image by its factor [B]: 0 black, 1 unchanged."""
    return _away_from(jnp.zeros_like(factor)[:, None, None, None], images, factor)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Move each image away from its mean grey: factor 0 flat, 1 unchanged."""
    # The mean's grey is the greys' mean, and one axis at a time is 4 times faster on CPU.
    mean = images.mean(1, keepdims=True).mean(2, keepdims=True)
    return _away_from(_grey(mean), images, factor)


def saturation(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Move each pixel away from its own grey: factor 0 greyscale, 1 unchanged."""
    return _away_from(_grey(images), images, factor)


def jitter_factor(keys: jax.Array, strength: float) -> jax.Array:
    """Draw a factor for each row, uniform in [max(0, 1 - strength), 1 + strength], [B]."""
    low, high = max(0.0, 1.0 - strength), 1.0 + strength
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)


def _away_from(reference: jax.Array, images: jax.Array, factor: jax.Array) -> jax.Array:
    factor = factor[:, None, None, None]
    return jnp.clip(reference + factor * (images - reference), 0.0, 255.0)


def _grey(images: jax.Array) -> jax.Array:
    """Return the ITU-R 601 luma, as in JPEG and Pillow, [B, H, W, 1]."""
    red, green, blue = (images[..., channel : channel + 1] for channel in range(3))
    return 0.299 * red + 0.587 * green + 0.114 * blue  # a sum over 3 channels is 5 times slower
