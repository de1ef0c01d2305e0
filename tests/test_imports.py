"""Data flows one way, the core needs nothing but JAX, and nobody waits for what is not needed: held
by what is imported.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import alexnet_jax

ROOT = Path(alexnet_jax.__file__).parent
CORE = sorted(
    path for pattern in ("models/*.py", "tasks/*.py", "optim/*.py") for path in ROOT.glob(pattern)
) + [
    ROOT / name
    for name in (
        "__init__.py",
        "attribution.py",
        "train/step.py",
        "train/state.py",
        "train/early_stopping.py",
        "data/augment.py",
        "data/stream.py",
    )
]
EDGE = ("data.sources", "train.run", "report", "cli", "config")
THIRD_PARTY = ("orbax", "PIL", "tensorflow_datasets", "matplotlib", "tyro", "rich", "tensorboardX")


def imports(path: Path) -> set[str]:
    """Full names of the modules (and names in them) that a file imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_nothing_from_the_edges(path):
    ours = {name for name in imports(path) if name.split(".")[0] == "alexnet_jax"}
    for name in ours:
        inner = name.removeprefix("alexnet_jax.") + "."
        assert not inner.startswith(tuple(f"{edge}." for edge in EDGE)), name
    others = {name.split(".")[0] for name in imports(path) - ours}
    assert others <= {"jax", "flax", "optax", "numpy"} | sys.stdlib_module_names


def test_importing_the_package_loads_no_edge_and_none_of_their_libraries(own_process):
    # flax loads rich by itself, so what counts is what comes on top of flax and optax.
    modules = sorted(
        ".".join(("alexnet_jax", *path.relative_to(ROOT).with_suffix("").parts)) for path in CORE
    )
    source = f"""
import json, sys
import jax, flax.linen, optax, optax.contrib
before = set(sys.modules)
import alexnet_jax
for name in {[name.removesuffix(".__init__") for name in modules]!r}:
    __import__(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    loaded = own_process(source)
    assert "alexnet_jax.train.step" in loaded
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & set(THIRD_PARTY), tops & set(THIRD_PARTY)
    for edge in EDGE:
        assert f"alexnet_jax.{edge}" not in loaded


def test_a_mistyped_command_is_told_without_waiting_for_jax(own_process):
    source = """
import contextlib, io, json, sys
from alexnet_jax.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
    assert main(["--help"]) == 0 and main(["trian"]) == 2
assert "did you mean 'train'" in said.getvalue()
print(json.dumps(sorted(sys.modules)))
"""
    assert not {"jax", "flax", "optax", "numpy"} & set(own_process(source))


def loaded(own_process, module: str) -> list[str]:
    """What a fresh process has imported once it has imported `module`."""
    return own_process(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))")


def test_the_package_and_its_command_line_are_imported_without_anything_slow(own_process):
    slow = {"jax", "flax", "optax", "orbax", "numpy", "PIL", "matplotlib", "tensorflow", "torch"}
    for module, ours in {"alexnet_jax": [], "alexnet_jax.cli": ["alexnet_jax.cli"]}.items():
        names = loaded(own_process, module)
        assert [name for name in names if name.startswith("alexnet_jax.")] == ours
        assert not slow & set(names)


def test_training_is_imported_without_what_only_some_runs_need(own_process):
    unneeded = {
        "matplotlib", "onnx", "safetensors", "scipy", "tensorboardX", "tensorflow",
        "tensorflow_datasets", "torch", "tyro",
    }  # fmt: skip
    assert not unneeded & set(loaded(own_process, "alexnet_jax.training"))


def test_our_own_modules_are_a_small_part_of_the_time_to_import_training():
    """A tenth where it was measured. A first import also compiles them: so the best of three."""
    command = [sys.executable, "-X", "importtime", "-c", "import alexnet_jax.training"]
    shares = []
    while len(shares) < 3 and min(shares, default=1.0) > 1 / 3:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        rows = re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", said, re.MULTILINE)
        ours = sum(int(own) for own, name in rows if name.split(".")[0] == "alexnet_jax")
        shares.append(ours / sum(int(own) for own, _ in rows))
    assert min(shares) <= 1 / 3, shares
    assert min(shares) > 0
