"""What the experiments on transfer share: a source network, a data set B, and short trainings."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alexnet_jax.config import Config, Input, Transfer
from alexnet_jax.data.loader import Reader, training_batches
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.sources.base import Subset
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.parts import Parts, evaluate_split, make_update, placed
from alexnet_jax.recipes import recipe
from alexnet_jax.restored import load
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.features import Features, source_features
from alexnet_jax.transfer.initial import Given, initial_state


@dataclass(frozen=True)
class Transferring:
    """A source, data set B, and how long each network learns: the same for all."""

    source: str = "runs/street"
    """Run folder or file of weights that is transferred; `scripts/train` makes the default one."""
    data: str = "street/b"
    """The data set that has few labels."""
    seeds: int = 5
    """Draws of labelled images, each with its own initialization and order."""
    updates: int = 300
    """For every network, however few its images are."""
    batch_size: int = 32
    learning_rate: float | None = None
    """Of the first update, from which it falls to zero by a cosine; left out, the recipe's."""
    out: str = "runs/experiments"
    """The folder for results.json, figure.png and README.md."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.updates, self.batch_size) < 1:
            raise ValueError("seeds, updates and batch_size have to be at least 1")


def base_config(options: Transferring, source: Given) -> Config:
    """The source's network on data set B from scratch, trained as the options say.

    A run's own recipe is kept, augmentation included; a file's network gets that of `folder`.
    """
    if Path(options.source).expanduser().is_file():
        config = recipe("folder")
        config = replace(config, spec=source.net.spec.name)
        if not source.preprocessing:
            raise ValueError(f"{options.source} does not say how its images are to be prepared")
    else:
        config = load(options.source).config
    p = Preprocessing.from_json(source.preprocessing)
    return replace(
        config,
        data=options.data,
        init=None,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate or config.learning_rate,
        epochs=1,
        patience=None,
        transfer=Transfer(),
        schedule=Schedule("cosine", duration=options.updates),
        input=Input(canvas=p.canvas, size=p.size, mean=p.mean, std=p.std),
    )


def train(
    parts: Parts, rows: np.ndarray, *, updates: int, seed: int, source: Given | None
) -> float:
    """Train on some rows of the training split; the share of right answers in the test.

    The network begins with the parameters of `source` as the parts' config says, with fresh ones
    for None; what is fresh, the order and the augmentation follow from the seed. The state after
    the last update is what is judged: nothing is chosen by looking at validation or test.
    """
    train = parts.readers["train"]
    reader = Reader(Subset(train.split, rows), canvas=train.canvas, workers=train.workers)
    state = trained(parts, reader, updates=updates, seed=seed, source=source)
    right, count = evaluate_split(parts, state, judged_on(parts))["top1"]
    return right / count


def trained(
    parts: Parts, reader: Reader, *, updates: int, seed: int, source: Given | None
) -> TrainState:
    """The state after so many updates on a reader's examples, begun as `train` says."""
    config = parts.config
    state = parts.create(seed)
    if source is not None:
        state, _ = initial_state(source, state, config.transfer.keep, classes=parts.classes)
    batches = training_batches(reader, seed=seed, position=0, batch_size=config.batch_size)
    with closing(placed(batches, parts.mesh)) as batches:
        for update, batch in zip(range(1, updates + 1), batches, strict=False):
            state, _ = make_update(parts, update, state, batch)
    return state


def judged_on(parts: Parts) -> str:
    """The split that judges: validation only where there is no test, and then for nothing else."""
    return "test" if "test" in parts.readers else "validation"


def features(parts: Parts, source: Given, tap: str) -> dict[str, Features]:
    """{split: what the source's tap sees in it}; from disk where it was computed before."""
    return source_features(
        {"params": source.params, "batch_stats": source.batch_stats},
        parts.readers,
        parts.source.fingerprint,
        net=source.net,
        tap=tap,
        preprocessing=parts.preprocessing,
    )


def labels_of(parts: Parts) -> np.ndarray:
    """int [N], the labels of the training split."""
    split = parts.readers["train"].split
    return np.array([split[i]["label"] for i in range(len(split))])
