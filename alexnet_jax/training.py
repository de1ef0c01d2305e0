"""From a Config to a finished run folder: begin or go on, train, test the best, report.

Everything that computes is a pure function from elsewhere; here they are put together with files,
signals and the screen.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import jax

from alexnet_jax.average_precision import coco_tools
from alexnet_jax.config import Config
from alexnet_jax.data.loader import Reader, evaluation_batches, refuse_bad
from alexnet_jax.meta import check_same, forms, make_meta
from alexnet_jax.optim.schedules import Plateau
from alexnet_jax.parts import (
    Parts,
    evaluate_split,
    evaluates_at,
    evaluation_size,
    frozen_up_to,
    make_parts,
    make_update,
    score_split,
    stage_for,
    train_batches,
    validation_metrics,
)
from alexnet_jax.report.against import read_run
from alexnet_jax.settings import to_json
from alexnet_jax.train import early_stopping
from alexnet_jax.train.checkpoint import Checkpoints, read_meta, steps_in
from alexnet_jax.train.early_stopping import Reason, Stopper
from alexnet_jax.train.environment import environment
from alexnet_jax.train.evaluate import sums_from_json
from alexnet_jax.train.loop import (
    INTERRUPTED,
    NonFiniteLoss,
    Position,
    fit,
)
from alexnet_jax.train.progress import Progress
from alexnet_jax.train.run import RunFolder, interruptible
from alexnet_jax.train.state import TrainState
from alexnet_jax.transfer.initial import given, initial_state
from alexnet_jax.watch import Watch


class TooManyBadImages(RuntimeError):
    """More training images are unreadable than the run puts up with."""


def train(config: Config, command: str) -> str:
    """Train until something ends it, and return why: a `Reason`, EPOCH_LIMIT or INTERRUPTED.

    `command` is what the user typed, to be told how to go on. An unfinished run in the run folder
    is gone on with, bit for bit; of a finished one only the report is drawn anew.

    Raises ValueError for settings that differ from those the run began with, RunLockedError where
    another process has the folder, NonFiniteLoss, TooManyBadImages; BadImage for one of validation
    or test, ImportError for a package that is missing, FileNotFoundError where `transfer.against`
    is no run.
    """
    if find_spec("matplotlib") is None:
        import_module("alexnet_jax.report.plots")  # it says now what the report will need
    parts = make_parts(config)
    config = parts.config
    _check_ready(parts)  # what cannot begin leaves no folder behind
    folder = RunFolder(config.run_dir)
    with folder.lock(), interruptible() as interrupt:
        if config.fresh:
            folder.clear()
        try:
            with Checkpoints(folder.path / "checkpoints", keep=config.run.keep) as checkpoints:
                at = _begin(parts, folder, checkpoints, command)
                at, reason = _fit(parts, folder, checkpoints, at, lambda: interrupt.requested)
        except NonFiniteLoss as error:  # here, where all that was saved is written
            raise NonFiniteLoss(_advice(str(error), folder)) from None
        if reason == INTERRUPTED:
            folder.say(f"Interrupted at step {at.step}, saved. Go on with:\n  {command}")
            return reason
        if reason == Reason.NON_FINITE and at.stopper.best_step is None:
            what = f"{config.stopping.monitor} is not finite at step {at.step}"
            raise NonFiniteLoss(_advice(what, folder))
        from alexnet_jax.finish import finish  # here: drawing takes half a second to import

        finish(parts, folder, at, reason, command)
        return reason


def _check_ready(parts: Parts) -> None:
    """Raise now what would otherwise end the run after an epoch, or after hours."""
    if parts.task.scores:
        coco_tools()
    _check_monitor(parts)
    for name, reader in parts.readers.items():
        if name != "train":
            refuse_bad(reader)  # known of a split in memory; of others see `_check_test`
    if parts.config.transfer.against is not None:
        read_run(parts.config.transfer.against)


def _begin(parts: Parts, folder: RunFolder, checkpoints: Checkpoints, command: str) -> Position:
    """The position to train from: that of the newest sound checkpoint, or the very start."""
    config = parts.config
    stopper = Stopper(
        mode=config.stopping.mode,
        patience=config.patience,
        min_delta=config.stopping.min_delta,
        threshold=config.stopping.threshold,
        check_finite=config.stopping.check_finite,
    )
    if checkpoints.steps():

        def target(step: int) -> TrainState:
            """Before arrays are compared: other settings may make others, and tell it better."""
            check_same(config, parts.source, read_meta(checkpoints.folder, step), folder)
            return stage_for(parts, step).target

        state, meta = checkpoints.restore(target)
        folder.rewind(int(state.step))
        stopper = dataclasses.replace(
            early_stopping.from_json(meta["stopper"]), patience=config.patience
        )
        plateau = Plateau(**meta["plateau"]) if meta["plateau"] else None
        running = sums_from_json(meta["running"])
        parts.readers["train"].bad.update(meta["bad_images"])
        folder.say(f"Going on from step {int(state.step)} of {folder.path}")
        if meta.get("forms") != forms(parts):
            folder.say(_OTHER_FORMS)
        return Position(state, int(state.step), stopper, plateau, running)

    folder.rewind(-1)
    folder.write_json("config.json", to_json(config))
    folder.write_json("environment.json", environment() | {"command": command})
    counts = ", ".join(f"{split} {len(reader)}" for split, reader in parts.readers.items())
    folder.say(f"{parts.task.net.spec.name} on {parts.source.name}: {counts}")
    for note in parts.source.notes:
        folder.say(f"note: {note}")
    _check_test(parts)
    state = parts.create()
    if config.init is not None:
        source = given(config.init)
        keep, classes = config.transfer.keep, parts.classes
        state, said = initial_state(source, state, keep, parts.preprocessing, classes)
        folder.say(said)
        folder.write_json("init.json", {**source.about, "said": said})
    plateau = None
    if config.plateau.factor is not None:
        plateau = Plateau(
            factor=config.plateau.factor,
            patience=config.plateau.patience,
            mode=config.stopping.mode,
        )
    return Position(state, 0, stopper, plateau)


def _fit(
    parts: Parts,
    folder: RunFolder,
    checkpoints: Checkpoints,
    at: Position,
    interrupted: Callable[[], bool],
) -> tuple[Position, str]:
    config, reader = parts.config, parts.readers["train"]
    batch_size, examples = config.batch_size, len(reader)
    started = {"time": time.monotonic(), "step": at.step}
    watch = Watch(parts, folder)

    def record(at: Position, row: dict[str, float]) -> None:
        seconds = time.monotonic() - started["time"]
        rate = (at.step - started["step"]) * batch_size / seconds
        started.update(time=time.monotonic(), step=at.step)
        place = {
            "step": at.step,
            "epoch": at.step * batch_size / examples,
            "examples": at.step * batch_size,
        }
        row = {**place, **row, "time/seconds": seconds, "time/images_per_second": rate}
        folder.append(row)
        events.write(row)
        best = " *" if at.stopper.best_step == at.step else ""
        folder.say(_line(row, parts.task.monitor[0], rate) + best)
        events.write({"step": at.step} | watch.look(at.state, row["train/loss"]))

    def check() -> None:
        check_bad_images(reader, config.input.bad_images)
        for name, why in reader.bad.items():
            told = f"{len(reader.bad)} of {len(reader)} training images cannot be read"
            watch.warn("bad images", f"{told} and do not count, such as {name}: {why}")

    def save(at: Position) -> None:
        best_step = at.stopper.best_step
        checkpoints.save(at.state, make_meta(parts, at), best_step=best_step)
        check()

    check()
    batches = train_batches(parts, at.step)
    many_cpus = jax.default_backend() == "cpu" and parts.mesh.size > 1
    events = folder.events(at.step)
    try:
        with Progress(parts.total_steps, start=at.step) as progress:
            numbers = itertools.count(at.step + 1)

            def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
                number = next(numbers)
                progress.update(number)
                stage = stage_for(parts, number)
                if number - 1 == stage.begin > 0:
                    folder.say(f"From step {number} on, {frozen_up_to(stage.freeze)}")
                if evaluates_at(parts, number):
                    watch.remember(state, stage)
                return make_update(parts, number, state, batch)

            return fit(
                at,
                step=step,
                batches=batches,
                evaluate=lambda state: evaluate_split(parts, state, "validation"),
                monitor=config.stopping.monitor,
                total_steps=parts.total_steps,
                evaluate_at=partial(evaluates_at, parts),
                record=record,
                save=save,
                interrupted=interrupted,
                metrics=parts.task.metrics,
                counts=parts.task.counts,
                score=lambda state: score_split(parts, state, "validation"),
                # Queued collectives on simulated CPU devices can dead-lock.
                in_flight=0 if many_cpus else 2,
            )
    finally:
        batches.close()
        events.close()


def check_bad_images(reader: Reader, limit: float) -> None:
    """Raises TooManyBadImages where more than `limit` of a split is unreadable."""
    if len(reader.bad) > limit * len(reader):
        named = "\n".join(f"  {name}: {why}" for name, why in list(reader.bad.items())[:10])
        raise TooManyBadImages(
            f"{len(reader.bad)} of {len(reader)} training images cannot be read, more than "
            f"{limit:.1%} (--input.bad-images):\n{named}"
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


def _line(row: dict[str, float], metric: str, rate: float) -> str:
    def told(part: str) -> str:
        """A score is of validation alone."""
        names = [name for name in ("loss", metric) if f"{part}/{name}" in row]
        return " ".join([part, *(f"{name} {row[f'{part}/{name}']:.4f}" for name in names)])

    both = f"{told('train')}  {told('validation')}"
    return f"epoch {row['epoch']:.2f}  step {row['step']}  {both}  {rate:.0f} images/s"


def _advice(what: str, folder: RunFolder) -> str:
    kept = steps_in(folder.path / "checkpoints")
    last = f"the last good checkpoint is of step {kept[-1]}" if kept else "nothing was saved yet"
    return (
        f"{what}; {last}, in {folder.path}. "
        "Try a lower --learning-rate, a warm-up (--schedule.warmup) or --optimizer.clip."
    )


_OTHER_FORMS = (
    "Convolutions take other forms here than where the run began (backend, number of devices or "
    "version): results agree up to rounding, not to the bit."
)
