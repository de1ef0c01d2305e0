"""Where compiled programs are kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TELL = (
    "import jax; from alexnet_jax.cache import keep_compiled; keep_compiled(); "
    "print(jax.config.jax_compilation_cache_dir)"
)


def folder(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | environment,
    )
    return done.stdout.strip()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="one core, or no way to keep to one",
)
def test_what_was_compiled_for_one_core_is_not_taken_for_more(tmp_path):
    """XLA cuts operations into parts for the cores that it may use; jax's key does not tell."""
    here = {"XDG_CACHE_HOME": str(tmp_path)}
    one = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); {TELL}"
    every = folder(TELL, **here)
    assert every.startswith(str(tmp_path / "alexnet_jax"))
    assert folder(one, **here) != every
    assert folder(TELL, **here) == every


def test_the_user_may_choose_the_folder(tmp_path):
    assert folder(TELL, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")
