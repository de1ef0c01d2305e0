"""Spec -> a network that tells where the joints of a person are: DeepPose's first stage.

Toshev and Szegedy 2014, arXiv:1312.4659, section 3.1: the classifier with a linear head of two
numbers a joint, which are relative to a box around the person. The box here is the image. Its later
stages are in cascade.py.

Parameters: as AlexNet's, `head/{kernel, bias}` of 2 x 14 outputs.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.models.alexnet import AlexNet

OUTPUTS = 2 * len(JOINTS)  # the spec's num_classes


class DeepPose(AlexNet):
    """`DeepPose(spec).apply({"params": p}, images) -> joints`, float32 [B, 14, 2].

    (y, x) in pixels of the images, which joints may lie outside of. The spec has `OUTPUTS` classes.
    Arguments, fields and errors as `AlexNet` has them.
    """

    def __call__(self, images: Array, *, taps: bool = False, **how: Any) -> Any:
        outputs, values = super().__call__(images, taps=True, **how)
        size = jnp.asarray(images.shape[1:3], outputs.dtype)
        joints = (outputs.reshape(-1, len(JOINTS), 2) + 0.5) * size
        return (joints, values) if taps else joints
