"""The end of a run: the best checkpoint, tested once, and the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax.config import to_json
from alexnet_jax.data.decode import canvas, decode_rgb
from alexnet_jax.optim.rules import format_table
from alexnet_jax.parts import Parts, evaluate_split, predict_split, stage_for
from alexnet_jax.report.page import Mistake, RunSummary, page
from alexnet_jax.train.checkpoint import Checkpoints
from alexnet_jax.train.evaluate import confusion, means
from alexnet_jax.train.loop import EPOCH_LIMIT, Position
from alexnet_jax.train.run import RunFolder
from alexnet_jax.train.state import TrainState

WORST = 24  # mistakes that the report shows


def finish(parts: Parts, folder: RunFolder, at: Position, reason: str, command: str) -> None:
    """Test the best checkpoint, write results.json and report.html, and say where they are.

    What is there already for this end of the run is told again, not computed: the test split is
    read once.
    """
    best_step = at.step if at.stopper.best_step is None else at.stopper.best_step
    end = {"reason": reason, "best_step": best_step, "last_step": at.step}
    results = _known(folder)
    if {name: results.get(name) for name in end} != end:
        with Checkpoints(folder.path / "checkpoints") as checkpoints:
            state, _ = checkpoints.restore(stage_for(parts, best_step).target, step=best_step)
        splits = {
            s: _figures(parts, state, s) for s in ("validation", "test") if s in parts.readers
        }
        results = {**end, "splits": splits}
        summary = _summary(parts, folder, at, state, results, command)
        folder.write_text("report.html", page(summary))
        folder.write_json("results.json", results)
    for split, figures in results["splits"].items():
        folder.say(
            f"{split}: {figures['correct']} of {figures['count']} right "
            f"({figures['top1']:.2%}), loss {figures['loss']:.4f}"
        )
    folder.say(f"{reason}: best at step {best_step}, last step {at.step}")
    folder.say(f"report: {folder.path / 'report.html'}")


def _known(folder: RunFolder) -> dict[str, Any]:
    there = all((folder.path / name).exists() for name in ("results.json", "report.html"))
    return folder.read_json("results.json") if there else {}


def _figures(parts: Parts, state: TrainState, split: str) -> dict[str, float]:
    sums = evaluate_split(parts, state, split)
    correct, count = map(round, sums["top1"])
    return {"correct": correct, "count": count, **means(sums)}


def _summary(
    parts: Parts,
    folder: RunFolder,
    at: Position,
    state: TrainState,
    results: Mapping[str, Any],
    command: str,
) -> RunSummary:
    config, source = parts.config, parts.source
    split = "test" if "test" in parts.readers else "validation"
    answers = predict_split(parts, state, split)
    rows = folder.read()
    best = next((row for row in rows if row["step"] == results["best_step"]), None)
    params = state.params if state.ema is None else state.ema
    run, tx = folder.path, stage_for(parts, results["best_step"]).tx
    return RunSummary(
        title=f"{parts.task.net.spec.name} on {source.name}",
        monitor=config.stopping.monitor,
        stop_reason="COMPLETED" if results["reason"] == EPOCH_LIMIT else results["reason"],
        last_step=at.step,
        config=to_json(config),
        environment=folder.read_json("environment.json"),
        rows=rows,
        epochs=config.epochs,
        patience=config.patience,
        best_step=at.stopper.best_step,
        best_epoch=None if best is None else best["epoch"],
        results=results["splits"],
        classes=source.classes,
        confusion=confusion(answers["true"], answers["label"], len(source.classes)),
        mistakes=_mistakes(parts, split, answers),
        conv1=np.asarray(params["backbone"]["conv1"]["kernel"], np.float32),
        notes=source.notes,
        bad_images=tuple(f"{name}: {why}" for name, why in parts.readers["train"].bad.items()),
        parameters=format_table(tx.rules.table(state.params)),
        commands={
            "Go on, with more patience": _with(command, "--patience", 2 * (config.patience or 10)),
            "Evaluate": f"python -m alexnet_jax evaluate {run} --split {split}",
            "Predict": f"python -m alexnet_jax predict {run} IMAGE...",
            "Inspect": f"python -m alexnet_jax inspect {run}",
        },
    )


def _with(command: str, option: str, value: int) -> str:
    """The command with an option set, in place of the value that it may have for it."""
    words = shlex.split(command)
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if option not in (word, before) and not word.startswith(option + "=")
    ]
    return shlex.join([*kept, option, str(value)])


def _mistakes(parts: Parts, split: str, answers: dict[str, np.ndarray]) -> list[Mistake]:
    """The wrong answers that were given with most confidence."""
    probability = answers["probability"].max(axis=1)
    wrong = np.flatnonzero(answers["label"] != answers["true"])
    worst = wrong[np.argsort(-probability[wrong], kind="stable")][:WORST]
    source = parts.source.splits[split]
    return [
        Mistake(
            image=_picture(source[index], source.name(index), parts.preprocessing.canvas),
            true=int(answers["true"][row]),
            predicted=int(answers["label"][row]),
            probability=float(probability[row]),
            name=source.name(index),
        )
        for row in worst
        for index in (int(answers["index"][row]),)
    ]


def _picture(example: dict, name: str, size: int) -> np.ndarray:
    image = example["image"]
    return canvas(decode_rgb(image, name) if isinstance(image, bytes) else image, size)
