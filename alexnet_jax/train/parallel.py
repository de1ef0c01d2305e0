"""The same step on many devices: over a mesh (jit), and per device (shard_map, pmap, vmap).

Each function takes a step such as `partial(train_step, task=task, tx=tx)` and returns one of the
same signature, compiled, that gives the same numbers. The mesh form is what training uses; the
others are for code that is already written per device, and to check the step against.

    mesh = make_mesh()
    place = state_sharding(jax.eval_shape(create), mesh)
    state = jax.jit(create, out_shardings=place)()
    step = mesh_step(partial(train_step, task=task, tx=tx), mesh, place)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.leaves import leaf_name
from alexnet_jax.optim.rules import Rules

AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None, model: int = 1) -> Mesh:
    """A mesh with the axes ("data", "model"); `model` devices share one copy of the parameters."""
    devices = jax.devices() if devices is None else devices
    if len(devices) % model:
        raise ValueError(f"{len(devices)} devices do not divide into groups of {model}")
    return Mesh(np.asarray(devices).reshape(-1, model), (AXIS, "model"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless the batch divides over the mesh's data axis."""
    ways = mesh.shape[AXIS]
    if batch_size % ways:
        below = batch_size // ways * ways
        near = f"{below} or {below + ways}" if below else f"{ways}"
        raise ValueError(
            f"a batch of {batch_size} does not divide over {ways} devices; {near} would"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over the data axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh, rules: Rules | None = None) -> Any:
    """Where each leaf of a train state lives, as a tree of shardings.

    `state` may be abstract (`jax.eval_shape`). Whole copies everywhere, except parameters that a
    rule gives a `shard` axis: they, their momentum and their average are cut along that axis over
    the mesh's "model" axis (Krizhevsky 2014, "One weird trick", for the dense layers).
    """
    rows = rules.table(state.params) if rules else ()
    cut = {row.name: row for row in rows if row.shard is not None}

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = leaf_name(path)
        row = next((r for n, r in cut.items() if name.endswith(n) and r.shape == leaf.shape), None)
        if row is None or row.shard is None:
            return replicated(mesh)
        if leaf.shape[row.shard] % mesh.shape["model"]:
            raise ValueError(
                f"axis {row.shard} of {row.name} {leaf.shape} does not divide over "
                f"{mesh.shape['model']} devices of the mesh's model axis"
            )
        axes: list[str | None] = [None] * leaf.ndim
        axes[row.shard] = "model"
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(place, state)


def mesh_step(step: Callable, mesh: Mesh, place: Any, *, donate: bool = True) -> Callable:
    """A train step over the mesh, for a state that lives as `place` says; the state is donated."""
    return jax.jit(
        step,
        in_shardings=(place, batch_sharding(mesh)),
        out_shardings=(place, replicated(mesh)),
        donate_argnums=0 if donate else (),
    )


def mesh_eval(step: Callable, mesh: Mesh, place: Any) -> Callable:
    """An evaluation step over the mesh: (state, batch) -> sums on every device."""
    return jax.jit(step, in_shardings=(place, batch_sharding(mesh)), out_shardings=replicated(mesh))


def shard_map_step(step: Callable, mesh: Mesh, *, check_vma: bool = True) -> Callable:
    """A train step per device; `check_vma` also proves that no sum over devices was forgotten."""
    mapped = jax.shard_map(
        partial(step, axis_name=AXIS),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    return jax.jit(mapped)


def pmap_step(step: Callable, devices: Sequence[Any] | None = None) -> Callable:
    """A train step under `jax.pmap`: one state for all, a batch of global rows, cut here.

    pmap is in maintenance mode and is itself a shard_map today; this form is for users' code.
    """
    devices = list(jax.devices() if devices is None else devices)
    mapped = jax.pmap(
        partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
    )
    return lambda state, batch: mapped(state, split_rows(batch, len(devices)))


def vmap_step(step: Callable, ways: int) -> Callable:
    """The per-device form on one device, `ways` shards side by side: its cheapest test."""
    mapped = jax.vmap(
        partial(step, axis_name=AXIS),
        in_axes=(None, 0),
        out_axes=None,
        axis_name=AXIS,
        axis_size=ways,
    )
    return jax.jit(lambda state, batch: mapped(state, split_rows(batch, ways)))


def split_rows(batch: Any, ways: int) -> Any:
    """[B, ...] -> [ways, B / ways, ...] in every leaf."""
    return jax.tree.map(lambda x: x.reshape(ways, -1, *x.shape[1:]), batch)
