"""What a checkpoint tells besides its arrays, and whether a run may go on from it."""

from __future__ import annotations

import dataclasses

import jax

from alexnet_jax.config import Config, differences
from alexnet_jax.data.sources.base import Source
from alexnet_jax.models import spec as specs
from alexnet_jax.models.alexnet import convolution_forms
from alexnet_jax.parts import Parts
from alexnet_jax.settings import from_json, to_json
from alexnet_jax.train import early_stopping
from alexnet_jax.train.environment import versions
from alexnet_jax.train.evaluate import sums_to_json
from alexnet_jax.train.loop import Position
from alexnet_jax.train.run import RunFolder


def make_meta(parts: Parts, at: Position) -> dict:
    """What a checkpoint tells besides its arrays: enough to go on, and to use it elsewhere."""
    source, config = parts.source, parts.config
    return {
        "task": parts.task.name,
        "spec": specs.to_json(parts.task.net.spec),
        "forms": forms(parts),
        "classes": list(parts.classes),
        "preprocessing": parts.preprocessing.to_json(),
        "evaluated": "ema" if at.state.ema is not None else "params",
        "config": to_json(config),
        "stopper": early_stopping.to_json(at.stopper),
        "plateau": dataclasses.asdict(at.plateau) if at.plateau else None,
        "running": sums_to_json(at.running),
        "position": {"step": at.step, "examples": at.step * config.batch_size},
        "data": {
            "name": source.name,
            "version": source.version,
            "fingerprint": source.fingerprint,
        },
        "bad_images": parts.readers["train"].bad,
        "versions": versions(),
        "devices": jax.device_count(),
    }


def check_same(config: Config, source: Source, meta: dict, folder: RunFolder) -> None:
    """Raises ValueError where a run is gone on with under other settings than it began with, or on
    other data: field by field."""
    changed = differences(from_json(meta["config"], Config), config)
    if meta["data"]["fingerprint"] != source.fingerprint:
        changed.append(f"the content of {source.name} (fingerprint)")
    if changed:
        raise ValueError(
            f"the run in {folder.path} began with other settings:\n  "
            + "\n  ".join(changed)
            + "\nGive the same ones to go on with it, another --run-dir, or --fresh to start over."
        )


def forms(parts: Parts) -> dict[str, str]:
    """The form (models/kernels.py) that each convolution takes on this machine: where a run is gone
    on with under other forms, it agrees up to rounding and not to the bit."""
    return convolution_forms(parts.task.net, parts.preprocessing.size, parts.config.batch_size)
