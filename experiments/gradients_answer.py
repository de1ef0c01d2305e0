"""What gradients.py says of its networks, each at the best of its own learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from answers import Chance, Row, chosen, compared, pairs, values
from observing import BEFORE, LAST

if TYPE_CHECKING:
    from gradients import Options

GLOROT, HE = "glorot_normal", "he_normal"


def growth(best: list[Row], **case: Any) -> np.ndarray:
    """Activations before training, of the last hidden layer as a multiple of the first's."""
    found = [row["activation_norm"][BEFORE] for row in chosen(best, clip=None, **case)]
    return np.array([norms[-2] / norms[0] for norms in found])


def evenness(best: list[Row], **case: Any) -> np.ndarray:
    """The smallest gradient norm of a layer before training as a multiple of the largest."""
    found = [row["gradient_norm"][BEFORE] for row in chosen(best, clip=None, **case)]
    return np.array([min(norms) / max(norms) for norms in found])


def factor(factors: np.ndarray) -> str:
    """Factors as "0.12 (0.1 to 0.15)": geometric mean and range."""
    if not len(factors):
        return "diverged at every rate"
    mean = np.exp(np.log(factors).mean()) if (factors > 0).all() else 0.0
    return f"{mean:.2g} ({factors.min():.2g} to {factors.max():.2g})"


def answer(options: Options, best: list[Row], updates: int, chance: Chance) -> str:
    """The sentences that the numbers make."""
    deepest, told = options.depths[-1], []
    for activation in options.activations:
        case = {"activation": activation, "depth": deepest}
        found = {name: evenness(best, initializer=name, **case) for name in options.initializers}
        even = {name: shares.mean() for name, shares in found.items() if len(shares)}
        if even:
            most, least = (pick(even, key=even.__getitem__) for pick in (max, min))
            told.append(
                f"under {activation} {most} keeps gradients most even: the smallest of a layer is "
                f"{factor(found[most])} of the largest; {least} least: {factor(found[least])}"
            )
    sentences = []
    if told:
        count = len(chosen(best, depth=deepest)[0]["gradient_norm"][BEFORE])
        sentences.append(f"Before training, in {count} layers, {'; '.join(told)}.")
    sentences.append(learners(options, best, updates, chance))
    versus = [
        f"under {activation} at depth {depth} {compared(*pair(best, activation, depth))}"
        for activation in options.activations
        for depth in options.depths
    ]
    sentences.append(f"Right answers of {HE} against {GLOROT}: {'; '.join(versus)}.")
    sentences += [clipping(options, best, activation) for activation in options.clipped]
    return " ".join(sentences)


def learners(options: Options, best: list[Row], updates: int, chance: Chance) -> str:
    """With which initializers the deepest networks learn at all, and from how many starts."""
    deepest, told = options.depths[-1], []
    for activation in options.activations:
        case = {"activation": activation, "depth": deepest, "clip": None}
        found = {name: values(best, initializer=name, **case) for name in options.initializers}
        learned = {name: int((shares > chance.limit).sum()) for name, shares in found.items()}
        names = sorted((name for name in learned if learned[name]), key=lambda n: -learned[n])
        some = ", ".join(f"{name} from {learned[name]} of {len(found[name])}" for name in names)
        told.append(f"under {activation} {some or 'no initializer'}")
    return (
        f"At depth {deepest}, each at the best of its own learning rates, {updates} updates lead "
        f"beyond guessing from so many starts: {'; '.join(told)}."
    )


def clipping(options: Options, best: list[Row], activation: str) -> str:
    """For which initializers clipping is shown to change what the deepest networks learn."""
    case = {"activation": activation, "depth": options.depths[-1]}
    told = [
        f"under {name} {compared(*pairs(best, 'accuracy', *both))}"
        for name in (GLOROT, HE)
        for both in [[case | {"initializer": name, "clip": clip} for clip in (options.clip, None)]]
    ]
    return (
        f"Clipping the gradient to {options.clip:g} in the {activation} networks of depth "
        f"{options.depths[-1]}: {'; '.join(told)}."
    )


def pair(best: list[Row], activation: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of right answers under He's and under Glorot's initializer, seed by seed."""
    case = {"activation": activation, "depth": depth, "clip": None}
    return pairs(best, "accuracy", *(case | {"initializer": name} for name in (HE, GLOROT)))


def bounds(best: list[Row]) -> str:
    """How far apart layers move in networks that learn, and in the others."""
    learn, other = [], []
    for row in best:
        ratios = np.array(row["update_ratio"][LAST], float)
        if np.isfinite(ratios).all() and ratios.max() > 0:
            (learn if row["accuracy"] > 0.6 else other).append(ratios.min() / ratios.max())
    told = [
        f"the slowest layer of {who} moves {min(those):.1g} to {max(those):.1g} times as far as "
        f"the fastest (n = {len(those)})"
        for who, those in (
            ("networks that learn, to more than 60 %,", learn),
            ("networks that do not", other),
        )
        if those
    ]
    return f"In the last update, relative to their weights: {'; '.join(told)}." if told else ""
