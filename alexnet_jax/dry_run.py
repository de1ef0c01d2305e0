"""What a run would be: parameters, rules, memory, a measured step, and how long it would take."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta
from functools import partial

import jax

from alexnet_jax.config import Config
from alexnet_jax.models.alexnet import convolution_forms
from alexnet_jax.models.spec import shapes
from alexnet_jax.optim.rules import format_table
from alexnet_jax.parts import evaluates_at, frozen_up_to, make_parts, split_figures, train_batches

STEPS = 5


def dry_run(config: Config) -> None:
    """Print it; writes nothing."""
    parts = make_parts(config)
    spec, p = parts.task.net.spec, parts.preprocessing
    print(f"{parts.source.name}: " + ", ".join(f"{n} {len(r)}" for n, r in parts.readers.items()))
    print(f"{parts.task.name}, classes: {', '.join(parts.classes)}")
    print(f"{spec.name} on {p.size}x{p.size} px, cut out of {p.canvas}x{p.canvas}:")
    forms = convolution_forms(parts.task.net, p.size, config.batch_size)
    images = jax.ShapeDtypeStruct((1, p.size, p.size, 3), parts.task.net.dtype)
    target = parts.stages[0].target
    variables = {"params": target.params, **target.model_state}
    _, taps = jax.eval_shape(partial(parts.task.net.apply, taps=True), variables, images)
    for tap in [tap for tap, _ in shapes(spec, p.size) if tap in taps]:
        shape = taps[tap].shape[1:]
        print(f"  {tap:8} {'x'.join(map(str, shape)):12} {forms.get(tap, '')}".rstrip())
    stage = parts.stages[0]
    print(format_table(stage.tx.rules.table(stage.target.params)))
    for later in parts.stages[1:]:
        print(f"from step {later.begin} on, {frozen_up_to(later.freeze)}")
    count = sum(x.size for x in jax.tree.leaves(stage.target.params))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(stage.target))
    print(f"{count:,} parameters; the state takes {size / 2**20:.1f} MiB")

    state = parts.create()
    batches = train_batches(parts, 0)
    began = time.perf_counter()
    step = stage.step.lower(state, next(batches)).compile()
    print(f"compiled in {time.perf_counter() - began:.1f} s")
    if (memory := step.memory_analysis()) is not None:
        print(f"a step needs {memory.temp_size_in_bytes / 2**20:.1f} MiB besides the state")
    seconds = []
    for _ in range(STEPS + 1):
        batch = next(batches)
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - began)
    batches.close()
    step_time = statistics.median(seconds[1:])
    split_figures(parts, state, "validation")
    began = time.perf_counter()
    split_figures(parts, state, "validation")
    evaluation = time.perf_counter() - began
    rate = config.batch_size / step_time
    print(
        f"a step of {config.batch_size} takes {1e3 * step_time:.1f} ms (median of {STEPS}), "
        f"{rate:.0f} images/s; an evaluation {evaluation:.1f} s"
    )
    evaluations = sum(evaluates_at(parts, n + 1) for n in range(parts.total_steps))
    total = parts.total_steps * step_time + evaluations * evaluation
    print(
        f"all {config.epochs:g} epochs: {parts.total_steps} steps and {evaluations} evaluations, "
        f"about {timedelta(seconds=round(total))}; early stopping may end it before"
    )
