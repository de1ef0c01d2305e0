"""Runs of a task from outside: a command line in a folder, and a classifier to begin with."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex

import jax
import numpy as np
import pytest

from alexnet_jax import cache, training
from alexnet_jax.cli import main
from alexnet_jax.config import Config
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.parts import make_update
from alexnet_jax.weights import Weights, write


@pytest.fixture(scope="session")
def write_classifier(he_kernels):
    """Writes a classifier's weights: of a spec, for three classes at 64 px."""

    def write_to(path, spec):
        images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
        shapes = jax.eval_shape(AlexNet(spec).init, jax.random.key(0), images)["params"]
        params = he_kernels(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
        prepared = Preprocessing(64, 64, Config().input.mean, Config().input.std).to_json()
        write(Weights(spec, params, prepared, classes=tuple("abc")), path)

    return write_to


@pytest.fixture(scope="module")
def told(folder):
    """Runs a command line in the module's `folder`; (status, all that it printed)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "keep_compiled", lambda: None)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)

        def run(line):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                status = main(shlex.split(line))
            return status, printed.getvalue()

        yield run


class _Killed(BaseException):
    """Nobody expects it, so nothing is saved on its way."""


@pytest.fixture
def kill(told, monkeypatch):
    """Runs a command line up to update number `update`, in the midst of which the run dies."""

    def run(line, update):
        def dies(parts, number, state, batch):
            if number == update:
                raise _Killed
            return make_update(parts, number, state, batch)

        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(training, "make_update", dies)
            told(line)

    return run


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a run's metrics.csv, without its times."""

    def read(run):
        with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]

    return read
