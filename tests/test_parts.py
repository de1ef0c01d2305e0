"""Batches on their way to the devices: one ahead, in order, and closed with what they come from."""

from __future__ import annotations

import threading

import jax
import numpy as np
import pytest

from alexnet_jax.parts import placed
from alexnet_jax.train.parallel import make_mesh


def batch(number):
    return {"label": np.full(8, number, np.int32), "valid": np.ones(8, bool)}


def test_every_batch_comes_once_in_order_and_on_the_devices():
    mesh = make_mesh()
    found = list(placed((batch(number) for number in range(5)), mesh))
    assert [int(arrays["label"][0]) for arrays in found] == [0, 1, 2, 3, 4]
    assert all(isinstance(x, jax.Array) for arrays in found for x in arrays.values())
    assert found[0]["label"].sharding.mesh == mesh
    assert found[0]["valid"].dtype == bool


def test_the_next_batch_is_made_while_one_is_computed_with():
    making = threading.Event()

    def host():
        yield batch(0)
        making.set()
        yield batch(1)

    batches = placed(host(), make_mesh())
    next(batches)
    assert making.wait(timeout=60)
    batches.close()


def test_what_reading_raises_comes_at_its_own_batch():
    def host():
        yield batch(0)
        raise RuntimeError("cat/7.jpg: OSError: no such device")

    batches = placed(host(), make_mesh())
    assert int(next(batches)["label"][0]) == 0
    with pytest.raises(RuntimeError, match=r"cat/7\.jpg"):
        next(batches)


def test_closing_ends_what_the_batches_come_from():
    ended: list[bool] = []
    before = set(threading.enumerate())

    def host():
        try:
            for number in range(100):
                yield batch(number)
        finally:
            ended.append(True)

    batches = placed(host(), make_mesh())
    next(batches)
    batches.close()
    assert ended == [True]
    assert set(threading.enumerate()) <= before  # no thread is left
