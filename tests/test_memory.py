"""The command line trains with glibc's memory kept; importing the package changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alexnet_jax.memory import SETTINGS, SWITCH, give_back, settings_are_on

try:
    GLIBC = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
except (AttributeError, ValueError):
    GLIBC = False


def doctor(**environment):
    """What `doctor` says of the memory settings, in a process that was started without them."""
    clean = {k: v for k, v in os.environ.items() if k not in {*SETTINGS, SWITCH}}
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "doctor"],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return next(line.split()[1] for line in done.stdout.splitlines() if "memory" in line)


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_the_command_line_starts_with_the_settings_unless_told_otherwise():
    assert doctor() == "on"
    assert doctor(**{SWITCH: "system"}) == "off"
    assert doctor(GLIBC_TUNABLES="glibc.malloc.check=0") == "off"  # the user's own stay


def test_importing_the_package_leaves_the_environment_alone(own_process):
    source = """
import json, os
import jax  # which sets some of its own
before = dict(os.environ)
import alexnet_jax.train.step
print(json.dumps(before == dict(os.environ)))
"""
    assert own_process(source)


def test_settings_are_on_only_where_all_of_them_are(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        assert not settings_are_on()
        monkeypatch.setenv(name, value)
    assert settings_are_on()


RELEASED = """
import json, os
from pathlib import Path
from alexnet_jax.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = resident()
arrays = [bytearray(2**20) for _ in range(200)]  # too small to be mapped by themselves
for array in arrays:
    array[::4096] = b"1" * 256
last = bytearray(100)  # above them
held = resident()
del arrays
kept = resident()
give_back()
print(json.dumps([size - before for size in (held, kept, resident())]))
"""


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_what_the_settings_keep_is_given_back_when_asked_for(own_process):
    held, kept, left = own_process(RELEASED, **SETTINGS)
    assert held > 150 * 2**20
    assert kept > 150 * 2**20  # this is what the settings are for
    assert left < 50 * 2**20


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_without_the_settings_nothing_is_touched(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the C library was called"))
    give_back()


REUSED = """
import ctypes, json, resource
import jax, jax.numpy as jnp
from alexnet_jax.memory import dispatch_in_place

PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # a fault is a page, and no huge one
dispatch_in_place()

@jax.jit
def step(x):
    square = x[:, None] * x  # [N, N], too large for the memory of jax's own threads
    return square @ (square @ x)

x = jnp.linspace(0.0, 1.0, 6000)
temporary = step.lower(x).compile().memory_analysis().temp_size_in_bytes

def touched(steps):  # bytes that were mapped anew
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        y = step(x)
    done = y.is_ready()
    jax.block_until_ready(y)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults * resource.getpagesize(), done

touched(5)
print(json.dumps([temporary, *touched(5)]))
"""


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_what_a_step_works_in_is_there_for_the_next_one(own_process):
    temporary, mapped, done = own_process(REUSED, JAX_PLATFORMS="cpu", **SETTINGS)
    assert temporary > 100 * 2**20
    assert mapped < temporary / 4  # of five steps
    assert done  # when the call returns, as it was computed in its thread


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_without_the_settings_jax_computes_as_it_likes(own_process, monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    source = """
import json, jax
from alexnet_jax.memory import dispatch_in_place
jax.config.update = lambda *a: (_ for _ in ()).throw(AssertionError(a))
dispatch_in_place()
print(json.dumps(True))
"""
    assert own_process(source)
