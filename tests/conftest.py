"""What every test may rely on: it runs on the CPU, and finds nothing that an earlier run left."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Read when JAX is first imported, which no test module has done yet.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one test compiled the next one takes, for as long as pytest runs. jax does not write it in
# one piece, and workers would read what is half-written: each has a folder of its own.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] += f"/{worker}"
else:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="alexnet_jax_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@pytest.fixture(scope="session")
def own_process() -> Callable[..., Any]:
    """Runs Python source in a process of its own; its last line of output, read as JSON.

    For what is fixed when JAX starts: the number of devices, 64-bit types, what is imported.
    """

    def run(source: str, timeout: float = 300, **environment: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def write_pictures() -> Callable[..., None]:
    """Writes SPLIT/CLASS/0.png ...: `counts` {split: pictures of each class}, and `pixels(label)`
    draws the next of a class, [H, W, 3]."""
    from PIL import Image

    def write(
        folder: Path, counts: dict[str, int], classes: Sequence[str], pixels: Callable[[int], Any]
    ) -> None:
        for split, count in counts.items():
            for label, name in enumerate(classes):
                (folder / split / name).mkdir(parents=True)
                for i in range(count):
                    picture = Image.fromarray(pixels(label).astype(np.uint8))
                    picture.save(folder / split / name / f"{i}.png")

    return write


@pytest.fixture(scope="session")
def he_kernels() -> Callable[..., Any]:
    """Fills the kernels of a tree of parameters (or of shapes) with He-normal numbers, by NumPy.

    With kernel_init="zeros" for the network itself this takes no time; compiling a network's own
    random initialization takes seconds.
    """

    def fill(tree: Any, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)

        def leaf(path: Any, leaf: Any) -> Any:
            if path[-1].key != "kernel":
                return leaf
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1])).astype(leaf.dtype)
            return rng.standard_normal(leaf.shape, leaf.dtype) * scale

        import jax

        return jax.tree_util.tree_map_with_path(leaf, tree)

    return fill
