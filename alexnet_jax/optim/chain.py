"""`optimizer(name, ...)`: gradients to updates, in one order that is read from top to bottom.

The methods are optax's, by name. Regularization, learning rate and per-parameter rules are ours,
so that they mean the same under every method and so that the numbers a sweep varies are arrays
in the state: changing one compiles nothing, and `jax.vmap` over a stacked state trains a
population in one program.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alexnet_jax.optim.methods import method
from alexnet_jax.optim.regularizers import add_l1, add_l2, l1_penalty, l2_penalty, proximal_l1
from alexnet_jax.optim.rules import Params, Row, Rules


class Optimizer(NamedTuple):
    """Functions and settings of an optimizer; `init` and `update` are as optax's.

    All but `rules` take the *trainable* part of the parameters: leaves that the rules freeze are
    None (see `rules.split`). optax's wrappers take `optax.GradientTransformation(*tx[:2])`.

    Attributes:
      init: `init(params) -> OptimizerState`; raises ValueError if a rule matches no parameter.
      update: `update(grads, state, params) -> (updates, state)`. Computed in float32, returned
        in the dtype of the parameters.
      penalty: `penalty(params, state)`, float32 scalar: the L1 and L2 terms that belong to the
        loss, 0.0 where their form is another one. Add its gradient to the data's.
      regularization: `regularization(params, state)`, float32 scalar:
        `sum(l2 / 2 * |w|^2 + l1 * |w|)` whatever the form, for reports.
      learning_rate: `learning_rate(state)`, float32 scalar that the next update uses.
      rules: the rule table.
      ema: decay of an exponential moving average that the training step keeps, or None.
    """

    init: Callable[..., OptimizerState]
    update: Callable[..., tuple[Params, OptimizerState]]
    penalty: Callable[[Params, OptimizerState], jax.Array]
    regularization: Callable[[Params, OptimizerState], jax.Array]
    learning_rate: Callable[[OptimizerState], jax.Array]
    rules: Rules
    ema: float | None


class OptimizerState(NamedTuple):
    """`count` int32 updates done; `hyper` float32 scalars by name; `inner` the method's state.

    `hyper` holds learning_rate, lr_scale (1.0; lowered on a plateau), l1, l2, decay, and
    momentum for "sgd" with momentum.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    hyper: dict[str, jax.Array]
    inner: Any


def optimizer(
    name: str,
    *,
    learning_rate: float,
    momentum: float | None = None,
    nesterov: bool = False,
    l2: float = 0.0,
    l1: float = 0.0,
    decay: float = 0.0,
    l2_form: str = "coupled",
    l1_form: str = "coupled",
    clip: float | None = None,
    schedule: Callable[[jax.Array], jax.typing.ArrayLike] | None = None,
    rules: Rules | None = None,
    ema: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Build an optimizer.

    Args:
      name: "sgd", or any optimizer of optax or optax.contrib whose step is proportional to its
        learning rate: adam, adamw, nadam, rmsprop, adagrad, lars, lamb, lion, muon, ... "adamw"
        is "adam"; its decay is `decay`. "muon" orthogonalizes 2-D arrays and gives all others,
        convolution kernels too, to Adam, as optax does.
      learning_rate: peak learning rate; for `name` in its own units (sgd 1e-2, adam 1e-3, ...).
      momentum, nesterov: for methods that have them; left out, the method's own default holds
        (sgd: none). The learning rate stays outside the momentum, as in PyTorch; optax's rmsprop
        and lars keep it inside, which differs only while the learning rate changes.
      l2: strength of `l2 / 2 * |w|^2`, in the gradient before momentum and adaptive scaling.
      l1: strength of `l1 * |w|`.
      decay: decoupled weight decay (Loshchilov and Hutter 2019), scaled by the learning rate as
        optax's and PyTorch's: `w -= learning_rate * decay * w`. Under "lamb" it enters before
        the trust ratio (You et al. 2020); for "lars" use `l2`, which does (You et al. 2017).
      l2_form: "coupled" adds the gradient after clipping; "loss" makes it part of the loss.
      l1_form: also "proximal": the last step soft-thresholds, which gives exact zeros; see
        `regularizers.proximal_l1`.
      clip: largest global norm of the gradient, over all trainable parameters; None for none.
      schedule: function of the update count to a factor of the learning rate.
      rules: settings per parameter; biases and the scale and bias of norms are exempt from
        l1, l2 and decay unless a rule says otherwise. A strength that a rule gives is fixed.
      ema: decay of the moving average of parameters, in (0, 1); kept by the training step.
      extra: further settings of the method, by optax's names: `{"b2": 0.95}`.

    Raises:
      ValueError: on a setting that the method does not have or a value out of range.
    """
    for key, value in {"learning_rate": learning_rate, "l1": l1, "l2": l2, "decay": decay}.items():
        _require(value >= 0 and math.isfinite(value), key, "finite and not negative", value)
    _require(momentum is None or 0 <= momentum < 1, "momentum", "in [0, 1)", momentum)
    _require(clip is None or clip > 0, "clip", "above 0, or None for no clipping", clip)
    _require(ema is None or 0 < ema < 1, "ema", "in (0, 1), or None for none", ema)
    _require(l2_form in ("coupled", "loss"), "l2_form", "'coupled' or 'loss'", l2_form)
    l1_forms = ("coupled", "loss", "proximal")
    _require(l1_form in l1_forms, "l1_form", "'coupled', 'loss' or 'proximal'", l1_form)
    rules = Rules() if rules is None else rules
    scaling = method(name, momentum, nesterov, dict(extra or {}))
    defaults = {"learning_rate": learning_rate, "lr_scale": 1.0, "l1": l1, "l2": l2, "decay": decay}
    if name == "sgd" and momentum is not None:
        defaults["momentum"] = momentum

    def strength(key: str, params: Params, hyper: dict[str, jax.Array]) -> Params:
        """Tree of `l1`, `l2` or `decay`: the rule's value, else the one in the state."""

        def of(row: Row):
            value = getattr(row, key)
            return hyper[key] if value is None else jnp.float32(value)

        return _map_rows(of, rules, params)

    def rate(state: OptimizerState) -> jax.Array:
        factor = 1.0 if schedule is None else schedule(state.count)
        return jnp.float32(state.hyper["learning_rate"] * state.hyper["lr_scale"] * factor)

    def init(params: Params) -> OptimizerState:
        rules.check(params)
        _require_trainable(rules, params)
        hyper = {key: jnp.asarray(value, jnp.float32) for key, value in defaults.items()}
        return OptimizerState(jnp.zeros((), jnp.int32), hyper, scaling.init(_float32(params)))

    def update(grads: Params, state: OptimizerState, params: Params | None = None):
        if params is None:
            raise ValueError("update(grads, state, params) needs the parameters.")
        _require_trainable(rules, params)
        hyper = state.hyper
        g, w = _float32(grads), _float32(params)
        l1, l2, decay = (strength(key, w, hyper) for key in ("l1", "l2", "decay"))
        lr = rate(state)
        rates = _map_rows(lambda row: lr * row.lr_mult, rules, w)

        if clip is not None:
            g = _clip(g, clip)
        if l2_form == "coupled":
            g = add_l2(g, w, l2)
        if l1_form == "coupled":
            g = add_l1(g, w, l1)
        step, inner = scaling.update(g, state.inner, w, hyper=hyper)  # at learning rate 1
        step = jax.tree.map(lambda s, w, strength: s - strength * w, step, w, decay)
        if name == "lamb":
            step, _ = optax.scale_by_trust_ratio().update(step, optax.EmptyState(), w)
        updates = jax.tree.map(jnp.multiply, rates, step)
        if l1_form == "proximal":
            updates = proximal_l1(updates, w, jax.tree.map(jnp.multiply, rates, l1))

        updates = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, params)
        return updates, OptimizerState(optax.safe_increment(state.count), hyper, inner)

    def penalty(params: Params, state: OptimizerState) -> jax.Array:
        total = jnp.zeros((), jnp.float32)
        if l2_form == "loss":
            total += l2_penalty(params, strength("l2", params, state.hyper))
        if l1_form == "loss":
            total += l1_penalty(params, strength("l1", params, state.hyper))
        return total

    def regularization(params: Params, state: OptimizerState) -> jax.Array:
        l2_term = l2_penalty(params, strength("l2", params, state.hyper))
        l1s = strength("l1", params, state.hyper)
        # Reading every weight once more takes its time: not where all strengths are zero.
        l1_term = jax.lax.cond(
            jax.tree.reduce(jnp.maximum, l1s, jnp.float32(0)) > 0,
            lambda: l1_penalty(params, l1s),
            lambda: jnp.zeros((), jnp.float32),
        )
        return l2_term + l1_term

    return Optimizer(init, update, penalty, regularization, rate, rules, ema)


def with_hyper(state: OptimizerState, **values: jax.typing.ArrayLike) -> OptimizerState:
    """Return the state with hyperparameters replaced, as float32 arrays: nothing recompiles."""
    for key in values:
        if key not in state.hyper:
            near = difflib.get_close_matches(key, state.hyper, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"Unknown hyperparameter {key!r}; did you mean {near!r}? "
                f"This optimizer has {', '.join(sorted(state.hyper))}."
            )
    arrays = {key: jnp.asarray(value, jnp.float32) for key, value in values.items()}
    return state._replace(hyper={**state.hyper, **arrays})


def _clip(grads: Params, limit: float) -> Params:
    """Scale the gradients so that their global norm is at most `limit`."""
    norm = optax.tree.norm(grads)
    scale = jnp.minimum(1.0, limit / norm)  # norm 0 gives inf, hence 1
    return jax.tree.map(lambda g: g * scale, grads)


def _float32(tree: Params) -> Params:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def _map_rows(function: Callable[[Row], Any], rules: Rules, params: Params) -> Params:
    leaves, treedef = jax.tree.flatten(params)
    rows = [row for row in rules.table(params) if row.shape is not None]
    assert len(rows) == len(leaves)
    return jax.tree.unflatten(treedef, [function(row) for row in rows])


def _require(condition: bool, key: str, expected: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{key} must be {expected}, got {value!r}.")


def _require_trainable(rules: Rules, params: Params) -> None:
    frozen = [row.name for row in rules.table(params) if row.frozen and row.shape is not None]
    if frozen:
        raise ValueError(
            f"The rules freeze {', '.join(frozen)}, which the optimizer must not see: give it the "
            "trainable part, `split(params, rules.frozen(params))[0]`."
        )
