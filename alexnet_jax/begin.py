"""The beginning of a run: all that could stop it is looked at first, then it begins or goes on."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import NamedTuple

from alexnet_jax.average_precision import coco_tools
from alexnet_jax.data.loader import evaluation_batches, refuse_bad
from alexnet_jax.meta import check_same, forms
from alexnet_jax.optim.schedules import Plateau
from alexnet_jax.parts import Parts, evaluation_size, stage_for, validation_metrics
from alexnet_jax.report.against import read_run
from alexnet_jax.settings import to_json
from alexnet_jax.train import early_stopping
from alexnet_jax.train.checkpoint import Checkpoints, read_meta, steps_in
from alexnet_jax.train.early_stopping import Stopper
from alexnet_jax.train.environment import environment
from alexnet_jax.train.evaluate import sums_from_json
from alexnet_jax.train.loop import Position
from alexnet_jax.train.run import RunFolder
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.initial import given, initial_state

_OTHER_FORMS = (
    "Convolutions take other forms here than where the run began (backend, number of devices or "
    "version): results agree up to rounding, not to the bit."
)


class First(NamedTuple):
    """What a new run begins with."""

    state: TrainState
    origin: dict
    """What is known of the parameters that `init` brought, for init.json; empty without it."""


def prepare(parts: Parts) -> First | None:
    """What a new run begins with; None where the folder has one that is gone on with.

    Raises, before anything is written or deleted, what would otherwise end the run after an epoch,
    or after hours: ImportError, BadImage, ValueError, and FileNotFoundError where `init` or
    `transfer.against` is nothing that can be read.
    """
    config = parts.config
    if parts.task.scores:
        coco_tools()
    _check_monitor(parts)
    for name, reader in parts.readers.items():
        if name != "train":
            refuse_bad(reader)  # known of a split in memory; of others see `_check_test`
    if config.transfer.against is not None:
        read_run(config.transfer.against)
    if not config.fresh and steps_in(Path(config.run_dir) / "checkpoints"):
        return None
    _check_test(parts)
    return _first(parts)


def begin(
    parts: Parts, folder: RunFolder, checkpoints: Checkpoints, first: First | None, command: str
) -> Position:
    """The position to train from: that of the newest sound checkpoint, or the very start."""
    if checkpoints.steps():
        return _go_on(parts, folder, checkpoints)
    return _start(parts, folder, first or _first(parts), command)


def _first(parts: Parts) -> First:
    config, state = parts.config, parts.create()
    if config.init is None:
        return First(state, {})
    source = given(config.init)
    keep, classes = config.transfer.keep, parts.classes
    state, said = initial_state(source, state, keep, parts.preprocessing, classes)
    return First(state, {**source.about, "said": said})


def _start(parts: Parts, folder: RunFolder, first: First, command: str) -> Position:
    config = parts.config
    folder.rewind(-1)
    folder.write_json("config.json", to_json(config))
    folder.write_json("environment.json", environment() | {"command": command})
    counts = ", ".join(f"{split} {len(reader)}" for split, reader in parts.readers.items())
    folder.say(f"{parts.task.net.spec.name} on {parts.source.name}: {counts}")
    for note in parts.source.notes:
        folder.say(f"note: {note}")
    if first.origin:
        folder.say(first.origin["said"])
        folder.write_json("init.json", first.origin)
    stopper = Stopper(
        mode=config.stopping.mode,
        patience=config.patience,
        min_delta=config.stopping.min_delta,
        threshold=config.stopping.threshold,
        check_finite=config.stopping.check_finite,
    )
    plateau = None
    if config.plateau.factor is not None:
        plateau = Plateau(
            factor=config.plateau.factor,
            patience=config.plateau.patience,
            mode=config.stopping.mode,
        )
    return Position(first.state, 0, stopper, plateau)


def _go_on(parts: Parts, folder: RunFolder, checkpoints: Checkpoints) -> Position:
    config = parts.config

    def target(step: int) -> TrainState:
        """Before arrays are compared: other settings may make others, and tell it better."""
        check_same(config, parts.source, read_meta(checkpoints.folder, step), folder)
        return stage_for(parts, step).target

    state, meta = checkpoints.restore(target)
    step, stopper = int(state.step), early_stopping.from_json(meta["stopper"])
    folder.rewind(step)
    parts.readers["train"].bad.update(meta["bad_images"])
    folder.say(f"Going on from step {step} of {folder.path}")
    if meta.get("forms") != forms(parts):
        folder.say(_OTHER_FORMS)
    return Position(
        state,
        step,
        dataclasses.replace(stopper, patience=config.patience),
        Plateau(**meta["plateau"]) if meta["plateau"] else None,
        sums_from_json(meta["running"]),
    )


def _check_test(parts: Parts) -> None:
    """Read the test split once where it is not in memory, whose images are known already.

    Raises BadImage where one is unreadable: what shows only when a run is over cannot be mended
    without being other data than the run's.
    """
    reader = parts.readers.get("test")
    if reader is not None and not reader.in_memory:
        batches = evaluation_batches(reader, batch_size=evaluation_size(parts))
        collections.deque(batches, maxlen=0)


def _check_monitor(parts: Parts) -> None:
    monitor, own = parts.config.stopping.monitor, f"validation/{parts.task.monitor[0]}"
    if monitor.startswith("train/") or monitor in (own, "validation/loss"):
        return  # without tracing the evaluation, which every start would wait for
    if monitor not in (known := validation_metrics(parts)):
        raise ValueError(f"no metric is called {monitor!r}; there are {', '.join(known)}")
