"""A run's parts, put together from its Config: data, network, optimizer and compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax import assemble
from alexnet_jax.config import Config
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.sources.base import Source, Split, Subset
from alexnet_jax.optim.chain import Optimizer
from alexnet_jax.tasks.classification import Classification
from alexnet_jax.train import parallel
from alexnet_jax.train.canvas import eval_canvas, predict_canvas, train_canvas
from alexnet_jax.train.evaluate import HostSums, evaluate
from alexnet_jax.train.state import TrainState, init_state

EVALUATION_BATCH = 128  # at least; evaluation needs less memory than training does


class Parts(NamedTuple):
    """What a run is made of. `target` is the abstract state with where each array lives."""

    config: Config
    source: Source
    readers: dict[str, Reader]
    preprocessing: Preprocessing
    task: Classification
    tx: Optimizer
    total_steps: int
    mesh: Mesh
    target: TrainState
    create: Callable[[], TrainState]
    step: Any  # (state, batch) -> (state, metrics), compiled
    evaluate: Any  # (state, batch) -> sums
    predict: Any  # (state, batch) -> answers


def make_parts(config: Config) -> Parts:
    """Open the data and build the rest, as the config says.

    Raises ValueError or FileNotFoundError that names the setting or the file.
    """
    preprocessing = assemble.make_preprocessing(config)
    source = assemble.open_source(
        config.data,
        canvas=preprocessing.canvas,
        seed=config.seed,
        data_dir=config.input.data_dir,
    )
    readers = {
        name: Reader(
            _first(split, config.input.examples) if name == "train" else split,
            canvas=preprocessing.canvas,
            workers=config.input.workers,
            memory=int(config.input.memory * 2**30),
            crop=assemble.file_crop(config) if name == "train" else None,
        )
        for name, split in source.splits.items()
    }
    classes, examples = len(source.classes), len(readers["train"])
    task = assemble.make_task(config, classes)
    total_steps = assemble.total_steps(config, examples)
    tx = assemble.make_optimizer(config, total_steps=total_steps, examples=examples)
    mesh = parallel.make_mesh(model=config.run.model_devices)
    parallel.check_batch_size(config.batch_size, mesh)

    shape = (preprocessing.size, preprocessing.size, 3)
    create = partial(init_state, seed=config.seed, task=task, tx=tx, image_shape=shape)
    abstract = jax.eval_shape(create)
    place = parallel.state_sharding(abstract, mesh, tx.rules)
    step = partial(
        train_canvas,
        task=task,
        tx=tx,
        preprocessing=preprocessing,
        settings=assemble.make_augment(config, classes),
        accumulate=config.run.accumulate,
    )
    evaluate_canvases = partial(eval_canvas, task=task, preprocessing=preprocessing)
    predict_canvases = partial(predict_canvas, task=task, preprocessing=preprocessing)
    return Parts(
        config=config,
        source=source,
        readers=readers,
        preprocessing=preprocessing,
        task=task,
        tx=tx,
        total_steps=total_steps,
        mesh=mesh,
        target=jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            abstract,
            place,
        ),
        create=jax.jit(create, out_shardings=place),
        step=parallel.mesh_step(step, mesh, place),
        evaluate=parallel.mesh_eval(evaluate_canvases, mesh, place),
        predict=parallel.mesh_eval(predict_canvases, mesh, place),
    )


def train_batches(parts: Parts, step: int) -> Generator[dict, None, None]:
    """The endless training batches from a step on, on the devices."""
    size = parts.config.batch_size
    batches = training_batches(
        parts.readers["train"], seed=parts.config.seed, position=step * size, batch_size=size
    )
    return placed(batches, parts.mesh)


def split_batches(parts: Parts, split: str) -> Generator[dict, None, None]:
    """A split's evaluation batches, on the devices."""
    ways = parts.mesh.shape[parallel.AXIS]
    size = -(-max(parts.config.batch_size, EVALUATION_BATCH) // ways) * ways
    return placed(evaluation_batches(parts.readers[split], batch_size=size), parts.mesh)


def validation_metrics(parts: Parts) -> tuple[str, ...]:
    """Names of what evaluation measures, found without computing anything."""
    rows, side = parts.config.batch_size, parts.preprocessing.canvas
    batch = {
        "image": jax.ShapeDtypeStruct((rows, side, side, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((rows,), np.int32),
        "valid": jax.ShapeDtypeStruct((rows,), np.bool_),
        "index": jax.ShapeDtypeStruct((rows,), np.int32),
    }
    return tuple(f"validation/{m}" for m in jax.eval_shape(parts.evaluate, parts.target, batch))


def evaluate_split(parts: Parts, state: TrainState, split: str) -> HostSums:
    """Exact sums of a whole split."""
    return evaluate(parts.evaluate, state, split_batches(parts, split))


def placed(batches: Generator[dict, None, None], mesh: Mesh) -> Generator[dict, None, None]:
    """Host batches as arrays over the mesh; each process brings its own rows."""
    sharding = parallel.batch_sharding(mesh)
    with closing(batches):
        for batch in batches:
            yield {
                name: jax.make_array_from_process_local_data(sharding, value)
                for name, value in batch.items()
            }


def _first(split: Split, examples: int | None) -> Split:
    return split if examples is None else Subset(split, np.arange(min(examples, len(split))))
