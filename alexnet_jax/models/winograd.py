"""Winograd convolution: a third to a sixth of the multiplications, in plain jax.numpy.

An output tile of m x m values of an r x r convolution is y = A^T [(G k G^T) * (B^T d B)] A, with d
its (m + r - 1) x (m + r - 1) inputs (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308). Kernel
and inputs are evaluated as polynomials at n = m + r - 1 points per axis; at each of the n * n pairs
of points a product over channels remains, one matrix product for all tiles of all images.

What is at the points is kept as n arrays, one for each row of them: XLA's CPU backend runs a
batched product on one core, but products that do not wait for each other on several.

Everything is computed in float32; as the points are few and small, errors stay below 2e-5 of the
largest value (tests/models/test_winograd.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Where the polynomials are evaluated, besides infinity: of the sets tried, those that err least.
POINTS = {
    4: (0, 1, -1),
    6: (0, 1, -1, 1 / 2, -2),
    7: (0, 1, -1, 3 / 2, -3 / 2, 2 / 5),
    8: (0, 1, -1, 1 / 2, -1 / 2, 2, -2),
}

# How much is worked on at once: few enough images for their tiles to stay in a processor's last
# cache until they have been transformed back, but enough tiles for a fast matrix product.
CACHE = 8 * 2**20  # bytes
ROWS = 400


Shaped = Array | jax.ShapeDtypeStruct


class Transforms(NamedTuple):
    """The matrices of tiles of m outputs under kernels of r: to and from n = m + r - 1 points."""

    inputs: np.ndarray  # B^T [n, n]
    kernel: np.ndarray  # G [n, r]
    outputs: np.ndarray  # A^T [m, n]


@functools.cache
def transforms(m: int, r: int) -> Transforms:
    """The transforms of F(m, r): the transposed Toom-Cook product over POINTS and infinity."""
    n = m + r - 1

    def powers(k: int) -> np.ndarray:
        finite = [[float(p) ** j for j in range(k)] for p in POINTS[n]]
        return np.array([*finite, [0.0] * (k - 1) + [1.0]])

    inputs = np.linalg.inv(powers(n)).T
    inputs[np.abs(inputs) < 1e-12] = 0.0
    return Transforms(inputs.astype("f"), powers(r).astype("f"), powers(m).T.astype("f"))


def form(x: Shaped, kernel: Shaped, padding: tuple[int, int]) -> str:
    """How `convolution` would go about it with the best tile, in words."""
    r = kernel.shape[0]
    rows, columns = (size + sum(padding) - r + 1 for size in x.shape[1:3])
    m = best_tile(r, (rows, columns))
    tiles = -(-rows // m) * -(-columns // m)
    size = _images_at_once(x.shape[0], tiles, max(kernel.shape[2:]), m + r - 1)
    return f"winograd {m}x{m} of {r}x{r}, {size} at a time"


def best_tile(r: int, shape: tuple[int, int]) -> int:
    """The side of output tiles that needs the fewest multiplications for outputs of [H, W].

    At most 5: larger ones err by more than is promised.
    """
    sides = [m for m in range(2, 6) if m + r - 1 in POINTS]
    return min(sides, key=lambda m: math.prod(-(-size // m) for size in shape) * (m + r - 1) ** 2)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: Array, kernel: Array, padding: tuple[int, int], m: int) -> Array:
    """[B, H, W, C] * [r, r, C, F] with stride 1 -> [B, H', W', F] in the dtype of `x`.

    `padding` is (before, after) on both axes and less than r, `m` the side of an output tile.
    """
    r = kernel.shape[0]
    t = transforms(m, r)
    shape = [size + sum(padding) - r + 1 for size in x.shape[1:3]]
    tiles = [-(-size // m) for size in shape]
    at_points = _kernel_to_points(kernel.astype(jnp.float32), t.kernel)

    def part(x: Array) -> Array:
        inputs = _input_to_points(_padded(x, padding[0], tiles, m, r), t.inputs, m, tiles)
        outputs = _products("ntc,ncf->ntf", inputs, at_points)
        y = _outputs_from_points(outputs, t.outputs, x.shape[0], tiles)
        return y[:, : shape[0], : shape[1]].astype(x.dtype)

    size = _images_at_once(x.shape[0], math.prod(tiles), max(kernel.shape[2:]), m + r - 1)
    if size == x.shape[0]:
        return part(x)
    y = lax.map(part, _split(x, size))
    return y.reshape(-1, *y.shape[2:])


def _forward(
    x: Array, kernel: Array, padding: tuple[int, int], m: int
) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, padding, m), (x, kernel)


def _backward(
    padding: tuple[int, int], m: int, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    return gradients(*saved, g, padding, m)


def gradients(
    x: Array, kernel: Array, g: Array, padding: tuple[int, int], m: int
) -> tuple[Array, Array]:
    """Those of `convolution` for `x` and `kernel`, in their dtypes; `g` is that for its output."""
    # With respect to x: the convolution of g with the kernel turned round.
    r = kernel.shape[0]
    around = (r - 1 - padding[0], r - 1 - padding[1])
    dx = convolution(g, kernel[::-1, ::-1].swapaxes(2, 3), around, m)
    return dx.astype(x.dtype), _kernel_gradient(x, g, r, padding, m).astype(kernel.dtype)


convolution.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, g: Array, r: int, padding: tuple[int, int], m: int) -> Array:
    """The gradient for the kernel, float32 [r, r, C, F], of that for the output, [B, H', W', F]."""
    t = transforms(m, r)
    tiles = [-(-size // m) for size in g.shape[1:3]]

    def part(x: Array, g: Array) -> list[Array]:
        inputs = _input_to_points(_padded(x, padding[0], tiles, m, r), t.inputs, m, tiles)
        outputs = _outputs_to_points(_padded(g, 0, tiles, m, 1), t.outputs, tiles)
        return _products("ntc,ntf->ncf", inputs, outputs)

    channels = max(x.shape[-1], g.shape[-1])
    size = _images_at_once(x.shape[0], math.prod(tiles), channels, m + r - 1)
    if size == x.shape[0]:
        total = part(x, g)
    else:
        n = len(t.inputs)
        first = [jnp.zeros((n, x.shape[-1], g.shape[-1]), jnp.float32) for _ in range(n)]

        def add(total: list[Array], piece: tuple[Array, Array]) -> tuple[list[Array], None]:
            return list(map(lax.add, total, part(*piece))), None

        total, _ = lax.scan(add, first, (_split(x, size), _split(g, size)))
    return _kernel_from_points(total, t.kernel)


def _images_at_once(batch: int, tiles: int, channels: int, n: int) -> int:
    """How many images of so many tiles to transform at a time, a divisor of the batch.

    The whole batch where it lies on many devices: a loop over parts would gather it on each.
    """
    limit = max(CACHE // (4 * n * n * tiles * channels), ROWS // tiles, 1)
    if jax.device_count() > 1:
        return batch
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= limit)


def _split(x: Array, size: int) -> Array:
    return x.reshape(-1, size, *x.shape[1:])


def _padded(x: Array, before: int, tiles: Sequence[int], m: int, r: int) -> Array:
    """`x` in float32 with zeros around, so that whole tiles cover it."""
    sizes = [count * m + r - 1 for count in tiles]
    edges = [
        (before, size - before - old, 0) for size, old in zip(sizes, x.shape[1:3], strict=True)
    ]
    return lax.pad(x.astype(jnp.float32), np.float32(0), [(0, 0, 0), *edges, (0, 0, 0)])


def _combined(matrix: np.ndarray, views: Sequence[Array]) -> list[Array]:
    """For each row, sum of row[i] * views[i]; nothing is multiplied by 0 or 1.

    By lax: there are so many of them that jnp's conversions show in the time to trace a step.
    """

    def combination(row: np.ndarray) -> Array:
        given = [(view, c) for view, c in zip(views, row, strict=True) if c != 0]
        terms = [view if c == 1 else lax.mul(view, c) for view, c in given]
        return functools.reduce(lax.add, terms)

    return [combination(row) for row in matrix]


def _products(what: str, left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
    """The matrix products of each row of points."""
    return [jnp.einsum(what, a, b) for a, b in zip(left, right, strict=True)]


def _input_to_points(x: Array, matrix: np.ndarray, m: int, tiles: Sequence[int]) -> list[Array]:
    """Overlapping tiles of [B, H, W, C], evaluated: n times [n, B * tiles, C]."""
    n, (down, across) = len(matrix), ((count - 1) * m + 1 for count in tiles)
    rows = _combined(matrix, [lax.slice_in_dim(x, i, i + down, m, 1) for i in range(n)])

    def columns(row: Array) -> Array:
        views = [lax.slice_in_dim(row, i, i + across, m, 2) for i in range(n)]
        return jnp.stack(_combined(matrix, views)).reshape(n, -1, x.shape[-1])

    return [columns(row) for row in rows]


def _outputs_from_points(
    rows: Sequence[Array], matrix: np.ndarray, batch: int, tiles: Sequence[int]
) -> Array:
    """n times [n, B * tiles, F] -> [B, tiles * m, tiles * m, F]."""
    m, n = matrix.shape
    rows = [row.reshape(n, batch, *tiles, -1) for row in rows]
    y = jnp.stack(_combined(matrix, rows), 3)
    y = jnp.stack(_combined(matrix, [lax.index_in_dim(y, i, 0, False) for i in range(n)]), 4)
    return y.reshape(batch, tiles[0] * m, tiles[1] * m, -1)


def _outputs_to_points(g: Array, matrix: np.ndarray, tiles: Sequence[int]) -> list[Array]:
    """The transpose of `_outputs_from_points`; n times [n, B * tiles, F]."""
    m, n = matrix.shape
    g = g.reshape(g.shape[0], tiles[0], m, tiles[1], m, g.shape[-1])
    rows = _combined(matrix.T, [lax.index_in_dim(g, i, 2, False) for i in range(m)])

    def columns(row: Array) -> Array:
        views = [lax.index_in_dim(row, i, 3, False) for i in range(m)]
        return jnp.stack(_combined(matrix.T, views)).reshape(n, -1, g.shape[-1])

    return [columns(row) for row in rows]


def _kernel_to_points(kernel: Array, matrix: np.ndarray) -> list[Array]:
    """[r, r, C, F] -> n times [n, C, F]; both axes in one matrix product, which is fastest here."""
    flat = kernel.reshape(-1, math.prod(kernel.shape[2:]))
    both = [np.kron(row[None], matrix) for row in matrix]
    return [jnp.dot(one, flat).reshape(-1, *kernel.shape[2:]) for one in both]


def _kernel_from_points(rows: Sequence[Array], matrix: np.ndarray) -> Array:
    """The transpose of `_kernel_to_points`: n times [n, C, F] -> [r, r, C, F]."""
    (n, r), shape = matrix.shape, rows[0].shape[1:]
    both = [np.kron(row[None], matrix).T for row in matrix]
    flat = [jnp.dot(one, y.reshape(n, -1)) for one, y in zip(both, rows, strict=True)]
    return functools.reduce(lax.add, flat).reshape(r, r, *shape)
