"""Freeze a network up to one of its taps, as rules of the rule table."""

from __future__ import annotations

from typing import Any

from alexnet_jax.models.spec import Spec, shapes


def layers_up_to(spec: Spec, tap: str) -> tuple[str, ...]:
    """Names of the layers whose parameters a tap's value depends on: conv1, norm1, ..., fc6.

    Raises ValueError for a tap that the spec has not.
    """
    taps = spec.tap_names()
    if tap not in taps:
        raise ValueError(f"{spec.name!r} has no tap {tap!r}; there are {', '.join(taps)}")
    before = taps[: taps.index(tap) + 1]
    layers = [t for t, _ in shapes(spec, spec.image_size) if t in before and "pool" not in t]
    return tuple(
        name
        for layer in layers
        for name in (layer, layer.replace("conv", "norm").replace("fc", "norm"))
        if layer != "logits"
    )


def freeze_rules(spec: Spec, tap: str | None) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Entries for `Rules` that freeze everything up to `tap`; none for None.

    What is frozen is not differentiated and has no optimizer state; its batch statistics stand
    still and its dropout is off. Raises ValueError for an unknown tap, and for "logits", which
    would leave nothing to train.
    """
    if tap is None:
        return ()
    layers = layers_up_to(spec, tap)
    if tap == "logits":
        raise ValueError("freezing up to 'logits' would leave nothing to train")
    return ((f"^backbone/({'|'.join(layers)})/", {"frozen": True}),)
