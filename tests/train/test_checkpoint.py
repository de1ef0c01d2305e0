"""Checkpoints: what was saved comes back to the bit, on any devices, or is called damaged."""

from __future__ import annotations

import gc
import logging
import random
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alexnet_jax.optim.chain import OptimizerState
from alexnet_jax.train.checkpoint import (
    CheckpointMismatch,
    Checkpoints,
    DamagedCheckpoint,
    load_arrays,
    read_meta,
    steps_in,
)
from alexnet_jax.train.state import TrainState

# Where one read of a damaged file fails, orbax leaves the others behind, unfinished.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def orphans_end_here():
    yield
    gc.collect()


def state_of(step: int, classes: int = 3) -> TrainState:
    """A state of several types, all of whose numbers depend on the step."""
    rng = np.random.default_rng(step)
    params = {
        "backbone": {"conv1": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 3, 99)), jnp.float32)}},
        "head": {
            "kernel": jnp.asarray(rng.normal(size=(4, classes)), jnp.bfloat16),
            "bias": jnp.asarray(rng.normal(size=classes), jnp.float32),
        },
    }
    trace = jax.tree.map(lambda x: x + 1, {**params, "head": {"kernel": None, "bias": None}})
    return TrainState(
        step=jnp.int32(step),
        params=params,
        model_state={"batch_stats": {"norm1": {"mean": jnp.float32([step, np.pi])}}},
        opt_state=OptimizerState(jnp.int32(step), {"l2": jnp.float32(0.1)}, (trace, ())),
        ema=None,
        seed=jnp.uint32(4_000_000_000),
    )


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


ABSTRACT = jax.eval_shape(lambda: state_of(0))


def save(folder, *steps, keep=9):
    with Checkpoints(folder, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(state_of(step), {"note": step})


# ---- what is kept --------------------------------------------------------------------------------


def test_state_and_meta_come_back_to_the_bit(tmp_path):
    meta = {"best": 0.1 + 0.2, "nan": float("nan"), "running": {"loss": (1e-300, 3)}, "name": "rød"}
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        checkpoints.save(state_of(7), meta, best_step=7)
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [7]
        for state, back in (checkpoints.restore(ABSTRACT), checkpoints.restore(ABSTRACT, step=7)):
            assert_same(state, state_of(7))
            assert np.isnan(back.pop("nan"))
            expected = {**meta, "running": {"loss": [1e-300, 3]}, "format": 1, "best_step": 7}
            assert {k: v for k, v in back.items() if k in expected} == {
                k: v for k, v in expected.items() if k != "nan"
            }


@pytest.mark.parametrize("reopen", [False, True])
def test_the_latest_stay_and_the_best_whatever_its_age(tmp_path, reopen):
    """The metric is best at step 2 and gets worse ever after."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 8):
        checkpoints.save(state_of(step), {}, best_step=min(step, 2))
        if reopen:
            checkpoints.close()
            checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.close()
    assert steps_in(tmp_path) == [2, 6, 7]
    assert_same(load_arrays(tmp_path, 2)["params"], jax.device_get(state_of(2).params))


def test_what_a_run_may_fall_back_to_still_has_its_best(tmp_path):
    """Step 4 is a new best and is damaged: for step 3, the best is step 1."""
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4)):
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            checkpoints.save(state_of(step), {}, best_step=best)
    assert steps_in(tmp_path) == [1, 3, 4]
    flip(tmp_path / "4")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        _, meta = checkpoints.restore(ABSTRACT)
        assert_same(checkpoints.restore(ABSTRACT, step=meta["best_step"])[0], state_of(1))
        for step in (4, 5):
            checkpoints.save(state_of(step), {}, best_step=4)
    assert steps_in(tmp_path) == [4, 5]


def test_saving_a_step_again_changes_nothing(tmp_path):
    save(tmp_path, 1, 2)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        checkpoints.save(state_of(1).replace(seed=jnp.uint32(0)), {"note": "another"})
        checkpoints.restore(ABSTRACT)
        checkpoints.save(state_of(2).replace(seed=jnp.uint32(0)), {"note": "another"})
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_a_state_may_be_donated_as_soon_as_it_is_saved(tmp_path):
    advance = jax.jit(
        lambda s: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), s), donate_argnums=0
    )
    state = state_of(0).replace(params={"fc6": {"kernel": jnp.zeros((512, 1024))}})
    advance(state)
    assert state.params["fc6"]["kernel"].is_deleted()  # where nobody holds it

    state = state_of(0).replace(params={"fc6": {"kernel": jnp.zeros((512, 1024))}})
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for _ in range(5):
            checkpoints.save(state, {})
            state = advance(state)
    for step in range(5):
        assert np.all(load_arrays(tmp_path, step)["params"]["fc6"]["kernel"] == step)


def test_a_failed_write_is_told(tmp_path, monkeypatch, capfd):
    async def fail(self, x, directory):
        raise OSError("no space left on device")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", fail)
    checkpoints.save(state_of(1), {})
    said = re.escape(f"cannot be written to {tmp_path}: no space left on device; those of the")
    with pytest.raises(OSError, match=said):
        checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err
    assert steps_in(tmp_path) == []


# ---- damage --------------------------------------------------------------------------------------


def arrays_file(folder: Path) -> Path:
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(folder: Path) -> None:
    """Flip one bit in the middle of the arrays, which orbax itself does not notice."""
    path = arrays_file(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    "a flipped bit": flip,
    "a truncated data file": lambda f: truncate(arrays_file(f)),
    "a missing data file": lambda f: arrays_file(f).unlink(),
    "a truncated index": lambda f: truncate(next((f / "state" / "d").iterdir())),
    "a missing manifest": lambda f: (f / "state" / "manifest.ocdbt").unlink(),
    "truncated metadata": lambda f: truncate(f / "state" / "_METADATA"),
    "an empty folder": empty,
    "no meta": lambda f: shutil.rmtree(f / "meta"),
    "a truncated meta": lambda f: truncate(f / "meta" / "metadata"),
    "no state": lambda f: shutil.rmtree(f / "state"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_of_a_damaged_newest_one_the_one_before_is_taken(tmp_path, damage, caplog):
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "3")
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        with caplog.at_level(logging.WARNING):
            state, meta = checkpoints.restore(ABSTRACT)
        assert_same(state, state_of(2))
        assert meta["note"] == 2
        (warning,) = (r.getMessage() for r in caplog.records if r.name.startswith("alexnet_jax"))
        assert str(tmp_path / "3") in warning
        assert (tmp_path / "3.damaged").is_dir()
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(state_of(3), {"note": "again"})
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        assert checkpoints.restore(ABSTRACT)[1]["note"] == "again"

    damage(tmp_path / "3")  # a second time: there is a 3.damaged already
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        assert_same(checkpoints.restore(ABSTRACT)[0], state_of(2))


def test_a_damaged_one_is_replaced_when_its_step_is_saved_again(tmp_path):
    save(tmp_path, 1, 2)
    flip(tmp_path / "1")
    save(tmp_path, 1)
    assert_same(load_arrays(tmp_path, 1)["params"], jax.device_get(state_of(1).params))


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Any bit of any file: what is read is right, or is called damaged."""
    save(tmp_path, 5)
    files = [path for path in sorted((tmp_path / "5").rglob("*")) if path.is_file()]
    rng = random.Random(0)
    caught = 0
    with Checkpoints(tmp_path) as checkpoints:
        _, meta = checkpoints.restore(ABSTRACT)
        for path in [*files * 2, *[tmp_path / "5" / "meta" / "metadata"] * 6]:
            whole = path.read_bytes()
            bit = rng.randrange(8 * len(whole))
            path.write_bytes(
                whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]
            )
            try:
                state, read = checkpoints.restore(ABSTRACT, step=5)
                assert_same(state, state_of(5))
                assert read == meta
            except DamagedCheckpoint as error:
                assert str(tmp_path / "5") in str(error)
                caught += 1
            path.write_bytes(whole)
    assert caught > 10


def test_where_none_is_sound_it_says_so_and_leaves_them_where_they_are(tmp_path):
    """Else the same command, given once more, would silently start over."""
    save(tmp_path, 1, 2)
    flip(tmp_path / "1")
    flip(tmp_path / "2")
    for _ in range(2):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(DamagedCheckpoint, match=re.escape(f"{tmp_path} is sound: [1, 2]")),
        ):
            checkpoints.restore(ABSTRACT)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(DamagedCheckpoint, match="/1"):
        checkpoints.restore(ABSTRACT, step=1)
    with pytest.raises(
        DamagedCheckpoint, match=r"checksum differs for (params|opt_state)/.*conv1/kernel"
    ):
        load_arrays(tmp_path, 2)


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)

    def fail(*args, **kwargs):
        raise MemoryError("too much")

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", fail)
        with pytest.raises(MemoryError):
            checkpoints.restore(ABSTRACT)
        assert checkpoints.steps() == [1, 2]


def test_what_a_kill_leaves_is_no_checkpoint(tmp_path):
    save(tmp_path, 1, 5)
    (tmp_path / "5").rename(tmp_path / "5.orbax-checkpoint-tmp")
    assert steps_in(tmp_path) == [1]
    with Checkpoints(tmp_path) as checkpoints:
        assert [path.name for path in tmp_path.iterdir()] == ["1"]  # nor takes room for ever
        assert checkpoints.steps() == [1]
        assert_same(checkpoints.restore(ABSTRACT)[0], state_of(1))
        checkpoints.save(state_of(5), {})
    assert_same(load_arrays(tmp_path, 5)["params"], jax.device_get(state_of(5).params))


# ---- what is not there, or is something else -----------------------------------------------------


def test_a_missing_checkpoint_is_told_with_those_there_are(tmp_path):
    assert steps_in(tmp_path / "nowhere") == []
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
            checkpoints.restore(ABSTRACT)
        checkpoints.save(state_of(2), {})
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(FileNotFoundError, match=r"step 3 .*: \[2\]"):
            checkpoints.restore(ABSTRACT, step=3)
        with pytest.raises(FileNotFoundError, match="/3"):
            read_meta(tmp_path, 3)


def test_other_arrays_are_refused_with_a_list(tmp_path):
    save(tmp_path, 1, 2)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointMismatch) as refusal:
        checkpoints.restore(jax.eval_shape(lambda: state_of(0, classes=5)))
    lines = str(refusal.value).splitlines()
    assert str(tmp_path / "2") in lines[0]
    assert lines[1:] == [
        "  - params/head/bias (3,) float32",
        "  - params/head/kernel (4, 3) bfloat16",
        "  + params/head/bias (5,) float32",
        "  + params/head/kernel (4, 5) bfloat16",
    ]
    assert steps_in(tmp_path) == [1, 2]  # nothing was taken for damaged


def test_a_newer_format_asks_for_an_update(tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_jax.train.checkpoint.FORMAT", 2)
    save(tmp_path, 1)
    monkeypatch.undo()
    for read in (read_meta, load_arrays):
        with pytest.raises(CheckpointMismatch, match=r"format 2; .* reads 1 .* update"):
            read(tmp_path, 1)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointMismatch, match="update"):
        checkpoints.restore(ABSTRACT)
