"""A confusion matrix as HTML, in the form that can be read at its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexnet_jax.report import inline, plots
from alexnet_jax.report.elements import figure, table


def matrix(counts: np.ndarray, classes: Sequence[str], of: str, unit: str = "examples") -> str:
    """Counts int [K, K] (true, predicted) as a picture, as the most confused pairs, or both.

    `of` is a sentence that says whose they are, such as "Split: test."; `unit` what was counted.
    """
    parts = []
    if len(classes) <= plots.MATRIX_CLASSES:
        numbers = f"; numbers: {unit}" if len(classes) <= plots.COUNTED_CLASSES else ""
        caption = f"{of} Colour: share of the true class{numbers}."
        picture = inline.svg(plots.confusion(counts, classes))
        parts.append(figure(picture, "Confusion matrix", caption=caption))
    if len(classes) > plots.COUNTED_CLASSES:
        pairs = plots.most_confused(counts, classes)
        rows = [(true, said, str(n), f"{100 * share:.1f} %") for true, said, n, share in pairs]
        header = ("true", "predicted", "count", "share of the true class")
        parts.append(table(header, rows, f"The most confused pairs. {of}", texts=2))
    return "".join(parts)
