"""From a Config to a finished run folder: begin or go on, train, test the best, report.

Everything that computes is a pure function from elsewhere; here they are put together with files,
signals and the screen.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import jax

from alexnet_jax.begin import begin, prepare
from alexnet_jax.config import Config
from alexnet_jax.data.loader import Reader
from alexnet_jax.memory import give_back
from alexnet_jax.meta import make_meta
from alexnet_jax.parts import (
    Parts,
    evaluate_split,
    evaluates_at,
    frozen_up_to,
    make_parts,
    make_update,
    score_split,
    stage_for,
    train_batches,
)
from alexnet_jax.train.checkpoint import Checkpoints, steps_in
from alexnet_jax.train.early_stopping import Reason
from alexnet_jax.train.loop import INTERRUPTED, NonFiniteLoss, Position, fit
from alexnet_jax.train.progress import Progress
from alexnet_jax.train.run import RunFolder, interruptible, refuse_busy
from alexnet_jax.train.state import TrainState
from alexnet_jax.watch import Watch


class TooManyBadImages(RuntimeError):
    """More training images are unreadable than the run puts up with."""


def train(config: Config, command: str) -> str:
    """Train until something ends it, and return why: a `Reason`, EPOCH_LIMIT or INTERRUPTED.

    `command` is what the user typed, to be told how to go on. An unfinished run in the run folder
    is gone on with, bit for bit; of a finished one only the report is drawn anew.

    Raises what `prepare` does; ValueError for settings that differ from those the run began with,
    RunLockedError where another process has the folder, NonFiniteLoss, TooManyBadImages.
    """
    if find_spec("matplotlib") is None:
        import_module("alexnet_jax.report.plots")  # it says now what the report will need
    refuse_busy(config.run_dir)  # not only when all data are read
    parts = make_parts(config)
    config = parts.config
    first = prepare(parts)
    folder = RunFolder(config.run_dir)
    with folder.lock(), interruptible() as interrupt:
        if config.fresh:
            folder.clear()
        try:
            with Checkpoints(folder.path / "checkpoints", keep=config.run.keep) as checkpoints:
                at = begin(parts, folder, checkpoints, first, command)
                at, reason = _fit(parts, folder, checkpoints, at, lambda: interrupt.requested)
        except NonFiniteLoss as error:  # here, where all that was saved is written
            raise NonFiniteLoss(_advice(str(error), folder)) from None
        if reason == INTERRUPTED:
            folder.say(f"Interrupted at step {at.step}, saved. Go on with:\n  {command}")
            return reason
        if reason == Reason.NON_FINITE and at.stopper.best_step is None:
            what = f"{config.stopping.monitor} is not finite at step {at.step}"
            if math.isfinite(folder.read()[-1]["validation/loss"]):
                what += ", but the loss is: does validation show what is judged?"
                raise NonFiniteLoss(what)
            raise NonFiniteLoss(_advice(what, folder))
        from alexnet_jax.finish import finish  # here: drawing takes half a second to import

        last_step, stopper = at.step, at.stopper
        del at  # and with it the last state, for what is read now is the best one
        give_back()
        finish(parts, folder, stopper, last_step, reason, command)
        return reason


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
    give_back()  # what making or reading the state took
    try:
        with Progress(parts.total_steps, start=at.step) as progress:
            first = at.step + 1
            numbers = itertools.count(first)

            def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
                number = next(numbers)
                progress.update(number)
                if number == first + 1:
                    give_back()  # what compiling the step took
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
