"""Which examples a report shows: the best and the worst answers, by a score of each alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BEST, WORST = 6, 12


def best_and_worst(
    scores: np.ndarray, index: np.ndarray, said: Callable[[int], str]
) -> list[dict[str, Any]]:
    """[{"index", "rank", "said"}], as `findings` has them (base.py): the highest of scores [N], and
    the lowest, no example twice; `said` tells of a row of them. Those without a score, NaN, are
    left out."""
    order = [row for row in np.argsort(-scores, kind="stable") if np.isfinite(scores[row])]
    best = order[: min(BEST, len(order) // 2)]
    worst = order[len(best) :][::-1][:WORST]
    return [
        {"index": int(index[row]), "rank": rank, "said": said(int(row))}
        for rank, rows in (("best", best), ("worst", worst))
        for row in rows
    ]
