"""Memory settings of glibc: keep what one train step frees for the next one.

By default the large arrays of a step are given back to the system after it, and mapped and zeroed
again in the next, which costs a third of the time on a CPU. The settings are read when a process
starts, so the command line starts Python anew with them; `import alexnet_jax` never changes
anything. ALEXNET_JAX_MEMORY=system, or setting any of the variables yourself, leaves all as it is.
"""

from __future__ import annotations

import ctypes
import os
import sys

SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # huge pages where the system has them
}
SWITCH = "ALEXNET_JAX_MEMORY"


def settings_are_on() -> bool:
    """Whether this process was started with the settings."""
    return all(os.environ.get(name) == value for name, value in SETTINGS.items())


def restart_with_settings() -> None:
    """Start this Python program anew with the settings, where glibc would read them.

    Does nothing where any of them is set already, so a program is started anew once at most.
    """
    chosen = {SWITCH, *SETTINGS} & set(os.environ)
    if not chosen and _is_glibc():
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **SETTINGS})


def give_back() -> None:
    """Give the system what is free by now, which the settings keep: for after what is done once.

    Making a state and compiling a step leave more behind than a step needs, in pieces that its
    largest arrays do not fit into. Does nothing where the settings are off.
    """
    if settings_are_on() and _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def dispatch_in_place() -> None:
    """Let a CPU compute in the thread that calls; before jax computes anything.

    The threads that jax would leave it to have memory of their own (glibc's arenas), in which no
    array of 64 MB finds room: what a step works in is mapped and zeroed anew each time, and twice
    over where a step begins before the last one has let go of its own. They still take over where
    an argument is on its way, such as NumPy's arrays: place a batch before the step, and wait for
    it. Does nothing where the settings are off, and nothing on accelerators.
    """
    if settings_are_on():
        import jax

        jax.config.update("jax_cpu_enable_async_dispatch", False)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # Windows; macOS and musl
        return False
