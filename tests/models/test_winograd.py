"""Winograd convolution and its gradients against float64 sums by NumPy, at every layer's shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models import winograd
from alexnet_jax.models.kernels import convolution
from alexnet_jax.models.spec import shapes
from alexnet_jax.models.zoo import SPECS

PROMISED = 2e-5  # of the largest value
BATCH = 4  # of which the larger layers take less at a time


def layers() -> dict[str, tuple]:
    """{name: (input size, channels, Conv)} of all distinct convolutions of all specs."""
    found = {}
    for spec in SPECS.values():
        size, channels, outputs = spec.image_size, 3, dict(shapes(spec, spec.image_size))
        for name, conv in spec.conv_layers():
            key = (size, channels, conv.features, conv.kernel, conv.stride, conv.padding)
            found.setdefault((*key, conv.groups), (f"{spec.name}-{name}", size, channels, conv))
            tap = name.replace("conv", "pool") if "pool" in conv.then else name
            size, _, channels = outputs[tap]
    return {name: layer for name, *layer in found.values()}


LAYERS = layers()


def windows(x: np.ndarray, side: int, stride: int) -> np.ndarray:
    """[B, H, W, C] -> [B * H' * W', side * side * C]: what each place of a kernel sees."""
    seen = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    seen = seen[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    return seen.reshape(-1, side * side * x.shape[-1])


def by_numpy(x, kernel, g, conv):
    """(value, gradient for x, gradient for the kernel) in float64, of one tower."""
    side, stride, (before, after) = conv.kernel, conv.stride, conv.padding
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    seen, flat = windows(padded, side, stride), kernel.reshape(-1, kernel.shape[-1])
    value = (seen @ flat).reshape(g.shape)
    dkernel = (seen.T @ g.reshape(-1, g.shape[-1])).reshape(kernel.shape)
    spread = (g.reshape(-1, g.shape[-1]) @ flat.T).reshape(*g.shape[:3], side, side, -1)
    dx = np.zeros_like(padded)
    rows, columns = g.shape[1:3]
    for i in range(side):
        for j in range(side):
            rows_of = slice(i, i + stride * (rows - 1) + 1, stride)
            columns_of = slice(j, j + stride * (columns - 1) + 1, stride)
            dx[:, rows_of, columns_of] += spread[:, :, :, i, j]
    return value, dx[:, before : before + x.shape[1], before : before + x.shape[2]], dkernel


def towers(arrays, groups):
    return zip(*(np.split(a, groups, -1) for a in arrays), strict=True)


def error(ours, theirs):
    return np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", LAYERS)
def test_every_convolution_and_both_its_gradients_keep_the_promise(name):
    size, channels, conv = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, size, size, channels)).astype(np.float32)
    shape = (conv.kernel, conv.kernel, channels // conv.groups, conv.features)
    kernel = rng.normal(size=shape).astype(np.float32)

    def ours(x, kernel):
        return convolution(x, kernel, stride=conv.stride, padding=conv.padding, groups=conv.groups)

    g = rng.normal(size=jax.eval_shape(ours, x, kernel).shape).astype(np.float32)
    value, (dx, dkernel) = jax.jit(lambda x, k, g: (ours(x, k), jax.vjp(ours, x, k)[1](g)))(
        x, kernel, g
    )
    parts = [
        by_numpy(*(a.astype(np.float64) for a in tower), conv)
        for tower in towers((x, kernel, g), conv.groups)
    ]
    expected = [np.concatenate(part, -1) for part in zip(*parts, strict=True)]
    for what, a, b in zip(("value", "dx", "dkernel"), (value, dx, dkernel), expected, strict=True):
        assert error(a, b) <= PROMISED, what
        assert a.dtype == jnp.float32


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (5, 3), (2, 5), (3, 5), (4, 5)])
def test_tiles_that_do_not_fit_and_lopsided_padding(m, r):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, 7, 10, 2)), rng.normal(size=(r, r, 2, 3))
    padding = (1, 2)
    padded = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    value = windows(padded, r, 1) @ kernel.reshape(-1, 3)
    ours = winograd.convolution(jnp.float32(x), jnp.float32(kernel), padding, m)
    assert ours.shape == (3, 11 - r, 14 - r, 3)
    assert error(ours.reshape(-1, 3), value) <= PROMISED


def test_parts_of_the_batch_give_what_the_whole_does(monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.float32(rng.normal(size=(6, 12, 12, 8))),
        jnp.float32(rng.normal(size=(3, 3, 8, 8))),
    )
    g = jnp.float32(rng.normal(size=(6, 12, 12, 8)))

    def all_three():
        value, backward = jax.vjp(lambda x, k: winograd.convolution(x, k, (1, 1), 4), x, kernel)
        return (value, *backward(g))

    whole = all_three()
    monkeypatch.setattr(winograd, "CACHE", 0)
    monkeypatch.setattr(winograd, "ROWS", 2 * 9)  # two images at a time
    for a, b in zip(all_three(), whole, strict=True):
        assert error(a, np.asarray(b, np.float64)) <= 5e-6


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_once_at_the_end(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 12, 12, 8)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 8, 8)), dtype)
    value, backward = jax.vjp(lambda x, k: winograd.convolution(x, k, (1, 1), 4), x, kernel)
    dx, dkernel = backward(value)
    assert value.dtype == dx.dtype == dkernel.dtype == dtype
    wide = convolution(
        x.astype(jnp.float32), kernel.astype(jnp.float32), padding=(1, 1), exact=True
    )
    unit = float(jnp.finfo(dtype).eps)
    rounding = 0.51 * unit * np.abs(wide) + PROMISED * np.abs(wide).max()
    assert np.all(np.abs(value.astype(jnp.float32) - wide) <= rounding)


@pytest.mark.slow
def test_the_same_numbers_over_eight_devices_in_every_form(own_process):
    source = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from alexnet_jax.models import kernels
from alexnet_jax.models.kernels import convolution

kernels._suits_winograd = lambda *_: True  # small as it is
rng = np.random.default_rng(0)
x, g = (rng.normal(size=(16, 12, 12, 8)).astype(np.float32) for _ in range(2))
kernel = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)

def all_three(x, kernel, g, axis=None):
    if axis is not None and jax.sharding.get_abstract_mesh().manual_axes:
        kernel = jax.lax.pcast(kernel, axis, to="varying")
    value, backward = jax.vjp(lambda x, k: convolution(x, k, padding=(1, 1)), x, kernel)
    dx, dkernel = backward(g)
    return value, dx, dkernel if axis is None else jax.lax.psum(dkernel, axis)

mesh = Mesh(jax.devices(), ("data",))
rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
per_device = lambda x, kernel, g: all_three(x, kernel, g, "data")
split = lambda a: a.reshape(8, 2, *a.shape[1:])
join = lambda values: [np.reshape(v, (16, *v.shape[2:])) for v in values[:2]] + [values[2]]
found = {
    "one": jax.jit(all_three)(x, kernel, g),
    "mesh": jax.jit(all_three, in_shardings=(rows, whole, rows))(x, kernel, g),
    "shard_map": jax.jit(jax.shard_map(
        per_device, mesh=mesh, in_specs=(P("data"), P(), P("data")),
        out_specs=(P("data"), P("data"), P()),
    ))(x, kernel, g),
    "vmap": join(jax.vmap(
        per_device, in_axes=(0, None, 0), out_axes=(0, 0, None), axis_name="data"
    )(split(x), kernel, split(g))),
    "pmap": join(jax.pmap(
        per_device, in_axes=(0, None, 0), out_axes=(0, 0, None), axis_name="data"
    )(split(x), kernel, split(g))),
    "plain": jax.jit(lambda x, k, g: (
        lambda value, backward: (value, *backward(g))
    )(*jax.vjp(lambda x, k: convolution(x, k, padding=(1, 1), exact=True), x, k)))(x, kernel, g),
}
one = found.pop("one")
print(json.dumps({
    name: [float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in zip(values, one)]
    for name, values in found.items()
}))
"""
    found = own_process(source, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert set(found) == {"mesh", "shard_map", "vmap", "pmap", "plain"}
    for name, differences in found.items():
        assert len(differences) == 3 and max(differences) <= 1e-5, name
    assert max(found["plain"]) > 0  # it was the other form that ran
