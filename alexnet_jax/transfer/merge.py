"""Put given parameters into a network's own, and let nothing be dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from alexnet_jax.leaves import differences, leaf_name, named_leaves

Params = Any


class Merged(NamedTuple):
    """`params` as merged; `kept` are names at their initialization, `left` were given in vain."""

    params: Params
    kept: tuple[str, ...]
    left: tuple[str, ...]


def merge_params(params: Params, given: Params, keep: Sequence[str] = ()) -> Merged:
    """`params` with the arrays of `given` in place of its own, in its dtypes, as NumPy arrays.

    Names are such as "backbone/conv1/kernel". Whatever matches one of the regular expressions
    `keep` stays as it is in `params`, whether `given` has it or not: `keep=("^head/",)` for a head
    of other classes, `("fc", "head")` for a file of convolutions alone.

    Raises ValueError where anything else is missing, superfluous or of another shape, with a list
    (- given, + expected), and where an expression of `keep` is none or matches no name.
    """
    own, new = dict(named_leaves(params)), dict(named_leaves(given))
    for pattern in keep:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        if not any(re.search(pattern, name) for name in {**own, **new}):
            raise ValueError(
                f"{pattern!r} matches no parameter, so nothing would be kept; there are "
                + ", ".join(own)
            )

    def stays(name: str) -> bool:
        return any(re.search(pattern, name) for pattern in keep)

    wanted = {name: leaf for name, leaf in own.items() if not stays(name)}
    offered = {name: leaf for name, leaf in new.items() if not stays(name)}
    if lines := differences(offered, wanted):
        missing = [name for name in wanted if name not in offered]
        hint = f"\nNot given, it would stay at its initialization: {', '.join(missing)}."
        raise ValueError(
            "the parameters given (-) are not those of this network (+):\n"
            + "\n".join(lines)
            + (hint if missing else "")
            + "\nName what is to stay at its initialization, such as '^head/', to load the rest."
        )

    def pick(path: Any, leaf: Any) -> Any:
        name = leaf_name(path)
        return np.array(offered[name], leaf.dtype) if name in offered else leaf

    return Merged(
        params=jax.tree_util.tree_map_with_path(pick, params),
        kept=tuple(name for name in own if name not in wanted),
        left=tuple(name for name in new if name not in offered),
    )
