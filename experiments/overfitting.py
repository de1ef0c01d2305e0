#!/usr/bin/env python3
"""What helps a network that learns its few training images by heart?

    python experiments/overfitting.py

Dropout, L1, L2, elastic net, augmentation, early stopping, and all together, against no remedy at
all. The strength of each is chosen on one seed by validation; the test is reported on others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from answers import Row, chosen, compared, direction, markdown_table, pairs, publish, spread, values
from overfitting_figure import BINS, NONE, PROXIMAL, STOPPING, SUBGRADIENT, TOGETHER, figure
from stopping import replay
from sweeping import Sweeping, base_config, run_sweep, trained

from alexnet_jax.cache import keep_compiled
from alexnet_jax.config import Augment, Config
from alexnet_jax.leaves import named_leaves
from alexnet_jax.sweep import Outcome

NEAR = 1e-4  # what counts as nearly zero
SHIFT = {"crop": "random", "pad": 4, "pad_mode": "reflect"}
AUGMENTED = {
    "flip": Augment(flip=0.5),
    "flip, shift": Augment(flip=0.5, **SHIFT),
    "flip, shift, colour": Augment(flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3, **SHIFT),
}


@dataclass(frozen=True)
class Remedy:
    """The strengths that are tried, weakest first, and the settings that one means."""

    strengths: tuple[Any, ...]
    settings: Callable[[Any], dict[str, Any]]


# Decoupled decay and the proximal step stand outside the momentum, which makes of every pull on the
# gradient ten times as much: their strengths are ten times those of the others.
REMEDIES = {
    "dropout": Remedy((0.25, 0.5, 0.75), lambda s: {"model.dropout_rate": s}),
    "L2, loss term": Remedy(
        (0.01, 0.03, 0.1, 0.3), lambda s: {"optimizer.l2": s, "optimizer.l2_form": "loss"}
    ),
    "L2, coupled": Remedy((0.01, 0.03, 0.1), lambda s: {"optimizer.l2": s}),
    "L2, decoupled": Remedy((0.1, 0.3, 1.0), lambda s: {"optimizer.decay": s}),
    SUBGRADIENT: Remedy((0.0003, 0.001, 0.003), lambda s: {"optimizer.l1": s}),
    PROXIMAL: Remedy(
        (0.003, 0.01, 0.03), lambda s: {"optimizer.l1": s, "optimizer.l1_form": "proximal"}
    ),
    "elastic net": Remedy(
        (0.0003, 0.001, 0.003), lambda s: {"optimizer.l1": s, "optimizer.l2": 10 * s}
    ),
    "augmentation": Remedy(tuple(AUGMENTED), lambda s: {"augment": AUGMENTED[s]}),
}
COMBINED = ("dropout", "elastic net", "augmentation")
SHARES = (0.25, 0.5, 1.0)  # of the best strength of each, all together


@dataclass(frozen=True)
class Options(Sweeping):
    """What helps against overfitting?"""

    images: int | None = 200
    updates: int = 300
    out: str = "runs/experiments/overfitting"


def main(options: Options) -> None:
    base = base_config(options)
    tried = sum(len(remedy.strengths) for remedy in REMEDIES.values()) + len(SHARES)
    networks = tried + options.seeds * (len(REMEDIES) + 2)
    best: dict[str, Any] = {}

    def settings(remedy: str, strength: Any, seed: int, phase: str) -> dict[str, Any]:
        if remedy == NONE:
            return {"seed": seed}
        if remedy == TOGETHER:
            return {"seed": seed, **together(best, strength)}
        return {"seed": seed, **REMEDIES[remedy].settings(strength)}

    def strengths(remedies: dict[str, Sequence[Any]]) -> list[Row]:
        cases = [
            {"phase": "strengths", "remedy": remedy, "strength": strength, "seed": 0}
            for remedy, values in remedies.items()
            for strength in values
        ]
        rows, _ = run_sweep(
            options,
            base,
            cases,
            settings,
            splits=("validation",),
            evaluations=4,
            networks=networks,
            observe=weights,
        )
        best.update(strongest(rows))
        return rows

    tuned = strengths({name: remedy.strengths for name, remedy in REMEDIES.items()})
    tuned += strengths({TOGETHER: SHARES})
    cases = [
        {"phase": "remedies", "remedy": remedy, "strength": strength, "seed": seed}
        for remedy, strength in {NONE: 0, **best}.items()
        for seed in range(1, options.seeds + 1)
    ]
    rows, updates = run_sweep(
        options,
        base,
        cases,
        settings,
        splits=("validation", "test", "train"),
        evaluations=15,
        networks=networks,
        observe=weights,
    )
    publish(Path(options.out), *page(options, base, tuned, rows, updates))


def strongest(rows: Sequence[Row]) -> dict[str, Any]:
    """The strength of each remedy that is best in validation, of those that did not diverge."""
    best: dict[str, Row] = {}
    for row in trained(rows):
        so_far = best.setdefault(row["remedy"], row)
        if _merit(row) > _merit(so_far):
            best[row["remedy"]] = row
    return {remedy: row["strength"] for remedy, row in best.items()}


def _merit(row: Row) -> tuple[float, float]:
    return row["validation/top1"], -row["validation/loss"]


def together(best: dict[str, Any], share: float) -> dict[str, Any]:
    """The settings of a share of the best strength of each; augmentation stays as it is."""
    settings: dict[str, Any] = {}
    for remedy in COMBINED:
        strength = best.get(remedy)
        if strength is not None:
            part = strength if isinstance(strength, str) else share * strength
            settings |= REMEDIES[remedy].settings(part)
    return settings


def weights(outcome: Outcome) -> dict[str, Any]:
    """How large the weights of all kernels are: their norm, the share of them that is zero to the
    bit or nearly (all below 1e-4, those included), and how many lie in each of BINS."""
    kernels = jax.device_get(outcome.state.params)
    every = np.concatenate([w.ravel() for name, w in named_leaves(kernels) if "kernel" in name])
    sizes = np.abs(every.astype(np.float64))
    counts, _ = np.histogram(np.log10(sizes[sizes > 0]), BINS)
    return {
        "weights/norm": round(float(np.sqrt((sizes**2).sum())), 4),
        "weights/zero": float((sizes == 0).mean()),
        "weights/near_zero": float((sizes < NEAR).mean()),
        "histogram": {"weights": counts.tolist()},
    }


def stopped(row: Row, patience: int | None) -> dict[str, float]:
    """Scores of a curve where validation is best until patience ends it, as a run restores it."""
    curve = row["curve"]
    best = replay(curve["validation/top1"], mode="max", patience=patience).best
    names = ("seen/top1", "validation/top1", "test/top1", "test/loss")
    return {name: curve[name][best] for name in names} | {"step": curve["step"][best]}


def with_stopping(rows: Sequence[Row], patience: int | None) -> list[Row]:
    """The networks that did not diverge, with early stopping on those without a remedy as one more,
    and added to all together."""
    told = []
    for row in trained(rows):
        if row["remedy"] == NONE:
            told += [row, {**row, "remedy": STOPPING, **stopped(row, patience)}]
        elif row["remedy"] == TOGETHER:
            told.append({**row, **stopped(row, patience)})
        else:
            told.append(row)
    return [{**row, "gap": row["seen/top1"] - row["test/top1"]} for row in told]


def page(options: Options, base: Config, tuned: list[Row], rows: list[Row], updates: int) -> tuple:
    """(title, answer, figure, sections) for `publish`."""
    title = "What helps a network that learns its training images by heart?"
    patience = Config().patience
    told = with_stopping(rows, patience)
    order = sorted(
        dict.fromkeys(row["remedy"] for row in told), key=lambda r: mean(told, "test/top1", r)
    )
    lines = []
    for remedy in order:
        of = chosen(told, remedy=remedy)
        lines.append(
            [
                remedy,
                "" if remedy in (NONE, STOPPING) else f"{of[0]['strength']}",
                spread(values(of, "seen/top1")),
                spread(values(of, "test/top1")),
                f"{100 * mean(told, 'gap', remedy):.1f}",
                f"{mean(told, 'test/loss', remedy):.2f}",
                "" if remedy == NONE else against_none(told, "test/top1", remedy),
            ]
        )
    header = [
        "remedy",
        "strength",
        "right in training",
        "right in test",
        "gap, points",
        "test loss",
        "test against no remedy",
    ]
    lost = sorted({row["remedy"] for row in (*tuned, *rows)} - set(order))
    sections = (
        f"{options.told}, on {options.images} images of "
        f"`{options.data}`; {updates} updates of {options.batch_size} images, from a learning rate "
        f"of {options.learning_rate:g} by a cosine to zero. Mean and range of {options.seeds} "
        "initializations and orders of the same images.",
        markdown_table(header, lines),
        *([f"Diverged at every strength, or on every seed: {', '.join(lost)}."] if lost else []),
        "Strengths were chosen by validation on another seed (the panel in the middle below). "
        f"Early stopping is that of a run: the evaluation with the best validation until "
        f"{patience} in a row were no better; it trains nothing of its own. All together is "
        f"{', '.join(COMBINED)} and early stopping, at a share of the best strength of each. "
        "As a term of the loss L2 is clipped with the gradient, coupled it is added behind the "
        "clipping, where the same strength pulls more.",
        weights_section(told),
    )
    return title, answer(options, told), figure(tuned, told, order), sections


def mean(rows: Sequence[Row], name: str, remedy: str) -> float:
    return float(values(rows, name, remedy=remedy).mean())


def against_none(rows: Sequence[Row], name: str, remedy: str) -> str:
    return compared(*pairs(rows, name, {"remedy": remedy}, {"remedy": NONE}))


def answer(options: Options, rows: list[Row]) -> str:
    """The sentences that the numbers make."""
    alone = [r for r in dict.fromkeys(row["remedy"] for row in rows) if r not in (NONE, TOGETHER)]
    if not chosen(rows, remedy=NONE):
        return "Every network without a remedy diverged: there is nothing to compare with."
    told = [
        f"Without a remedy the network gives the right answer to "
        f"{spread(values(rows, 'seen/top1', remedy=NONE))} of its {options.images} training images "
        f"and to {spread(values(rows, 'test/top1', remedy=NONE))} of the test, a gap of "
        f"{100 * mean(rows, 'gap', NONE):.1f} points."
    ]
    if alone:
        best = max(alone, key=lambda remedy: mean(rows, "test/top1", remedy))
        told.append(
            f"Best alone in the test is {spoken(best)}: {against_none(rows, 'test/top1', best)}, "
            f"at a gap of {100 * mean(rows, 'gap', best):.1f} points."
        )
        better = [spoken(r) for r in alone if shown(rows, r) > 0]
        worse = [spoken(r) for r in alone if shown(rows, r) < 0]
        unclear = [spoken(r) for r in alone if shown(rows, r) == 0]
        told.append(
            f"Better on every seed than without: {', '.join(better) or 'none'}"
            + (f"; worse on every seed: {', '.join(worse)}" if worse else "")
            + (f"; not shown to be either: {', '.join(unclear)}" if unclear else "")
            + "."
        )
    if chosen(rows, remedy=TOGETHER):
        told.append(
            f"All together get {against_none(rows, 'test/top1', TOGETHER)}, at a gap of "
            f"{100 * mean(rows, 'gap', TOGETHER):.1f} points."
        )
    return " ".join(told)


def spoken(remedy: str) -> str:
    """A remedy's name inside a list."""
    return remedy.replace(",", "")


def shown(rows: Sequence[Row], remedy: str) -> int:
    """1 where the test is better than without a remedy on every seed, -1 worse, else 0."""
    return direction(*pairs(rows, "test/top1", {"remedy": remedy}, {"remedy": NONE}))


def weights_section(rows: Sequence[Row]) -> str:
    """Zeros, exact and near, and norms, in words."""
    told = []
    for remedy in (NONE, "L2, coupled", SUBGRADIENT, PROXIMAL):
        of = chosen(rows, remedy=remedy)
        if of:
            told.append(
                f"{remedy}: {spread(values(of, 'weights/zero'))} exactly zero, "
                f"{spread(values(of, 'weights/near_zero'))} below {NEAR:g}, "
                f"norm {values(of, 'weights/norm').mean():.1f}"
            )
    return f"The weights of all kernels at the end, by size. {'; '.join(told)}."


if __name__ == "__main__":
    keep_compiled()
    main(tyro.cli(Options, description=__doc__))
