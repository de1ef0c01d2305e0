"""Where what can be made again is kept between runs: rendered pictures, compiled programs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import jax

from alexnet_jax.train.environment import cores


def cache_folder() -> Path:
    """The folder alexnet_jax in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet_jax"


def keep_compiled() -> None:
    """Let jax keep compiled programs, so that a second start takes seconds; for command lines.

    JAX_COMPILATION_CACHE_DIR chooses another folder. A program holds the instructions of the
    processor that it was compiled on, and is cut up for as many cores as the process could use,
    neither of which jax asks about: each kind of processor and number of cores has a folder.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_folder() / "compiled" / f"{_processor()}-{cores()}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "any"
    kept = ("model name", "flags", "Features")
    lines = [line for line in text.split("\n\n")[0].splitlines() if line.startswith(kept)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
