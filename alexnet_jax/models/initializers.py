"""Kernel initializers by name (Glorot and Bengio 2010; He et al. 2015; LeCun et al. 1998; ...)."""

from __future__ import annotations

from typing import Any

from jax.nn import initializers as jax_init

_BY_NAME: dict[str, Any] = {
    "glorot_uniform": jax_init.glorot_uniform,
    "glorot_normal": jax_init.glorot_normal,
    "he_uniform": jax_init.he_uniform,
    "he_normal": jax_init.he_normal,
    "lecun_uniform": jax_init.lecun_uniform,
    "lecun_normal": jax_init.lecun_normal,
    "orthogonal": jax_init.orthogonal,
    # PyTorch's default for convolutions and dense layers: U(+-1/sqrt(fan_in)).
    "torch_default": lambda: jax_init.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zeros": lambda: jax_init.zeros,
}

# Standard deviations of the 2012 source (layers-145.cfg); the paper's text has 0.01 throughout.
_STD_2012 = {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03}

NAMES = (*_BY_NAME, "gaussian_2012")


def kernel_initializer(name: str, layer: str) -> Any:
    """`init(key, shape, dtype)` for the layer's kernel (HWIO or [in, out]).

    Raises ValueError for an unknown name, listing those that exist.
    """
    if name == "gaussian_2012":
        return jax_init.normal(_STD_2012.get(layer.split("_")[0], 0.01))
    if name not in _BY_NAME:
        raise ValueError(f"no initializer is called {name!r}; there are {', '.join(NAMES)}")
    return _BY_NAME[name]()
