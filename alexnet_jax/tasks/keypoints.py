"""How good joints are: PCK, PCKh, PDJ, PCP and the mean error, each as (sum, count).

A distance counts relative to the person's size. The torso is the longer of the two diagonals from a
shoulder to the other side's hip whose ends are visible: PDJ and FLIC take one of them (Sapp and
Taskar 2013; Toshev and Szegedy 2014, section 4.1), but which is visible depends on the mirror. A
person of whom neither can be seen does not count where the torso is the measure.

All functions take (y, x) and `visible`, [..., 14, 2] and bool [..., 14], and are pure and jittable.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.data.skeleton import DIAGONALS, HEAD, LIMBS

OF_TORSO = {"pck": 0.2, "pdj_0.1": 0.1, "pdj_0.5": 0.5}  # PDJ at 0.2 is this PCK
OF_HEAD = {"pckh": 0.5}
OF_LIMB = 0.5


def distances(said: Any, true: Any) -> Array:
    """[..., 14], in the joints' own unit."""
    return jnp.sqrt(((said - true) ** 2).sum(axis=-1))


def torso(true: Any, visible: Any) -> Array:
    """Its length [...]; 0 where it cannot be told."""
    return jnp.stack([_length(true, visible, pair) for pair in DIAGONALS]).max(axis=0)


def errors(said: Any, true: Any, visible: Any) -> Array:
    """Distances in torsos, [..., 14]; NaN where they do not count."""
    measure = torso(true, visible)[..., None]
    return jnp.where(visible & (measure > 0), distances(said, true) / measure, jnp.nan)


def scores(said: Any, true: Any, visible: Any) -> dict[str, tuple[Array, Array]]:
    """{name: (sum, count)} over all persons.

    `pck`: joints within 0.2 of the torso (Yang and Ramanan 2013, with the torso as the measure);
    `pdj_0.1`, `pdj_0.5`: within these parts of it; `pckh`: within half of the segment from neck to
    head top (Andriluka et al. 2014); `pcp`: limbs both of whose ends are within half of the limb's
    length (Ferrari et al. 2008, the strict form); `mean_error`: of distances, in pixels.
    """
    distance = distances(said, true)
    result = {"mean_error": (jnp.where(visible, distance, 0.0).sum(), visible.sum())}
    measures = (torso(true, visible), OF_TORSO), (_length(true, visible, HEAD), OF_HEAD)
    for measure, parts in measures:
        judged = visible & (measure > 0)[..., None]
        for name, part in parts.items():
            hits = judged & (distance <= part * measure[..., None])
            result[name] = (hits.sum(), judged.sum())
    ends = np.array(LIMBS)
    length = jnp.stack([_length(true, visible, limb) for limb in LIMBS], axis=-1)
    limbs = (length > 0) & (distance[..., ends] <= OF_LIMB * length[..., None]).all(axis=-1)
    result["pcp"] = (limbs.sum(), (length > 0).sum())
    return result


def _length(true: Any, visible: Any, pair: tuple[int, int]) -> Array:
    """Between two joints, [...]; 0 where one of them is not visible."""
    both = visible[..., pair[0]] & visible[..., pair[1]]
    return jnp.where(both, distances(true[..., pair[0], :], true[..., pair[1], :]), 0.0)
