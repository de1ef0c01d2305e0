"""What the experiments on training share: a small question on `street`, and its sweeps as rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jax
from answers import Row, chosen, collect_all, settings_of

from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Run
from alexnet_jax.models.spec import spec
from alexnet_jax.optim.schedules import Schedule
from alexnet_jax.parts import Parts, make_parts, train_batches
from alexnet_jax.sweep import Outcome, sweep

TRIAL = 10  # steps that are timed


@dataclass(frozen=True)
class Sweeping:
    """Networks, all trained for as many updates."""

    data: str = "street/a"
    spec: str = "small"
    size: int | None = 32
    """Side of the pictures in pixels; none for the spec's own."""
    images: int | None = None
    """Train on the first so many only."""
    seeds: int = 3
    """Initializations, each with its own order of images."""
    updates: int = 600
    """At most; fewer where this machine would need longer than `minutes`."""
    minutes: float = 10.0
    batch_size: int = 32
    learning_rate: float = 0.02
    out: str = "runs/experiments"
    """The folder for results.json, figure.png and README.md."""
    full: bool = False
    """At the size of the lecture's network, for an accelerator: notes_224, ten times the updates,
    however long that takes."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.updates, self.batch_size) < 1 or self.minutes <= 0:
            raise ValueError("seeds, updates, batch_size and minutes have to be more than 0")

    @property
    def network(self) -> tuple[str, int]:
        """Name of the spec, and the side of its pictures."""
        name, size = ("notes_224", None) if self.full else (self.spec, self.size)
        return name, size or spec(name).image_size

    @property
    def told(self) -> str:
        return "`{}` at {} pixels".format(*self.network)


def base_config(options: Sweeping) -> Config:
    """Plain training without any remedy: SGD with momentum, clipped, the rate falling to zero."""
    name, size = options.network
    return Config(
        data=options.data,
        spec=name,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        patience=None,
        model=Model(dropout_rate=0.0, normalization="none"),
        optimizer=Optimizer(momentum=0.9, clip=1.0),
        schedule=Schedule("cosine", warmup=20),
        augment=Augment(),
        input=Input(size=size, examples=options.images),
        run=Run(),
    )


def run_sweep(
    options: Sweeping,
    base: Config,
    cases: Sequence[Mapping[str, Any]],
    changes: Callable[..., dict[str, Any]],
    *,
    splits: Sequence[str] = ("validation", "test"),
    evaluations: int = 20,
    networks: float | None = None,
    observe: Callable[[Outcome], Mapping[str, Any]] | None = None,
    free: Sequence[str] = (),
) -> tuple[list[Row], int]:
    """Train every case with the base's settings and `changes(**case)`: (rows, updates of each).

    `networks` is how many networks of the base's size the whole experiment trains, where it trains
    others than these cases, too; `observe` adds figures of an outcome to its row.

    A row is {**case, "diverged_at", "curve": {metric: [value of each evaluation]}, and the last
    value of every metric}; it has no metrics where the case diverged before its first evaluation.
    `free` are the options that the rows do not depend on, besides those that no row does.
    Raises ValueError, before anything is trained, where the data lack one of the splits.
    """
    folder, parts = Path(options.out), make_parts(base)
    if lacking := [split for split in splits if split not in parts.readers]:
        raise ValueError(
            f"{base.data} has no {lacking[0]} images, which the experiment reports on; it has "
            f"{', '.join(parts.readers)}"
        )
    updates = updates_of(options, parts, networks or len(cases))
    config = lasting(base, updates, len(parts.readers["train"]), evaluations)

    def measure(missing: list[Mapping[str, Any]]) -> Iterator[tuple[int, dict]]:
        for outcome in sweep(config, [changes(**case) for case in missing], splits=splits):
            names = outcome.rows[0] if outcome.rows else ()
            curve = {name: [round(row[name], 6) for row in outcome.rows] for name in names}
            last = {name: values[-1] for name, values in curve.items()}
            seen = observe(outcome) if observe else {}
            yield (
                outcome.number,
                {"diverged_at": outcome.diverged_at, **last, **seen, "curve": curve},
            )

    return collect_all(folder, settings_for(options, updates, free), cases, measure), updates


def trained(rows: Sequence[Row]) -> list[Row]:
    """The rows that did not diverge."""
    return [row for row in rows if row["diverged_at"] is None]


def end_loss(row: Row) -> float:
    """In validation, at the end; infinite where the network diverged."""
    found = row.get("validation/loss")
    ended = row["diverged_at"] is None and found is not None and math.isfinite(found)
    return found if ended else math.inf


def best_rate(rows: Sequence[Row]) -> float | None:
    """That of the least loss in validation, in the sweep on seed 0; None where all diverged."""
    found = {row["rate"]: end_loss(row) for row in chosen(rows, seed=0)}
    finite = {rate: value for rate, value in found.items() if math.isfinite(value)}
    return min(finite, key=finite.__getitem__) if finite else None


def edge(rate: float | None, tried: Sequence[float]) -> str:
    """ "smallest" or "largest" where a best rate is that of those that were tried; else ""."""
    return {min(tried): "smallest", max(tried): "largest"}.get(rate, "") if rate else ""


def lasting(config: Config, updates: int, images: int, evaluations: int) -> Config:
    """The config for so many updates on so many training images, evaluated so many times.

    Both are counted in images, so that a case with another batch size sees and is judged after as
    many of them.
    """
    every = max(1, updates // evaluations) * config.batch_size
    epochs = updates * config.batch_size / images
    return replace(
        config, epochs=epochs, run=replace(config.run, evaluate_every=f"{every} examples")
    )


def updates_of(options: Sweeping, parts: Parts, networks: float) -> int:
    """What fits, of each network: as measured before, where a killed sweep goes on."""
    return settings_of(Path(options.out)).get("updates") or fitting(options, parts, networks)


def settings_for(options: Sweeping, updates: int, free: Sequence[str] = ()) -> dict[str, Any]:
    """What rows depend on besides their case; `free` are further options that none does."""
    free = ("out", "seeds", "minutes", *free)
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    return settings | {"updates": updates, "most_updates": options.updates}


def fitting(options: Sweeping, parts: Parts, networks: float) -> int:
    """Updates of each network, as measured on this machine and told."""
    state, batches = parts.create(), train_batches(parts, 0)
    times = []
    for _ in range(TRIAL + 2):
        batch, start = next(batches), time.monotonic()
        state, _ = parts.stages[0].step(state, batch)
        jax.block_until_ready(state)
        times.append(time.monotonic() - start)
    batches.close()
    step = min(times)  # the first compiles; what else runs here only ever adds
    most = options.updates * (10 if options.full else 1)
    fit = most if options.full else int(options.minutes * 60 / networks / step)
    updates = max(min(most, fit) // 20 * 20, 40)
    left = timedelta(seconds=round(networks * updates * step))
    print(f"A step takes {1e3 * step:.1f} ms: {networks:g} networks of {updates} updates, {left}")
    return updates


def images_of(config: Config) -> int:
    """How many images there are to train on."""
    return len(make_parts(config).readers["train"])
