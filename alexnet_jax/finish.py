"""The end of a run: the best checkpoint, tested once, and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.config import Config
from alexnet_jax.data.decode import decode_rgb
from alexnet_jax.data.framing import framing
from alexnet_jax.data.preprocess import center_crop
from alexnet_jax.optim.rules import format_table
from alexnet_jax.parts import (
    Parts,
    evaluate_split,
    predict_rows,
    predict_split,
    score_split,
    stage_for,
)
from alexnet_jax.report.against import read_run
from alexnet_jax.report.command import changed
from alexnet_jax.report.examples import Example
from alexnet_jax.report.page import Mistake, RunSummary, page
from alexnet_jax.report.transfer import TransferSummary
from alexnet_jax.settings import to_json
from alexnet_jax.tasks.multi import own
from alexnet_jax.train.checkpoint import Checkpoints
from alexnet_jax.train.early_stopping import Stopper
from alexnet_jax.train.loop import EPOCH_LIMIT
from alexnet_jax.train.run import RunFolder
from alexnet_jax.train.state import TrainState


def finish(
    parts: Parts, folder: RunFolder, stopper: Stopper, last_step: int, reason: str, command: str
) -> None:
    """Test the best checkpoint, write results.json and report.html, and say where they are.

    What results.json has already for this end of the run is not computed again: the test split is
    read once. The report is drawn anew from it, since it may be asked to show more.
    """
    best_step = last_step if stopper.best_step is None else stopper.best_step
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(stage_for(parts, best_step).target, step=best_step)
    end = {"reason": reason, "best_step": best_step, "last_step": last_step}
    results = _known(folder, end)
    if not results:
        results = {**end, **_judged(parts, state)}
        folder.write_json("results.json", results)
    summary = _summary(parts, folder, stopper, state, results, command)
    folder.write_text("report.html", page(summary))
    for split, figures in results["splits"].items():
        folder.say(f"{split}: {_described(figures, parts.task.monitor[0])}")
    folder.say(f"{reason}: best at step {best_step}, last step {last_step}")
    folder.say(f"report: {folder.path / 'report.html'}")


def _known(folder: RunFolder, end: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json holds, if it is of this very end of the run and lacks nothing; else {}.

    One that an earlier version wrote may lack the findings.
    """
    if not (folder.path / "results.json").exists():
        return {}
    results = folder.read_json("results.json")
    same = {name: results.get(name) for name in end} == end
    return results if same and ("findings" in results or "confusion" in results) else {}


def _judged(parts: Parts, state: TrainState) -> dict[str, Any]:
    """What results.json tells of the best checkpoint: metrics and scores of validation and test,
    and what the task finds in the split that `findings` names, which is test where there is one."""
    source = parts.source
    split = "test" if "test" in parts.readers else "validation"
    answers = predict_split(parts, state, split)
    findings = parts.task.findings(answers, parts.classes)
    splits = {}
    for name in ("validation", "test"):
        if name in parts.readers:
            sums = evaluate_split(parts, state, name)
            known = answers if name == split else None
            scores = score_split(parts, state, name, known)
            figures = {**parts.task.counts(sums), **parts.task.metrics(sums), **scores}
            # What nothing was counted of has no place in JSON: PCKh where no head is ever told.
            splits[name] = {what: x for what, x in figures.items() if not math.isnan(x)}
    if "confusion" in findings:
        of = {"split": split, "classes": list(parts.classes)}
        findings["confusion"] = of | findings["confusion"]
    return {
        "splits": splits,
        "data": {fact: getattr(source, fact) for fact in ("name", "version", "fingerprint")},
        "findings": split,
        **findings,
    }


def _described(figures: Mapping[str, float], metric: str) -> str:
    """A split's figures in a line."""
    good = f"{metric} {figures.get(metric, math.nan):.2%}"
    if "correct" in figures:
        good = f"{figures['correct']} of {figures['count']} right ({figures[metric]:.2%})"
    return f"{good}, loss {figures.get('loss', math.nan):.4f}"


def _summary(
    parts: Parts,
    folder: RunFolder,
    stopper: Stopper,
    state: TrainState,
    results: Mapping[str, Any],
    command: str,
) -> RunSummary:
    config, source = parts.config, parts.source
    split = results["findings"] if "findings" in results else results["confusion"]["split"]
    task, confusion = parts.task, results.get("confusion", {})
    rows = folder.read()
    best = next((row for row in rows if row["step"] == results["best_step"]), None)
    params = state.params if state.ema is None else state.ema
    run, tx = folder.path, stage_for(parts, results["best_step"]).tx
    return RunSummary(
        title=f"{task.net.spec.name} on {source.name}",
        metric=task.monitor[0],
        unit=confusion.get("unit", "examples"),
        monitor=config.stopping.monitor,
        stop_reason="COMPLETED" if results["reason"] == EPOCH_LIMIT else results["reason"],
        last_step=results["last_step"],
        config=to_json(config),
        environment=folder.read_json("environment.json"),
        rows=rows,
        epochs=config.epochs,
        patience=config.patience,
        best_step=stopper.best_step,
        best_epoch=None if best is None else best["epoch"],
        results=results["splits"],
        classes=tuple(confusion.get("classes", parts.classes)),
        confusion=np.asarray(confusion["counts"]) if confusion else None,
        per_class=results.get("per_class", {}),
        precision_at_recall=results.get("precision_at_recall", {}),
        mistakes=[_shown(parts, split, mistake) for mistake in results.get("mistakes", ())],
        examples=_examples(parts, state, split, results.get("examples", ())),
        key=results.get("key", {"": parts.classes}),
        conv1=np.asarray(params["backbone"]["conv1"]["kernel"], np.float32),
        notes=source.notes,
        bad_images=tuple(f"{name}: {why}" for name, why in parts.readers["train"].bad.items()),
        parameters=format_table(tx.rules.table(state.params)),
        commands={
            **go_on(config, results["reason"], command),
            "Evaluate": f"python -m alexnet_jax evaluate {run} --split {split}",
            "Predict": f"python -m alexnet_jax predict {run} IMAGE...",
            "Inspect": f"python -m alexnet_jax inspect {run}",
        },
        transfer=_transfer(parts, folder, results, command),
    )


def go_on(config: Config, reason: str, command: str) -> dict[str, str]:
    """{what it does: the command} that trains on from the end of a run, where one does."""
    if reason != EPOCH_LIMIT:
        more = {"--patience": 2 * (config.patience or 10)}
        return {"Go on, with more patience": changed(command, more)}
    if config.schedule.depends_on_total:
        return {}  # with more epochs it would have been another schedule from the start
    return {"Go on, for more epochs": changed(command, {"--epochs": f"{2 * config.epochs:g}"})}


def _transfer(
    parts: Parts, folder: RunFolder, results: Mapping[str, Any], command: str
) -> TransferSummary | None:
    config, transfer = parts.config, parts.config.transfer
    if config.init is None and not transfer.freeze and transfer.against is None:
        return None
    told = {} if config.init is None else {"from": config.init}
    if told and (folder.path / "init.json").exists():  # not where an earlier version began the run
        told = folder.read_json("init.json")
    scratch = f"{config.run_dir.rstrip('/')}_scratch"
    return TransferSummary(
        source=told,
        stages=[
            (stage.begin + 1, stage.tx.rules.table(stage.target.params)) for stage in parts.stages
        ],
        results=results,
        against=None if transfer.against is None else read_run(transfer.against),
        commands={
            "Train from scratch": changed(
                command, {"--run-dir": scratch}, without=("--init", "--transfer.")
            ),
            "Compare": changed(command, {"--transfer.against": scratch}),
        },
    )


def _shown(parts: Parts, split: str, mistake: Mapping[str, Any]) -> Mistake:
    source, index = parts.source.splits[split], mistake["index"]
    name = source.name(index)
    return Mistake(
        image=_picture(parts, source[index], name),
        true=mistake["true"],
        predicted=mistake["predicted"],
        probability=mistake["probability"],
        name=name,
    )


def _examples(
    parts: Parts, state: TrainState, split: str, told: Sequence[Mapping[str, Any]]
) -> list[Example]:
    """The examples that were chosen, answered once more to be drawn."""
    if not told:
        return []
    source, p = parts.source.splits[split], parts.preprocessing
    rows = [one["index"] for one in told]
    shown = []
    for one, answer in zip(told, predict_rows(parts, state, split, rows), strict=True):
        name = source.name(one["index"])
        image = center_crop(_picture(parts, source[one["index"]], name), p.size)
        drawn, task = parts.task.draw(image, answer), one.get("task", "")
        drawn = own(drawn, task) if task else drawn
        pictures = image, drawn["truth"], drawn["answer"]
        shown.append(Example(*pictures, one["rank"], one["said"], name, task))
    return shown


def _picture(parts: Parts, example: dict, name: str) -> np.ndarray:
    image = example["image"]
    image = decode_rgb(image, name) if isinstance(image, bytes) else image
    return framing(parts.task.annotations).image(image, parts.preprocessing.canvas)
