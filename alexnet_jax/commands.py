"""What the commands other than `train` print: each function returns a text."""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial
from pathlib import Path

import jax
import numpy as np

from alexnet_jax import assemble
from alexnet_jax.average_precision import CONFIDENT
from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.sources.base import Source
from alexnet_jax.leaves import digest, leaf_name
from alexnet_jax.parts import placed
from alexnet_jax.predict import predict_files
from alexnet_jax.restored import Restored, find_checkpoint, load
from alexnet_jax.train import parallel
from alexnet_jax.train.canvas import answer_canvas, eval_canvas
from alexnet_jax.train.checkpoint import load_arrays, read_meta, steps_in
from alexnet_jax.train.environment import environment
from alexnet_jax.train.evaluate import evaluate as evaluate_batches
from alexnet_jax.train.evaluate import predictions, ten_view_step
from alexnet_jax.weights import of_run, read, write


def evaluate(
    run: str, data: str | None, split: str, which: str, views: int, batch_size: int
) -> str:
    """Counts and metrics of a split; the same on any number of devices."""
    if views not in (1, 10):
        raise ValueError(f"views is {views}; expected 1 or 10")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    restored = load(run, which)
    p, task = restored.preprocessing, restored.task
    if views == 10 and task.name != "classification":
        raise ValueError(f"ten views are averaged for classification, not for {task.name}")
    source = _source_like(restored, data, split)
    mesh = parallel.make_mesh()
    state = jax.device_put(restored.state, parallel.replicated(mesh))
    step = partial(ten_view_step if views == 10 else eval_canvas, task=task, preprocessing=p)
    ways = mesh.shape[parallel.AXIS]
    reader = Reader(
        source.splits[split],
        canvas=p.canvas,
        workers=restored.config.input.workers,
        annotations=task.annotations,
    )

    def batches() -> Generator[dict, None, None]:
        size = -(-batch_size // ways) * ways
        return placed(evaluation_batches(reader, batch_size=size), mesh)

    compiled = parallel.mesh_eval(step, mesh, parallel.replicated(mesh))
    sums = evaluate_batches(compiled, state, batches())
    lines = [f"{restored.path}  on {source.name} {split}"]
    counts = task.counts(sums)
    if "correct" in counts:
        lines.append(f"correct  {counts['correct']} of {counts['count']}")
        counts = {}
    figures = counts | task.metrics(sums)
    if task.scores:
        answer = partial(answer_canvas, task=task, preprocessing=p)
        found = predictions(
            parallel.mesh_eval(answer, mesh, parallel.replicated(mesh)), state, batches()
        )
        figures |= task.score(found, restored.classes)
    lines += [f"{name:8} {value!r}" for name, value in figures.items()]
    notes = list(source.notes)
    if data is None and source.fingerprint != restored.meta["data"]["fingerprint"]:
        notes.append("the data are not those of the run: their fingerprint differs")
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _source_like(restored: Restored, data: str | None, split: str) -> Source:
    """The data of a run, or other `data` of the same classes; raises ValueError where these differ,
    or there is no such split."""
    config, task = restored.config, restored.task
    source = assemble.open_source(
        data or config.data,
        canvas=restored.preprocessing.canvas,
        seed=config.seed,
        data_dir=config.input.data_dir,
        annotations=task.annotations,
    )
    if (classes := task.classes(source)) != restored.classes:
        raise ValueError(
            f"{source.name} has the classes {', '.join(classes)}; the network was trained "
            f"on {', '.join(restored.classes)}"
        )
    if split not in source.splits:
        raise ValueError(f"{source.name} has no split {split!r}, only {', '.join(source.splits)}")
    return source


def predict(
    run: str, images: tuple[str, ...], format: str, top: int, out: str | None = None
) -> str:
    """Ranked classes of each picture, its boxes or its joints, and where the answer was drawn.

    Boxes as JSON are a list in COCO's results form, `image_id` being the path as it was given.
    """
    _check_format(format)
    if not images:
        raise ValueError("no pictures given; usage: predict RUN IMAGE...")
    if top < 1:
        raise ValueError(f"top is {top}; expected at least 1")
    restored = load(run)
    if out is not None and restored.task.name == "classification":
        raise ValueError(f"out is {out!r}, but of classification nothing is drawn; leave it out")
    answers = predict_files(restored, list(images), top, out)
    if format == "json" and restored.task.name == "detection":
        answers = [
            {"image_id": answer["image"], **said}
            for answer in answers
            for said in answer["predictions"]
        ]
    if format == "json":
        return json.dumps(answers, indent=2, ensure_ascii=False)
    lines = []
    for answer in answers:
        lines.append(answer["image"])
        lines += [
            f"  {_said(said)}"
            for said in answer["predictions"]
            if "bbox" not in said or said["score"] >= CONFIDENT
        ]
        lines += [f"  {name}: {path}" for name, path in answer.get("files", {}).items()]
    return "\n".join(lines)


def _said(said: dict) -> str:
    """One of the things that `predict` tells of a picture, in a line."""
    if "task" in said:
        return f"{said['task']}: {_said({k: v for k, v in said.items() if k != 'task'})}"
    if "joint" in said:
        score = f"  {said['score']:.0%}" if "score" in said else ""
        return f"{said['joint']:14} x {said['x']:.1f}  y {said['y']:.1f}{score}"
    share = next(said[name] for name in ("probability", "share", "score") if name in said)
    box = ", ".join(f"{number:.0f}" for number in said.get("bbox", ()))
    where = f"  x, y, width, height: {box}" if box else ""
    return f"{share:7.2%}  {said['class']}{where}"


def inspect(path: str, format: str) -> str:
    """Steps, metrics, versions, shapes, and the sha256 over the arrays of best and last."""
    _check_format(format)
    folder, best = find_checkpoint(path)
    steps = steps_in(folder)
    last = best if Path(path).name.isdigit() else steps[-1]
    meta = read_meta(folder, last)
    arrays = load_arrays(folder, best)
    digests = {
        name: digest(arrays if step == best else load_arrays(folder, step))
        for name, step in {"best": best, "last": last}.items()
    }
    facts = {
        "folder": str(folder.parent),
        "steps": steps,
        "best_step": best,
        "last_step": last,
        "stopper": meta["stopper"],
        "data": meta["data"],
        "task": meta["task"],
        "classes": meta["classes"],
        "spec": meta["spec"]["name"],
        "preprocessing": meta["preprocessing"],
        "format": meta["format"],
        "versions": meta["versions"],
        "devices": meta["devices"],
        "sha256": digests,
        "parameters": {
            leaf_name(path): list(x.shape)
            for path, x in jax.tree_util.tree_leaves_with_path(arrays["params"])
        },
    }
    if format == "json":
        return json.dumps(facts, indent=2, ensure_ascii=False)
    total = sum(int(np.prod(shape)) for shape in facts["parameters"].values())
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines.append(f"{name}" + (f" ({total:,} in all)" if name == "parameters" else ""))
            lines += [f"  {k:32} {v}" for k, v in value.items()]
        else:
            lines.append(f"{name:34} {value}")
    return "\n".join(lines)


def convert(source: str, target: str, spec: str | None) -> str:
    """Writes `source`, a run or a file of weights, as `target`, and tells what it holds."""
    if Path(source).expanduser().is_dir():
        if spec is not None:
            raise ValueError(f"{source} knows its spec; --spec is for files that do not")
        weights = of_run(load(source))
    else:
        weights = read(source, spec)
    write(weights, target)
    total = sum(x.size for x in jax.tree.leaves(weights.params))
    p = weights.preprocessing
    lines = [
        f"{source} -> {target}",
        f"{weights.spec.name}, {weights.spec.num_classes} classes, {total:,} parameters",
    ]
    if weights.absent:
        lines.append(f"without {', '.join(weights.absent)}, which the file does not have")
    if p is not None:
        lines.append(
            f"images: {p['size']} px out of {p['canvas']}, {p['channels']}, of 0..255, "
            f"mean {p['mean']}, std {p['std']}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in weights.notes)])


def doctor() -> str:
    """Devices, versions, and what is missing."""
    facts = environment()
    lines = [f"{name:12} {value}" for name, value in facts.items() if name != "versions"]
    lines += [f"{name:18} {version or 'missing'}" for name, version in facts["versions"].items()]
    if facts["backend"] == "cpu":
        lines.append("No accelerator: jax[cuda13] or jax[tpu] brings jax for a GPU or TPU.")
    return "\n".join(lines)


def _check_format(format: str) -> None:
    if format not in ("text", "json"):
        raise ValueError(f"format is {format!r}; expected text or json")
