"""Convolution, dense product and max pooling, in the forms that run best.

One place for what a backend does better than its default: every form here gives the values of the
plain operation, and gradients equal to it up to rounding. Which form runs is settled when a program
is compiled, by backend and shapes alone, so that the same program gives the same bits.
"""

from __future__ import annotations

import functools
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from alexnet_jax.models import winograd
from alexnet_jax.models.winograd import Shaped


class Window(NamedTuple):
    """How a square kernel moves over an image; `padding` is (before, after) on both axes."""

    stride: int
    padding: tuple[int, int]


def convolution(
    x: Array,
    kernel: Array,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    exact: bool = False,
) -> Array:
    """[B, H, W, C] * [r, r, C / groups, F] -> [B, H', W', F], in the dtype of `x`.

    On a CPU, in single or half precision, kernels of 3x3 and 5x5 run as Winograd convolutions, and
    so do those that space-to-depth makes such: 11x11 with a stride of 4. Elsewhere, and where
    `exact`, it is `lax.conv_general_dilated`.
    """
    window = Window(stride, padding)
    if exact or not _suits_winograd(x, kernel, window):
        return _plain(window, x, kernel, groups)
    if groups == 1:
        return _fast(window, x, kernel)
    towers = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([_fast(window, *tower) for tower in towers], -1)


def form(
    x: Shaped, kernel: Shaped, *, stride: int, padding: tuple[int, int], exact: bool = False
) -> str:
    """The form that `convolution` takes on the default backend, in words, of arrays or shapes."""
    window = Window(stride, padding)
    if exact or jax.default_backend() != "cpu" or not _suits_winograd(x, kernel, window):
        return "plain"
    if stride > 1:
        padding = (0, 0)
        x, kernel = jax.eval_shape(lambda *a: _space_to_depth(window, *a)[:2], x, kernel)
    return winograd.form(x, kernel, padding)


def _plain(window: Window, x: Array, kernel: Array, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (window.stride, window.stride),
        (window.padding, window.padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fast(window: Window, x: Array, kernel: Array) -> Array:
    """The form of the platform that is compiled for; its gradients are in that form, too."""
    return lax.platform_dependent(
        x, kernel, cpu=partial(_winograd, window), default=partial(_plain, window)
    )


def _fast_forward(window: Window, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _fast(window, x, kernel), (x, kernel)


def _fast_backward(window: Window, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def plain(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_plain, window), x, kernel)[1](g)

    return lax.platform_dependent(
        *saved, g, cpu=partial(_winograd_gradients, window), default=plain
    )


_fast.defvjp(_fast_forward, _fast_backward)


def _winograd(window: Window, x: Array, kernel: Array) -> Array:
    if window.stride > 1:
        x, kernel, window = _space_to_depth(window, x, kernel)
    m = winograd.best_tile(kernel.shape[0], output_shape(window, x, kernel))
    return winograd.convolution(x, kernel, window.padding, m)


def _winograd_gradients(window: Window, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    """Those of `_winograd`, which a `jax.vjp` of it would trace once more."""
    if window.stride > 1:
        (x, kernel), back = jax.vjp(lambda *a: _space_to_depth(window, *a)[:2], x, kernel)
        return back(_winograd_gradients(Window(1, (0, 0)), x, kernel, g))
    m = winograd.best_tile(kernel.shape[0], output_shape(window, x, kernel))
    return winograd.gradients(x, kernel, g, window.padding, m)


def _suits_winograd(x: Shaped, kernel: Shaped, window: Window) -> bool:
    """Whether the kernel can be Winograd's, and there is enough to do to gain by it.

    It takes longer to compile than the plain form, and pays by many places for each kernel. A
    program exported for any batch size has no number of places: it is plain.
    """
    if not all(isinstance(size, int) for size in x.shape):
        return False
    side = -(-kernel.shape[0] // window.stride)  # after space-to-depth
    places = x.shape[0] * math.prod(output_shape(window, x, kernel))
    return (
        side in (3, 5)
        and (window.stride > 1 or max(window.padding) < side)
        and places >= 256
        and places * math.prod(kernel.shape) >= 2**24  # multiply-adds
        and x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
    )


def output_shape(window: Window, x: Shaped, kernel: Shaped) -> tuple[int, int]:
    """(H', W') of a convolution."""
    free = sum(window.padding) - kernel.shape[0]
    rows, columns = ((size + free) // window.stride + 1 for size in x.shape[1:3])
    return rows, columns


def _space_to_depth(window: Window, x: Array, kernel: Array) -> tuple[Array, Array, Window]:
    """The same convolution with stride 1: blocks of stride x stride pixels become channels.

    [B, H, W, C] * [r, r, C, F] -> [B, H / s, W / s, s * s * C] * [r / s, r / s, s * s * C, F], with
    zeros where s does not divide.
    """
    s, (before, _), channels = window.stride, window.padding, x.shape[-1]
    side = -(-kernel.shape[0] // s)
    sizes = [(count - 1 + side) * s for count in output_shape(window, x, kernel)]
    edges = [(before, n - before - old, 0) for n, old in zip(sizes, x.shape[1:3], strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    x = x.reshape(-1, sizes[0] // s, s, sizes[1] // s, s, channels).swapaxes(2, 3)
    x = x.reshape(-1, sizes[0] // s, sizes[1] // s, s * s * channels)

    more = (0, side * s - kernel.shape[0])
    kernel = jnp.pad(kernel, (more, more, (0, 0), (0, 0)))
    kernel = kernel.reshape(side, s, side, s, channels, -1).swapaxes(1, 2)
    return x, kernel.reshape(side, side, s * s * channels, -1), Window(1, (0, 0))


def dense(x: Array, kernel: Array) -> Array:
    """[..., N] * [N, M] -> [..., M] in the dtype of `x`; the kernel may be wider.

    In half precision, products of half numbers are added up in float32, forward and backward, and
    the kernel's gradient stays in its own dtype. A CPU has instructions for just that; XLA's
    default there, results in half precision, converts whole kernels to float32 and back.
    """
    if x.dtype in (jnp.bfloat16, jnp.float16):
        return _half_dense(x, kernel)
    return jnp.tensordot(x, kernel.astype(x.dtype), 1)


_added_in_float32 = partial(jnp.tensordot, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _half_dense(x: Array, kernel: Array) -> Array:
    return _half_dense_forward(x, kernel)[0]


def _half_dense_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    half = kernel.astype(x.dtype)
    like = jnp.zeros(0, kernel.dtype)  # for the backward pass
    return _added_in_float32(x, half, 1).astype(x.dtype), (x, half, like)


def _half_dense_backward(saved: tuple[Array, Array, Array], g: Array) -> tuple[Array, Array]:
    x, half, like = saved
    places = tuple(range(x.ndim - 1))
    dx = _added_in_float32(g, half, (-1, 1))
    dk = _added_in_float32(x, g, (places, places))
    return dx.astype(x.dtype), dk.astype(like.dtype)


_half_dense.defvjp(_half_dense_forward, _half_dense_backward)


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """Overlapping 3x3 max pooling with stride 2: [B, H, W, C] -> [B, (H-3)//2+1, (W-3)//2+1, C].

    Krizhevsky et al. 2012, section 3.4. The first maximum of a window, in row order, takes its
    gradient, as in XLA's own backward (select-and-scatter); with its place kept from the forward
    pass, one byte, the backward pass is several times faster on a CPU, and deterministic on a GPU,
    where select-and-scatter is not. A window that holds a NaN gives NaN, and no gradient.
    """
    return functools.reduce(jnp.maximum, _window_views(x))


def _window_views(x: Array) -> list[Array]:
    """For each place in the window, in row order: what all windows have there, [B, H', W', C]."""
    b, h, w, c = x.shape
    rows, columns = (h - 3) // 2 + 1, (w - 3) // 2 + 1
    return [
        lax.slice(x, (0, i, j, 0), (b, i + 2 * rows - 1, j + 2 * columns - 1, c), (1, 2, 2, 1))
        for i in range(3)
        for j in range(3)
    ]


def _max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    best, *views = _window_views(x)
    place = jnp.zeros(best.shape, jnp.uint8)
    for k, view in enumerate(views, 1):
        place = jnp.where(view > best, jnp.uint8(k), place)
        best = jnp.maximum(best, view)
    place = jnp.where(jnp.isnan(best), jnp.uint8(_NOWHERE), place)
    shape = jnp.zeros((0, *x.shape[1:3], 0), jnp.uint8)  # of x, for the backward pass
    return best, (place, shape)


def _max_pool_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array]:
    """Pixel (2a + p, 2b + q) lies in the windows (a, b), and before them where p or q is 0."""
    place, shape = saved
    _, height, width, _ = shape.shape
    half = [(size + 1) // 2 for size in (height, width)]
    edges = [(1, n - old, 0) for n, old in zip(half, g.shape[1:3], strict=True)]
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    place = lax.pad(place, jnp.uint8(_NOWHERE), [(0, 0, 0), *edges, (0, 0, 0)])

    def from_window(up: int, left: int, k: int) -> Array:
        part = (slice(None), slice(1 - up, 1 - up + half[0]), slice(1 - left, 1 - left + half[1]))
        return jnp.where(place[part] == k, g[part], jnp.zeros((), g.dtype))

    even_even = sum(from_window(*w) for w in ((0, 0, 0), (1, 0, 6), (0, 1, 2), (1, 1, 8)))
    even_odd = from_window(0, 0, 1) + from_window(1, 0, 7)
    odd_even = from_window(0, 0, 3) + from_window(0, 1, 5)
    odd_odd = from_window(0, 0, 4)
    even, odd = jnp.stack([even_even, even_odd], 3), jnp.stack([odd_even, odd_odd], 3)
    total = jnp.stack([even, odd], 2)  # [B, H / 2, 2, W / 2, 2, C]
    total = total.reshape(g.shape[0], 2 * half[0], 2 * half[1], g.shape[-1])
    return (total[:, :height, :width],)


_NOWHERE = 9  # the place of a window whose maximum no pixel is

max_pool.defvjp(_max_pool_forward, _max_pool_backward)
