"""Several networks on one backbone: it runs once, and each of them answers from its taps.

Parameters: `backbone` as AlexNet's; `NAME/...` what the network of that name has besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from alexnet_jax.models.backbone import seen
from alexnet_jax.models.detector import Detector
from alexnet_jax.models.fcn import FCN, taps_of, window
from alexnet_jax.models.spec import Spec


@dataclass(frozen=True)
class Head:
    """A network by its name, of which all but the backbone is used."""

    name: str
    net: FCN | Detector


class Shared(nn.Module):
    """`Shared(spec, heads=heads).apply({"params": p}, images) -> {name: outputs}`.

    Arguments and fields as `AlexNet` has them. `spec` is the backbone's, as the heads' specs are
    but for their numbers of classes.
    """

    spec: Spec
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    exact: bool = False
    heads: tuple[Head, ...] = ()

    @nn.compact
    def __call__(self, images: Array, *, taps: bool = False, **how: Any) -> Any:
        """Outputs for images [B, H, W, 3]; with `taps`, (outputs, {tap: value}).

        Raises ValueError as the networks do.
        """
        values = seen(self, images, window(self.spec), how)
        kind = {"dtype": self.dtype, "param_dtype": self.param_dtype, "exact": self.exact}
        outputs = {
            head.name: head.net.clone(parent=self, name=head.name, **kind)(images, values=values)
            for head in self.heads
        }
        return (outputs, taps_of(values)) if taps else outputs
