"""A run's parts, put together from its Config: data, network, optimizer and compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alexnet_jax import assemble
from alexnet_jax.config import Config
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.rows import blank
from alexnet_jax.data.sources.base import Source, Subset
from alexnet_jax.optim.chain import Optimizer
from alexnet_jax.tasks.base import Task
from alexnet_jax.tasks.registry import task_type
from alexnet_jax.train import parallel
from alexnet_jax.train.canvas import answer_canvas, eval_canvas, train_canvas
from alexnet_jax.train.evaluate import HostSums, evaluate, predictions
from alexnet_jax.train.loop import crosses
from alexnet_jax.train.state import TrainState, init_state
from alexnet_jax.transfer.stages import Stage, enter, stage_of

EVALUATION_BATCH = 128  # at least; evaluation needs less memory than training does


class StageParts(NamedTuple):
    """What a stage of training (transfer/stages.py) has of its own: other parameters are frozen, so
    optimizer, state and step are others too. Without stages there is one."""

    begin: int  # updates done before its first
    freeze: str | None
    tx: Optimizer
    target: TrainState  # the abstract state, with where each array lives
    step: Any  # (state, batch) -> (state, metrics), compiled
    plain_step: Any  # the same, not compiled: for jax.vmap
    enter: Any  # the state of the stage before -> this stage's, compiled


class Parts(NamedTuple):
    """What a run is made of. `evaluate` and `predict` take what `without_optimizer` leaves of a
    state, so that they are compiled once for all stages."""

    config: Config  # with the task's own monitor where it names none
    source: Source
    readers: dict[str, Reader]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    task: Task
    total_steps: int
    mesh: Mesh
    stages: tuple[StageParts, ...]
    create: Callable[..., TrainState]  # (seed=config.seed) -> fresh state of the first stage
    evaluate: Any  # (state, batch) -> sums
    predict: Any  # (state, batch) -> answers and truth


def make_parts(config: Config) -> Parts:
    """Open the data and build the rest, as the config says.

    Raises ValueError or FileNotFoundError that names the setting or the file.
    """
    kind = task_type(config.task)
    preprocessing = assemble.make_preprocessing(config)
    source = assemble.open_source(
        config.data,
        canvas=preprocessing.canvas,
        seed=config.seed,
        data_dir=config.input.data_dir,
        annotations=kind.annotations,
    )
    classes = kind.classes(source)
    readers = _readers(config, source, preprocessing.canvas, kind.annotations)
    examples = len(readers["train"])
    task = assemble.make_task(config, assemble.make_spec(config, len(classes)), classes)
    config = assemble.with_monitor(config, task)
    total_steps = assemble.total_steps(config, examples)
    mesh = parallel.make_mesh(model=config.run.model_devices)
    parallel.check_batch_size(config.batch_size, mesh)

    shape = (preprocessing.size, preprocessing.size, 3)
    settings = assemble.make_augment(config, len(classes))

    def make_stage(stage: Stage) -> tuple[StageParts, Callable[..., TrainState]]:
        tx = assemble.make_optimizer(
            config, total_steps=total_steps, examples=examples, freeze=stage.freeze
        )

        def fresh(seed: Any) -> TrainState:
            return init_state(seed=seed, task=task, tx=tx, image_shape=shape)

        abstract = jax.eval_shape(fresh, np.uint32(0))
        place = parallel.state_sharding(abstract, mesh, tx.rules)
        step = partial(
            train_canvas,
            task=task,
            tx=tx,
            preprocessing=preprocessing,
            settings=settings,
            accumulate=config.run.accumulate,
        )
        made = StageParts(
            *stage,
            tx=tx,
            target=jax.tree.map(
                lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
                abstract,
                place,
            ),
            step=parallel.mesh_step(step, mesh, place),
            plain_step=step,
            enter=jax.jit(partial(enter, tx=tx), out_shardings=place),
        )
        compiled = jax.jit(fresh, out_shardings=place)
        return made, lambda seed=config.seed: compiled(np.uint32(seed))

    stages, creates = zip(*map(make_stage, assemble.make_stages(config, examples)), strict=True)
    forward = jax.tree.map(lambda x: x.sharding, without_optimizer(stages[0].target))
    evaluate_canvases = partial(eval_canvas, task=task, preprocessing=preprocessing)
    answer_canvases = partial(answer_canvas, task=task, preprocessing=preprocessing)
    return Parts(
        config=config,
        source=source,
        readers=readers,
        classes=classes,
        preprocessing=preprocessing,
        task=task,
        total_steps=total_steps,
        mesh=mesh,
        stages=stages,
        create=creates[0],
        evaluate=parallel.mesh_eval(evaluate_canvases, mesh, forward),
        predict=parallel.mesh_eval(answer_canvases, mesh, forward),
    )


def stage_for(parts: Parts, update: int) -> StageParts:
    """The stage that makes update number `update`, and hence the state at that step."""
    return parts.stages[stage_of(tuple(stage.begin for stage in parts.stages), update)]


def make_update(
    parts: Parts, update: int, state: TrainState, batch: dict
) -> tuple[TrainState, dict]:
    """Update number `update`, counted from 1, of the stage that it belongs to: (state, metrics)."""
    stage = stage_for(parts, update)
    if update - 1 == stage.begin > 0:
        state = stage.enter(state)
    return stage.step(state, batch)


def evaluates_at(parts: Parts, step: int) -> bool:
    """Whether an evaluation follows step number `step`: `run.evaluate_every` is over, or all is."""
    every = assemble.evaluation_interval(parts.config, len(parts.readers["train"]))
    return crosses(step, parts.config.batch_size, every) or step == parts.total_steps


def frozen_up_to(tap: str | None) -> str:
    """What a stage freezes, in words."""
    return "nothing is frozen" if tap is None else f"everything up to {tap} is frozen"


def without_optimizer(state: TrainState) -> TrainState:
    """What evaluation needs of a state; its shapes are the same in every stage."""
    return state.replace(opt_state=None)


def train_batches(parts: Parts, step: int) -> Generator[dict, None, None]:
    """The endless training batches from a step on, on the devices."""
    size = parts.config.batch_size
    batches = training_batches(
        parts.readers["train"], seed=parts.config.seed, position=step * size, batch_size=size
    )
    return placed(batches, parts.mesh)


def split_batches(parts: Parts, split: str) -> Generator[dict, None, None]:
    """A split's evaluation batches, on the devices."""
    batches = evaluation_batches(parts.readers[split], batch_size=evaluation_size(parts))
    return placed(batches, parts.mesh)


def evaluation_size(parts: Parts) -> int:
    """Rows of an evaluation batch: enough, and the same number for each device."""
    ways = parts.mesh.shape[parallel.AXIS]
    return -(-max(parts.config.batch_size, EVALUATION_BATCH) // ways) * ways


def validation_metrics(parts: Parts) -> tuple[str, ...]:
    """Names of what evaluation measures, found without computing anything."""
    batch = blank(parts.config.batch_size, parts.preprocessing.canvas, parts.task.annotations)
    state = without_optimizer(parts.stages[0].target)
    sums = jax.eval_shape(parts.evaluate, state, batch)
    nothing = jax.tree.map(lambda x: np.zeros(x.shape), sums)
    names = (*parts.task.metrics(nothing), *parts.task.scores)
    return tuple(f"validation/{name}" for name in names)


def evaluate_split(parts: Parts, state: TrainState, split: str) -> HostSums:
    """Exact sums of a whole split."""
    return evaluate(parts.evaluate, without_optimizer(state), split_batches(parts, split))


def predict_split(parts: Parts, state: TrainState, split: str) -> dict[str, Any]:
    """The answers for a whole split, and the truth."""
    return predictions(parts.predict, without_optimizer(state), split_batches(parts, split))


def score_split(
    parts: Parts, state: TrainState, split: str, answers: dict[str, Any] | None = None
) -> dict[str, float]:
    """The task's scores of a whole split, from its answers where they are known already; of a task
    without any, {} at once."""
    if not parts.task.scores:
        return {}
    known = predict_split(parts, state, split) if answers is None else answers
    return parts.task.score(known, parts.classes)


def split_figures(parts: Parts, state: TrainState, split: str) -> dict[str, float]:
    """The task's metrics and scores of a whole split."""
    sums = evaluate_split(parts, state, split)
    return parts.task.metrics(sums) | score_split(parts, state, split)


def row_batches(
    parts: Parts, split: str, rows: ArrayLike, batch_size: int
) -> Generator[dict, None, None]:
    """Evaluation batches of some examples of a split, on the devices."""
    reader = parts.readers[split]
    some = Reader(
        Subset(reader.split, np.asarray(rows)),
        canvas=reader.canvas,
        annotations=reader.annotations,
    )
    return placed(evaluation_batches(some, batch_size=batch_size), parts.mesh)


def sample_batch(parts: Parts, split: str, count: int) -> dict:
    """One batch of about `count` examples evenly spread over a split, which may be sorted."""
    ways = parts.mesh.shape[parallel.AXIS]
    size, examples = -(-count // ways) * ways, len(parts.readers[split])
    rows = np.linspace(0, examples - 1, min(size, examples)).round().astype(int)
    with closing(row_batches(parts, split, rows, size)) as batches:
        return next(batches)


def predict_rows(parts: Parts, state: TrainState, split: str, rows: list[int]) -> list[dict]:
    """The answers for some examples of a split, and the truth, one after the other."""
    batches = row_batches(parts, split, rows, evaluation_size(parts))
    found = predictions(parts.predict, without_optimizer(state), batches)
    return [{name: values[i] for name, values in found.items()} for i in range(len(rows))]


def placed(batches: Generator[dict, None, None], mesh: Mesh) -> Generator[dict, None, None]:
    """Host batches as arrays over the mesh; each process brings its own rows.

    A thread makes the next one and places it while this one is computed with. Whatever that raises
    comes at its own batch.
    """
    sharding = parallel.batch_sharding(mesh)

    def following() -> dict:  # empty after the last
        arrays = {
            name: jax.make_array_from_process_local_data(sharding, value)
            for name, value in next(batches, {}).items()
        }
        return jax.block_until_ready(arrays)

    with closing(batches), ThreadPoolExecutor(1, "place") as pool:
        coming = pool.submit(following)
        while batch := coming.result():
            coming = pool.submit(following)
            yield batch


def _readers(
    config: Config, source: Source, canvas: int, annotations: tuple[str, ...]
) -> dict[str, Reader]:
    """A reader of each split; crops out of files, and a limit of examples, are train's alone."""
    splits, crops = dict(source.splits), {"train": assemble.file_crop(config)}
    if config.input.examples is not None:
        count = min(config.input.examples, len(splits["train"]))
        splits["train"] = Subset(splits["train"], np.arange(count))
    return {
        name: Reader(
            split,
            canvas=canvas,
            workers=config.input.workers,
            memory=int(config.input.memory * 2**30),
            crop=crops.get(name),
            annotations=annotations,
        )
        for name, split in splits.items()
    }
