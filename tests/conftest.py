"""What every test may rely on: it runs on the CPU, and finds nothing that an earlier run left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Read when JAX is first imported, which no test module has done yet.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


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
