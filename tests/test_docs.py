"""The examples that we print run as they stand."""

from __future__ import annotations

import math
import re
import textwrap
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import alexnet_jax

pytestmark = pytest.mark.slow
README = Path(__file__).parent.parent / "README.md"
TASKS = README.parent / "docs" / "tasks.md"


def test_the_packages_six_lines_train():
    """At 67 px, the smallest its network takes, to save time."""
    (block,) = re.findall(r"\n\n((?:    .+\n)+)", alexnet_jax.__doc__)
    code = textwrap.dedent(block)
    assert len(code.splitlines()) == 6 and code.count("(224, 224, 3)") == 1
    names = {name: getattr(alexnet_jax, name) for name in alexnet_jax.__all__}
    names |= {
        "jax": jax,
        "partial": partial,
        "images": np.random.default_rng(0).normal(size=(2, 67, 67, 3)).astype(np.float32),
        "labels": np.array([1, 3], np.int32),
    }
    exec(code.replace("(224, 224, 3)", "(67, 67, 3)"), names)
    assert names["state"].step == 1
    total, count = names["metrics"]["loss"]
    assert count == 2 and 0 < total / count < 10 * math.log(4)
    before = names["metrics"]["objective"]
    _, metrics = names["step"](names["state"], {"image": names["images"], "label": names["labels"]})
    assert metrics["objective"] != before


@pytest.mark.parametrize("page", [README, TASKS], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    if not page.exists():
        pytest.skip(f"there is no {page.name}")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict = {}  # one after the other, as somebody reads them
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
