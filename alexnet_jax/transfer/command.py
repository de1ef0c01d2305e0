"""What the command `probe` prints: how much a frozen network tells of another data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from alexnet_jax import assemble
from alexnet_jax.data.loader import Reader
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.tasks.classification import Classification
from alexnet_jax.transfer.features import source_features
from alexnet_jax.transfer.initial import given
from alexnet_jax.transfer.probe import (
    STRENGTHS,
    answers,
    few_per_class,
    linear_probe,
    nearest_neighbours,
)


def probe(
    source: str,
    data: str,
    tap: str,
    method: str,
    shots: tuple[int, ...],
    draws: int,
    neighbours: int,
    mirrored: bool = False,
    strength: float | None = None,
) -> str:
    """Right answers on the test split from a tap's features, for so many images of each class.

    `mirrored` takes every picture and its mirror image: both to learn from, and the mean of both to
    be judged by. `strength` is ridge regression's; None chooses it anew for every draw.
    """
    if method not in ("linear", "knn"):
        raise ValueError(f"method is {method!r}; expected linear or knn")
    if draws < 1 or neighbours < 1 or min(shots, default=-1) < 0:
        raise ValueError(
            f"draws is {draws}, neighbours {neighbours}, shots {shots}; expected at least 1 of the "
            "first two, and of the last one or more numbers of at least 0"
        )
    if strength is not None and (method == "knn" or not strength > 0):
        raise ValueError(
            f"strength is {strength} and method {method}; expected more than 0, and method linear"
        )
    variables, net, preprocessing = frozen_network(source)
    canvas, annotations = preprocessing.canvas, Classification.annotations
    found = assemble.open_source(data, canvas=canvas, seed=0, annotations=annotations)
    classes = len(Classification.classes(found))

    readers = {name: Reader(split, canvas=canvas) for name, split in found.splits.items()}
    how: dict[str, Any] = {"net": net, "tap": tap, "preprocessing": preprocessing}
    seen = [
        source_features(variables, readers, found.fingerprint, mirrored=mirror, **how)
        for mirror in (False, True)[: 1 + mirrored]
    ]
    labels = {name: one.labels for name, one in seen[0].items()}
    # [N, views, D] of each split
    features = {name: np.stack([view[name].values for view in seen], axis=1) for name in readers}
    means = {name: values.mean(axis=1) for name, values in features.items()}
    _, views, size = features["train"].shape
    judge = "test" if "test" in features else "validation"

    # Where validation is the judge, the strength must not be chosen on it.
    apart = (means["validation"], labels["validation"]) if judge == "test" else None
    strengths = STRENGTHS if strength is None else (strength,)

    def right(count: int, seed: int) -> tuple[float, float]:
        rows = few_per_class(labels["train"], count or len(labels["train"]), seed)
        values, true = features["train"][rows].reshape(-1, size), labels["train"][rows]
        known = values, np.repeat(true, views), classes
        if method == "knn":
            answer, chosen = nearest_neighbours(*known, means[judge], neighbours), 0.0
        else:
            fit = linear_probe(*known, validation=apart, strengths=strengths, views=views)
            answer, chosen = answers(fit, means[judge]), fit.strength
        return float((answer == labels[judge]).mean()), chosen

    column = "  strength" * (method == "linear")
    lines = [
        f"{source}: {net.spec.name} frozen up to {tap}, {size} features"
        + " of each picture and its mirror image" * mirrored,
        f"{method} on {found.name}, judged on {len(labels[judge])} images of "
        + ("test" if judge == "test" else "validation (no test split)"),
        (f"{'images a class':16} {'draws':>5} {'right':>8}  {'range':16}" + column).rstrip(),
    ]
    for count in shots:
        shares, chosen = zip(
            *[right(count, seed) for seed in range(draws if count else 1)], strict=True
        )
        spread = f"{min(shares):.1%} to {max(shares):.1%}" if count else ""
        line = f"{count or 'all':<16} {len(shares):5} {np.mean(shares):8.1%}  {spread:16}"
        if method == "linear":
            line += "  " + " to ".join(f"{s:g}" for s in sorted({min(chosen), max(chosen)}))
        lines.append(line.rstrip())
    fewest = np.bincount(labels["train"], minlength=classes).min()
    if max(shots) > fewest:
        lines.append(f"note: a class has {fewest} images; where more are asked for, all are taken")
    return "\n".join(lines)


def frozen_network(source: str) -> tuple[dict, AlexNet, Preprocessing]:
    """(variables, network, preprocessing) of a run, or of a file of weights that tells the last."""
    found = given(source)
    if not found.preprocessing:
        raise ValueError(f"{source} does not say how its images are to be prepared")
    variables = {"params": found.params, "batch_stats": found.batch_stats}
    return variables, found.net, Preprocessing.from_json(found.preprocessing)
