"""Learning rates that fall from the head down: early layers are more general, and move less.

Howard and Ruder 2018, arXiv:1801.06146, section 3.2, who divide by 2.6 from layer to layer.
"""

from __future__ import annotations

from typing import Any

from alexnet_jax.models.spec import Spec


def lr_decay_rules(spec: Spec, decay: float) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Entries for `Rules`: the head keeps its learning rate, each layer below has `decay` times
    that of the layer above; a layer that `depth` repeats counts as one. None for 1.0.

    Raises ValueError for a decay outside (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"lr_decay is {decay!r}; expected more than 0 and at most 1")
    if decay == 1:
        return ()
    below = len(spec.convs) + len(spec.dense)
    return tuple(
        (rf"^backbone/(conv|norm|fc){number}(_\d+)?/", {"lr_mult": decay ** (below + 1 - number)})
        for number in range(1, below + 1)
    )
