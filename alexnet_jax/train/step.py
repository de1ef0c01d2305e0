"""The train step and the evaluation step: pure functions, the same under every parallel form.

With `axis_name=None` a step sees the global batch: `jax.jit` on one device, or over a mesh. With a
name it sees one device's rows of it, under `jax.shard_map`, `jax.pmap` or `jax.vmap`, and adds up
over that axis. Both give the same numbers.

The order within a step: sum of gradients over devices, each term divided by its global weight; the
gradient of the penalty, once; then what the optimizer does (optim/chain.py).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from alexnet_jax.leaves import named_leaves
from alexnet_jax.optim.rules import merge, split
from alexnet_jax.tasks.base import Batch, Context, Sums, Task
from alexnet_jax.train.state import DROPOUT, TrainState, frozen_mask, stream_key

Metrics = dict[str, Any]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    task: Task,
    tx: Any,
    axis_name: str | None = None,
    accumulate: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update: (state, batch) -> (state, metrics).

    `accumulate` splits the batch into that many parts, one after the other, for the same update
    with less memory (batch statistics are then those of the parts).

    Metrics, all scalars and summed over devices: the task's losses and accuracies as (sum, count);
    `objective`, what is minimized; `penalty`, the L1 and L2 terms in it, whichever form they have;
    `learning_rate` (where `tx` tells it); and the global norms `gradient_norm` (of the data and
    loss-form terms, before clipping), `parameter_norm` and `update_norm`.
    """
    frozen = frozen_mask(state.params, tx)
    trainable, fixed = split(state.params, frozen)
    rows = _row_numbers(batch["image"].shape[0], axis_name)
    context = Context(
        train=True,
        key=stream_key(state.seed, DROPOUT, state.step),
        axis_name=axis_name,
        frozen=_frozen_layers(frozen),
    )

    # Weights depend on the batch alone, so they can be summed before anything is differentiated.
    weights = {
        name: jnp.maximum(weight, jnp.finfo(weight.dtype).tiny)
        for name, weight in _sum_over(task.weights(batch), axis_name).items()
    }

    def objective(
        part: Any, model_state: Any, batch: Batch, rows: Array
    ) -> tuple[Array, tuple[Sums, Any]]:
        terms, outputs, model_state = task.losses(
            merge(part, fixed), model_state, batch, context._replace(rows=rows)
        )
        total = sum(loss / weights[name] for name, (loss, _) in terms.items())
        return jnp.asarray(total), ({**terms, **task.sums(outputs, batch)}, model_state)

    differentiate = jax.grad(objective, has_aux=True)
    local = _to_varying(trainable, axis_name)
    gradient, sums, model_state = _accumulated(
        differentiate, accumulate, local, state.model_state, batch, rows
    )
    gradient, sums = _sum_over((gradient, sums), axis_name)

    penalty = jnp.zeros((), jnp.float32)
    if hasattr(tx, "penalty"):
        extra = jax.grad(tx.penalty)(trainable, state.opt_state)
        gradient = jax.tree.map(jnp.add, gradient, extra)
        penalty = tx.regularization(trainable, state.opt_state)
    loss = sum(sums[name][0] / weights[name] for name in weights)

    updates, opt_state = tx.update(gradient, state.opt_state, trainable)
    gradient_norm, update_norm = optax.tree.norm(gradient), optax.tree.norm(updates)
    updates = _not_before(updates, penalty + gradient_norm + update_norm)
    params = merge(optax.apply_updates(trainable, updates), fixed)
    metrics = {
        **sums,
        "objective": loss + penalty,
        "penalty": penalty,
        "gradient_norm": gradient_norm,
        "parameter_norm": optax.tree.norm(params),
        "update_norm": update_norm,
    }
    if hasattr(tx, "learning_rate"):
        metrics["learning_rate"] = tx.learning_rate(state.opt_state)
    state = state.replace(
        step=state.step + 1,
        params=params,
        model_state=model_state,
        opt_state=opt_state,
        ema=_average(state.ema, params, tx),
    )
    return state, metrics


def eval_step(state: TrainState, batch: Batch, *, task: Task, axis_name: str | None = None) -> Sums:
    """Losses and metrics of a batch as {name: (sum, count)}, summed over devices.

    Rows whose `valid` is false do not count. Averaged parameters are used where there are any.
    """
    params = state.params if state.ema is None else state.ema
    rows = _row_numbers(batch["image"].shape[0], axis_name)
    context = Context(rows=rows, axis_name=axis_name)
    terms, outputs, _ = task.losses(params, state.model_state, batch, context)
    return _sum_over({**terms, **task.sums(outputs, batch)}, axis_name)


def predict_step(state: TrainState, images: Array, *, task: Any) -> dict[str, Array]:
    """The task's decoded answer for images [B, H, W, 3]."""
    params = state.params if state.ema is None else state.ema
    return task.decode(task.net.apply({"params": params, **state.model_state}, images))


def _accumulated(
    differentiate: Any, parts: int, local: Any, model_state: Any, batch: Batch, rows: Array
) -> tuple[Any, Sums, Any]:
    """Gradient and sums added up over parts of the batch; part i is rows i, i + parts, ...

    Strided, so that over a mesh each device's rows stay where they are.
    """
    if parts == 1:
        gradient, (sums, model_state) = differentiate(local, model_state, batch, rows)
        return gradient, sums, model_state
    size = rows.shape[0]
    if size % parts:
        raise ValueError(f"a batch of {size} does not split into {parts} equal parts")
    pieces = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(size // parts, parts, *x.shape[1:]), 1, 0), (batch, rows)
    )

    def add(carry: Any, piece: Any) -> tuple[Any, None]:
        gradient, sums, model_state = carry
        g, (s, model_state) = differentiate(local, model_state, *piece)
        return (*jax.tree.map(jnp.add, (gradient, sums), (g, s)), model_state), None

    first = jax.tree.map(lambda x: x[0], pieces)
    gradient, (sums, model_state) = differentiate(local, model_state, *first)
    rest = jax.tree.map(lambda x: x[1:], pieces)
    (gradient, sums, model_state), _ = lax.scan(add, (gradient, sums, model_state), rest)
    return gradient, sums, model_state


def _not_before(updates: Any, known: Array) -> Any:
    """The updates unchanged, but so that the compiler must compute `known` first.

    `known` is a sum of all norms, which is never -inf: of that the compiler knows nothing. So all
    that reads the old parameters comes before the new ones, and XLA writes these over the old.
    Otherwise it would copy all parameters first, which takes longer than the update.
    `lax.optimization_barrier` does not help: XLA drops it before it places copies.
    """
    never = known == -jnp.inf
    return jax.tree.map(lambda update: jnp.where(never, jnp.nan, update), updates)


def _average(ema: Any, params: Any, tx: Any) -> Any:
    if ema is None:
        return None
    return jax.tree.map(lambda e, p: (e + (1.0 - tx.ema) * (p - e)).astype(e.dtype), ema, params)


def _frozen_layers(frozen: Any) -> tuple[str, ...]:
    """The layers all of whose parameters are frozen: conv1, head, stage2/backbone/conv1."""
    layers: dict[str, list[bool]] = {}
    for name, flag in named_leaves(frozen):
        layer = name.removeprefix("backbone/").rpartition("/")[0]
        layers.setdefault(layer, []).append(flag)
    return tuple(name for name, flags in layers.items() if all(flags))


def _row_numbers(rows: int, axis_name: str | None) -> Array:
    """Each local example's row in the global batch, int32 [rows]."""
    local = jnp.arange(rows, dtype=jnp.int32)
    return local if axis_name is None else local + lax.axis_index(axis_name) * rows


def _sum_over(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else lax.psum(tree, axis_name)


def _to_varying(tree: Any, axis_name: str | None) -> Any:
    """Replicated -> per device, so that a gradient is this device's alone.

    shard_map with check_vma=True would otherwise add up the gradient of a replicated value by
    itself, and the sum in train_step would count it once per device.
    """
    if axis_name is None or axis_name not in jax.sharding.get_abstract_mesh().manual_axes:
        return tree

    def vary(x: Array) -> Array:
        varies = axis_name in jax.typeof(x).manual_axis_type.varying
        return x if varies else lax.pcast(x, axis_name, to="varying")

    return jax.tree.map(vary, tree)
