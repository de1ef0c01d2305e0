"""How `format_1/run` was made: python tests/train/make_format.py NEW_FOLDER

A checkpoint of the format that this version writes, of a tiny network after two real steps. What
lies in format_1 is never made again: it stands for the checkpoints that people have.
"""

from __future__ import annotations

import sys
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np

from alexnet_jax.config import Config, Input, Optimizer
from alexnet_jax.data.preprocess import Preprocessing, preprocess
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.spec import Conv, Spec
from alexnet_jax.optim.chain import optimizer
from alexnet_jax.settings import to_json
from alexnet_jax.tasks.classification import classification
from alexnet_jax.train import early_stopping
from alexnet_jax.train.checkpoint import Checkpoints
from alexnet_jax.train.loop import Position
from alexnet_jax.train.run import RunFolder
from alexnet_jax.train.state import TrainState, init_state
from alexnet_jax.train.step import train_step
from alexnet_jax.training import make_meta

NORM_POOL = ("normalization", "activation", "pool")
SPEC = Spec(
    name="tiny",
    image_size=40,
    convs=(
        Conv(4, 5, stride=2, then=NORM_POOL),
        Conv(4, 3, padding=(1, 1), groups=2, then=NORM_POOL),
        Conv(4, 3, padding=(1, 1), bias=0.1),
        Conv(4, 3, padding=(1, 1)),
        Conv(4, 3, padding=(1, 1), then=("activation", "pool")),
    ),
    dense=(8, 8),
    num_classes=2,
    normalization="batch",
)
CONFIG = Config(
    data="two/colours",
    batch_size=8,
    patience=3,
    optimizer=Optimizer(momentum=0.9, l2=5e-4, ema=0.5, rules=("^head/ lr_mult=2",)),
    input=Input(canvas=44, size=40),
)
PREPROCESSING = Preprocessing(44, 40, CONFIG.input.mean, CONFIG.input.std)
TASK = classification(AlexNet(SPEC))
TX = optimizer("sgd", learning_rate=0.01, momentum=0.9, l2=5e-4, ema=0.5)


def create() -> TrainState:
    return init_state(seed=7, task=TASK, tx=TX, image_shape=(40, 40, 3))


def main(path: str) -> None:
    rng = np.random.default_rng(0)
    step = jax.jit(partial(train_step, task=TASK, tx=TX))
    state = create()
    for _ in range(2):
        images = rng.integers(0, 256, (8, 44, 44, 3), np.uint8)
        batch = {"image": images, "label": rng.integers(0, 2, 8)}
        state, _ = step(state, preprocess(batch, PREPROCESSING))

    stopper = early_stopping.Stopper(mode="max", patience=3)
    for number, metric in ((1, 0.5), (2, 0.75)):
        stopper, _ = early_stopping.update(stopper, metric, number)
    source = SimpleNamespace(
        name="two/colours", version="1", fingerprint="00ff", classes=("green thing", "rød")
    )
    parts = SimpleNamespace(
        source=source,
        classes=source.classes,
        config=CONFIG,
        task=TASK,
        preprocessing=PREPROCESSING,
        readers={"train": SimpleNamespace(bad={"train/rød/0.png": "empty file"})},
    )
    at = Position(state, 2, stopper, running={"loss": (0.1 + 0.2, 8.0)})
    run = RunFolder(path)
    run.write_json("config.json", to_json(CONFIG))
    with Checkpoints(run.path / "checkpoints") as checkpoints:
        meta = make_meta(parts, at)  # type: ignore[arg-type]
        checkpoints.save(state, meta, best_step=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
