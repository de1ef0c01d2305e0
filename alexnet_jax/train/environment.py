"""What a run ran on: machine, versions, devices, code and command. No host or user names."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from alexnet_jax.memory import settings_are_on

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict[str, Any]:
    """Facts that another person needs to repeat a run, JSON-able. Starts JAX's backend.

    Keys: python, platform, cpu, cores (that this process may use), devices (kind and number),
    processes, versions, alexnet_jax, git_commit (None outside a checkout; `-dirty` marks changed
    files), xla_flags, memory_settings (see memory.py), command (with the home folder written as ~).
    """
    import jax

    from alexnet_jax import __version__

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": cores(),
        "backend": jax.default_backend(),
        "devices": {
            kind: sum(device.device_kind == kind for device in devices)
            for kind in sorted({device.device_kind for device in devices})
        },
        "processes": jax.process_count(),
        "versions": versions(),
        "alexnet_jax": __version__,
        "git_commit": _git_commit(Path(__file__).resolve().parents[2]),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "memory_settings": "on" if settings_are_on() else "off",
        "command": shlex.join(_without_home(argument) for argument in sys.argv),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that a run's bits depend on; None for those that are missing."""
    return {name: _version(name) for name in PACKAGES}


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(folder: Path) -> str | None:
    """The short commit of the checkout whose root is `folder`.

    Only the root counts: an installed package may lie inside somebody else's repository.
    """
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=quiet
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _without_home(argument: str) -> str:
    home = os.path.expanduser("~").rstrip("/")
    return argument.replace(home + "/", "~/") if home else argument
