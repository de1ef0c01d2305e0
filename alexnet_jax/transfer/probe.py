"""How much a frozen network's features tell: linear probe, nearest neighbours, few examples.

Pure NumPy, float64: a few thousand examples take a second, and nothing has to be tuned by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Strengths to choose from, in units of the features' mean squared length.
STRENGTHS = tuple(10.0**k for k in range(-6, 3))


class Probe(NamedTuple):
    """Scores are `values @ kernel + bias`: kernel [D, K], bias [K]; `strength` was chosen."""

    kernel: np.ndarray
    bias: np.ndarray
    strength: float


def linear_probe(
    values: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    views: int = 1,
) -> Probe:
    """Ridge regression of values [N, D] onto one-hot labels [N].

    The strength of the penalty is the one with most right answers on `validation` (values,
    labels); without it, of leave-one-out, which ridge regression gives in closed form (Golub,
    Heath and Wahba 1979). Among equals, the one whose scores are nearest to the one-hot labels.
    Every `views` rows are views of one picture, which is left out with all of them.

    Raises ValueError for a class without an example.
    """
    _check(values, labels, classes)
    x, mean = _centred(values)
    targets = np.eye(classes)[labels]
    middle = targets.mean(axis=0)
    eigenvalues, vectors = _principal(x)
    rotated = vectors.T @ (targets - middle)
    unit = max((x**2).sum() / len(x), np.finfo(float).tiny)

    best: tuple[tuple[int, float], float, np.ndarray] | None = None
    for strength in strengths:
        inverse = 1.0 / (eigenvalues + strength * unit)
        dual = vectors @ (inverse[:, None] * rotated)
        if validation is None:
            # The centring takes part of every left-out example, hence 1 / N more.
            shrunk = eigenvalues * inverse
            left = vectors.reshape(len(x) // views, views, -1)
            own = 1.0 / len(x) + (left * shrunk) @ left.swapaxes(1, 2)
            missed = targets - middle - vectors @ (shrunk[:, None] * rotated)
            rest = (1.0 + 1e-12) * np.eye(views) - own
            missed = np.linalg.solve(rest, missed.reshape(len(left), views, classes))
            scores = targets - missed.reshape(targets.shape)
            true = labels
        else:
            scores = (validation[0] - mean) @ (x.T @ dual) + middle
            true = validation[1]
        right = int((scores.argmax(axis=1) == true).sum())
        merit = right, -float(((scores - np.eye(classes)[true]) ** 2).sum())
        if best is None or merit > best[0]:
            best = merit, strength, dual
    assert best is not None
    kernel = x.T @ best[2]
    return Probe(kernel, middle - mean @ kernel, best[1])


def answers(probe: Probe, values: np.ndarray) -> np.ndarray:
    """The class of most score for values [N, D], int64 [N]."""
    return (values @ probe.kernel + probe.bias).argmax(axis=1)


def nearest_neighbours(
    values: np.ndarray, labels: np.ndarray, classes: int, queries: np.ndarray, count: int = 5
) -> np.ndarray:
    """The class that most of the `count` nearest of values [N, D] have, for queries [M, D].

    Nearest by the cosine; a vote weighs as much as the cosine, so that ties are rare.
    """
    _check(values, labels, classes)
    near = _unit(queries) @ _unit(values).T
    count = min(count, len(values))
    rows = np.argpartition(-near, count - 1, axis=1)[:, :count]
    votes = np.zeros((len(queries), classes))
    for column in rows.T:
        votes[np.arange(len(queries)), labels[column]] += near[np.arange(len(queries)), column]
    return votes.argmax(axis=1)


def few_per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of `count` examples of every class, drawn without replacement; fewer where it has fewer.

    Draws of one seed are nested: those of a smaller count are among those of a larger one.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(rows))


def _check(values: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if len(values) != len(labels):
        raise ValueError(f"{len(values)} rows of features for {len(labels)} labels")
    if absent := sorted(set(range(classes)) - set(labels.tolist())):
        raise ValueError(f"no training example of class {', '.join(map(str, absent))}")


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [R] above zero of x x^T and its eigenvectors [N, R], by the smaller product."""
    if len(x) <= x.shape[1]:
        eigenvalues, vectors = np.linalg.eigh(x @ x.T)
        kept = eigenvalues > len(x) * np.finfo(float).eps * eigenvalues[-1]
        return eigenvalues[kept], vectors[:, kept]
    eigenvalues, axes = np.linalg.eigh(x.T @ x)
    kept = eigenvalues > len(x) * np.finfo(float).eps * eigenvalues[-1]
    return eigenvalues[kept], x @ axes[:, kept] / np.sqrt(eigenvalues[kept])


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = values.astype(np.float64)
    mean = x.mean(axis=0)
    return x - mean, mean


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
