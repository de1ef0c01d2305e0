from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from alexnet_jax.data.stream import indices, permutation, philox


def philox_words(key: tuple[int, int], counter: int) -> list[int]:
    """Philox 4x64-10 written out from Salmon et al. 2011, for one 256-bit counter."""
    mask = 2**64 - 1
    x = [(counter >> (64 * i)) & mask for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(b >> 64) ^ x[1] ^ k0, b & mask, (a >> 64) ^ x[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return x


def test_written_out_philox_gives_the_published_answers():
    # Random123's known answers for philox4x64-10: all zeros, all ones.
    assert philox_words((0, 0), 0) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]
    assert philox_words((2**64 - 1, 2**64 - 1), 2**256 - 1) == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]


@pytest.mark.parametrize(("seed", "epoch", "n"), [(0, 0, 10), (2**63 + 5, 3, 37)])
def test_permutation_sorts_the_words_of_philox_keyed_by_seed_and_epoch(seed, epoch, n):
    words = [w for block in range(1, n // 4 + 2) for w in philox_words((seed, epoch), block)][:n]
    assert permutation(seed, epoch, n).tolist() == sorted(range(n), key=words.__getitem__)


def test_every_example_comes_once_an_epoch_though_batches_straddle():
    n, batch = 10, 4
    stream = np.concatenate([indices(7, start, batch, n) for start in range(0, 6 * n, batch)])
    epochs = stream.reshape(6, n)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_any_position_is_a_slice_of_one_long_run():
    n = 23
    whole = indices(1, 0, 500, n)
    assert whole.dtype == np.int64
    for position, count in [(0, 1), (22, 2), (23, 23), (100, 200), (499, 1), (41, 0)]:
        assert (indices(1, position, count, n) == whole[position : position + count]).all()


def test_orders_are_uniform_over_epochs():
    counts = Counter(tuple(permutation(0, epoch, 3)) for epoch in range(6000))
    chi2 = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert len(counts) == 6 and chi2 < 20.5  # 99.9 % quantile at 5 degrees of freedom


def test_purposes_and_seeds_do_not_share_words():
    streams = [philox(s, n, p).random_raw(8) for s in (0, 1) for n in (0, 1) for p in (0, 1, 2)]
    assert len(np.unique(np.concatenate(streams))) == 8 * len(streams)


def test_an_order_handed_out_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        permutation(0, 0, 5)[0] = 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: permutation(-1, 0, 5), "seed is -1"),
        (lambda: permutation(0, 0, 0), "at least one"),
        (lambda: indices(0, -3, 5, 10), "position -3"),
    ],
)
def test_impossible_requests_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
