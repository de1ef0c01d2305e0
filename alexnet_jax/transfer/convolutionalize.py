"""A classifier's dense layer as the convolution it is, and back: the same numbers, reshaped.

Long, Shelhamer and Darrell 2015, arXiv:1411.4038, section 3.1.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from alexnet_jax.leaves import leaf_name, named_leaves


def in_form_of(own: Any, given: Any) -> Any:
    """`given` with each dense kernel [h * w * c, n] as [h, w, c, n] where `own` has that, and back.

    A dense layer reads its map in the order (row, column, channel), so that this is a reshape. What
    has another size is left as it is, for `merge_params` to refuse.
    """
    wanted = {name: tuple(leaf.shape) for name, leaf in named_leaves(own)}

    def turn(path: Any, leaf: Any) -> Any:
        shape = wanted.get(leaf_name(path), leaf.shape)
        ranks = {len(shape), len(leaf.shape)}
        same = shape[-1:] == leaf.shape[-1:] and np.prod(shape) == np.prod(leaf.shape)
        return np.reshape(leaf, shape) if ranks == {2, 4} and same else leaf

    return jax.tree_util.tree_map_with_path(turn, given)
