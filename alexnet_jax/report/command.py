"""A command line as it was typed, with some of its options changed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def changed(command: str, given: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """The command with the options `given`, in place of the values that it may have for them.

    Those in `without` go, with all their values; a name that ends in a dot, such as "--transfer.",
    stands for every option that begins so. Options reach up to the next word that begins with "--".
    """
    kept, leaving = [], False
    for word in shlex.split(command):
        if word.startswith("--"):
            name = word.partition("=")[0].replace("_", "-")  # the command line takes both
            leaving = name in (*given, *without) or any(
                group.endswith(".") and name.startswith(group) for group in without
            )
        if not leaving:
            kept.append(word)
    options = [word for name, value in given.items() for word in (name, str(value))]
    return shlex.join([*kept, *options])
