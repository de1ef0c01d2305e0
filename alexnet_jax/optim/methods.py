"""optax's optimizers by name, brought to one form: the step at learning rate 1, without decay.

`method(...)` returns a transformation whose `update(grads, state, params, hyper=...)` gives the
step that is added to the parameters when the learning rate is 1. Learning rate, decoupled decay
and masks are the business of `chain`, the same for every method.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

_OURS = {
    "learning_rate": "it is the argument learning_rate",
    "momentum": "it is the argument momentum",
    "weight_decay": "use the argument decay, or l2 for the coupled form",
    "weight_decay_rate": "use the argument decay",
    "adam_weight_decay": "use the argument decay",
    "weight_decay_mask": "use rules",
    "mask": "use rules",
    "adam_learning_rate": "use rules with lr_mult",
}

_REFUSED = {
    **dict.fromkeys(
        ("fromage", "rprop", "madgrad", "cocob", "dadapt_adamw"),
        "its step is not proportional to the learning rate",
    ),
    **dict.fromkeys(
        ("schedule_free", "schedule_free_adamw", "schedule_free_sgd"),
        "it evaluates at other parameters than it trains",
    ),
    **dict.fromkeys(
        ("lbfgs", "momo", "momo_adam", "sophia", "dpsgd"),
        "it needs more than the gradient of the batch",
    ),
    "noisy_sgd": "it keeps a random state of its own",
    "optimistic_adam": "optax replaces it by optimistic_adam_v2",
}


def method(
    name: str, momentum: float | None, nesterov: bool, extra: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Return the method `name` at learning rate 1 and without weight decay.

    Raises:
      ValueError: if the name is unknown or cannot be used here, or if a setting is not one that
        optax's function of that name has.
    """
    if name == "sgd":
        if extra:
            raise ValueError(f"'sgd' takes no extra settings, got {', '.join(map(repr, extra))}.")
        if nesterov and momentum is None:
            raise ValueError("nesterov=True needs a momentum, such as momentum=0.9.")
        return _sgd(momentum is not None, nesterov)
    if name in _REFUSED:
        raise ValueError(f"The optimizer {name!r} of optax cannot be used here: {_REFUSED[name]}.")
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)[0]
        raise ValueError(
            f"Unknown optimizer {name!r}; did you mean {near!r}? Known are {', '.join(names())}."
        )
    alias = _alias(name)
    parameters = inspect.signature(alias).parameters
    accepted = [key for key in parameters if key not in _OURS]
    for key in extra:
        if key in _OURS:
            raise ValueError(f"extra of {name!r}: {key!r} cannot be given here: {_OURS[key]}.")
    options = dict(extra)
    if momentum is not None:
        options["momentum"] = momentum
    if nesterov:
        options["nesterov"] = True
    for key in options:
        if key not in parameters:
            instead = "; give momentum None" if key == "momentum" else ""
            raise ValueError(
                f"{name!r} has no setting {key!r}{instead}; it has {', '.join(accepted)}."
            )
    if name == "lamb":  # Adam with lamb's constants; the trust ratio follows the decay, in `chain`
        defaults = {key: parameters[key].default for key in accepted}
        return _ignore_hyper(optax.adam(1.0, **{**defaults, **options}))
    if "weight_decay" in parameters:
        options["weight_decay"] = 0.0
    return _ignore_hyper(alias(learning_rate=1.0, **options))


def names() -> list[str]:
    """Return the names that `method` takes."""
    candidates = {*vars(optax), *vars(optax.contrib)} - {*_REFUSED}
    return sorted(name for name in candidates if name.islower() and _alias(name) is not None)


def _alias(name: str) -> Any:
    """Return optax's function `name` if it builds an optimizer from a learning rate, or None."""
    function = vars(optax).get(name) or vars(optax.contrib).get(name)
    if name.startswith(("_", "scale_by_")) or not callable(function):
        return None
    return function if "learning_rate" in inspect.signature(function).parameters else None


def _sgd(with_momentum: bool, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    """Gradient descent whose momentum is read from the state's hyperparameters.

    `v = g + momentum * v` and the step is `-v`, or `-(g + momentum * v)` for Nesterov's form
    (Sutskever et al. 2013, as PyTorch and optax write it).
    """

    def init(params):
        return jax.tree.map(jnp.zeros_like, params) if with_momentum else optax.EmptyState()

    def update(g, velocity, params=None, *, hyper):
        if not with_momentum:
            return jax.tree.map(jnp.negative, g), velocity
        velocity = jax.tree.map(lambda g, v: g + hyper["momentum"] * v, g, velocity)
        ahead = jax.tree.map(lambda g, v: g + hyper["momentum"] * v, g, velocity)
        return jax.tree.map(jnp.negative, ahead if nesterov else velocity), velocity

    return optax.GradientTransformationExtraArgs(init, update)


def _ignore_hyper(method: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give an optax method the signature of ours."""

    def update(g, state, params=None, *, hyper):
        return method.update(g, state, params)

    return optax.GradientTransformationExtraArgs(method.init, update)
