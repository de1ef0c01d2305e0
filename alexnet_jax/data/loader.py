"""Batches of canvases, decoded by threads: a training batch is a pure function of (seed, position).

    train = Reader(source.splits["train"], canvas=256, workers=2)
    validation = Reader(source.splits["validation"], canvas=256, workers=2)
    for batch in training_batches(train, seed=0, position=step * 128, batch_size=128):
        state, metrics = step_function(state, batch)     # to resume, pass the next position
    for batch in evaluation_batches(validation, batch_size=128): ...     # every example once
    print(train.bad)                                     # {"cat/7.jpg": "empty file", ...}

What a batch holds stands in rows.py. Its arrays are fresh and never written after hand-over, since
`jax.device_put` may alias them. The number of workers changes the speed and nothing else. Their
threads end with the iterator: call its `close()`, or let go of it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alexnet_jax.data import decode
from alexnet_jax.data.rows import Batch, Cut, blank, fill_row
from alexnet_jax.data.sources.base import Split
from alexnet_jax.data.stream import CROP, indices, philox

MEMORY = 2**30  # bytes of decoded canvases that a reader may keep
PREFETCH = 2  # batches decoded ahead of the one in use
PADDING = -1  # the index of rows that fill up the last evaluation batch


@dataclass(frozen=True)
class Crop:
    """Random resized crops of the original image in place of its canvas; bounds as in `decode`."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


class Reader:
    """A split seen as canvases: decoded once if they fit in memory, else whenever they are drawn.

    Args:
        split: the examples.
        canvas: side S of the squares, in pixels.
        workers: threads that decode.
        memory: bytes the decoded split may take.
        crop: random crops for training, drawn from (seed, position). They need the original images,
            so nothing is kept in memory. With labels only.
        annotations: what is read of an example besides `image`: "label"; "segmentation"; "boxes",
            "box_label" and "box_ignore"; "joints" and "joint_visible", of one person.

    Attributes:
        bad: name -> reason for each image that could not be read; of a split in memory complete
            from the start, otherwise growing as batches are handed over. In training such rows are
            black and `valid` is False; evaluation refuses them.
    """

    def __init__(
        self,
        split: Split,
        *,
        canvas: int,
        workers: int = 2,
        memory: int = MEMORY,
        crop: Crop | None = None,
        annotations: tuple[str, ...] = ("label",),
    ):
        if min(len(split), canvas, workers) < 1:
            raise ValueError(
                f"{len(split)} examples, canvas {canvas}, workers {workers}: each must be 1 or more"
            )
        if crop is not None and annotations != ("label",):
            raise ValueError(
                f"random crops out of files move no {', '.join(annotations)}; crop the canvas "
                "instead (augment)"
            )
        self.split, self.canvas, self.workers, self.crop = split, canvas, workers, crop
        self.annotations = annotations
        self.bad: dict[str, str] = {}
        self._whole: Batch | None = None
        depth = 4 if "segmentation" in annotations else 3  # bytes a pixel
        if crop is None and len(split) * canvas * canvas * depth <= memory:
            (self._whole,) = self._decoded(iter([_Draw(np.arange(len(split)))]))

    def __len__(self) -> int:
        return len(self.split)

    @property
    def in_memory(self) -> bool:
        return self._whole is not None

    def batches(self, draws: Iterator[_Draw]) -> Generator[Batch, None, None]:
        """The batches of `draws`, in order."""
        if self._whole is None:
            return self._decoded(draws)
        return (_gather(self._whole, draw.rows) for draw in draws)

    def _decoded(self, draws: Iterator[_Draw]) -> Generator[Batch, None, None]:
        pending: deque[_Pending] = deque()
        with ThreadPoolExecutor(self.workers, "decode") as pool:
            try:
                for draw in draws:
                    pending.append(self._submit(pool, draw))
                    if len(pending) > PREFETCH:
                        yield self._finish(pending.popleft())
                while pending:
                    yield self._finish(pending.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, draw: _Draw) -> _Pending:
        count = len(draw.rows)
        batch = blank(count, self.canvas, self.annotations)
        batch["index"] = draw.rows.astype(np.int32)
        chunk = min(64, max(1, count // (4 * self.workers)))
        parts = (range(start, min(start + chunk, count)) for start in range(0, count, chunk))
        return _Pending(batch, [pool.submit(self._fill, batch, draw, part) for part in parts])

    def _finish(self, pending: _Pending) -> Batch:
        for future in pending.futures:
            self.bad = self.bad | future.result()  # anew, as others may be going over it
        return pending.batch

    def _fill(self, batch: Batch, draw: _Draw, part: range) -> dict[str, str]:
        """Decode some rows of a batch in place; returns the bad images among them."""
        bad = {}
        for row in part:
            index = int(draw.rows[row])
            if index == PADDING:
                continue
            name = self.split.name(index)
            try:
                fill_row(batch, row, self.split[index], name, self._cut(draw, row))
                batch["valid"][row] = True
            except decode.BadImage as error:
                bad[name] = str(error).removeprefix(f"{name}: ")
            except Exception as error:
                raise RuntimeError(f"{name}: {type(error).__name__}: {error}") from error
        return bad

    def _cut(self, draw: _Draw, row: int) -> Cut | None:
        """The random crop of a row, which depends on seed and position alone."""
        crop = self.crop
        if crop is None or draw.key is None:
            return None
        seed, position = draw.key
        rng = np.random.Generator(philox(seed, position + row, CROP))
        return lambda image, size: decode.random_resized_crop(
            image, size, rng, crop.scale, crop.ratio
        )


def training_batches(
    reader: Reader, *, seed: int, position: int, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Generator[Batch, None, None]:
    """The endless training stream from `position` (counted in examples) on, in full batches.

    Args:
        batch_size: rows of the global batch.
        shard: (process, processes); each process gets its contiguous share of every global batch.

    Raises:
        ValueError: a negative position, or a batch size that the processes cannot share.
        RuntimeError: reading failed in another way than by a bad image; it names the example and
            comes at its own batch.
    """
    mine = _share(batch_size, shard)
    if position < 0:
        raise ValueError(f"position {position} must not be negative")

    def draws() -> Iterator[_Draw]:
        for start in itertools.count(position, batch_size):
            rows = indices(seed, start, batch_size, len(reader))[mine]
            yield _Draw(rows, key=(seed, start + mine.start))

    return reader.batches(draws())


def evaluation_batches(
    reader: Reader, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Generator[Batch, None, None]:
    """Every example once, in order; black rows fill up the last batch, `valid` False there.

    Raises:
        BadImage: an image cannot be read. Evaluation counts every example or says which it cannot.
    """
    mine = _share(batch_size, shard)
    refuse_bad(reader)
    batches = -(-len(reader) // batch_size)
    rows = np.full(batches * batch_size, PADDING, np.int64)
    rows[: len(reader)] = np.arange(len(reader))
    draws = (_Draw(of_batch[mine]) for of_batch in rows.reshape(batches, batch_size))

    def checked() -> Generator[Batch, None, None]:
        with closing(reader.batches(draws)) as made:
            for batch in made:
                refuse_bad(reader)
                yield batch

    return checked()


class _Draw(NamedTuple):
    """A batch to make: the rows of the split, and (seed, position of the first row) in training."""

    rows: np.ndarray
    key: tuple[int, int] | None = None


class _Pending(NamedTuple):
    """A batch being made."""

    batch: Batch
    futures: list[Future[dict[str, str]]]


def _gather(whole: Batch, rows: np.ndarray) -> Batch:
    batch = {key: np.take(values, rows, axis=0, mode="wrap") for key, values in whole.items()}
    padding = rows == PADDING
    for values in batch.values():
        values[padding] = 0
    batch["index"] = rows.astype(np.int32)
    return batch


def _share(batch_size: int, shard: tuple[int, int]) -> slice:
    process, processes = shard
    if not 0 <= process < processes:
        raise ValueError(f"shard {shard}: the process must lie in 0 to {processes - 1}")
    if batch_size < 1 or batch_size % processes:
        raise ValueError(f"a batch of {batch_size} cannot be shared by {processes} processes")
    rows = batch_size // processes
    return slice(process * rows, (process + 1) * rows)


def refuse_bad(reader: Reader) -> None:
    """Raise BadImage where it is known already that one cannot be read."""
    if reader.bad:
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(reader.bad.items())[:10])
        raise decode.BadImage(
            f"{listed}: evaluation counts every example, and {len(reader.bad)} cannot be read; "
            "repair them or take them out of the data set"
        )
