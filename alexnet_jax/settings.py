"""Settings by name, in nested frozen dataclasses: read, changed, and as JSON both ways.

"optimizer.l2" is the field l2 of the field optimizer.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any


def flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("optimizer.momentum", 0.9) of every setting."""
    for name, value in vars(settings).items():
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """The settings with some of them changed; a whole group may be given at once.

    Raises ValueError for a name that is none, with the nearest one, and what the dataclasses raise
    for values that they refuse.
    """
    for name, value in changes.items():
        settings = _changed(settings, name, value, name)
    return settings


def _changed(settings: Any, name: str, value: Any, whole: str) -> Any:
    field, _, rest = name.partition(".")
    known = [f.name for f in dataclasses.fields(settings)] if _is_group(settings) else []
    if field not in known:
        near = difflib.get_close_matches(field, known, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r} for {field!r}?" if near else ""
        raise ValueError(f"no setting is called {whole!r}{hint}")
    if rest:
        value = _changed(getattr(settings, field), rest, value, whole)
    return dataclasses.replace(settings, **{field: value})


def value_of(settings: Any, name: str) -> Any:
    """One setting."""
    return reduce(getattr, name.split("."), settings)


def to_json(settings: Any) -> dict:
    """A plain dict."""
    return dataclasses.asdict(settings)


def from_json(data: dict, kind: type) -> Any:
    """The `kind` that `to_json` wrote, also after JSON has turned its tuples into lists.

    Fields that the data lacks keep their defaults; raises ValueError on fields that do not exist.
    """
    types_of = typing.get_type_hints(kind)
    if unknown := sorted(set(data) - set(types_of)):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    return kind(**{name: _revive(value, types_of[name]) for name, value in data.items()})


def _revive(value: Any, kind: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_json(value, kind)
    arms = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if isinstance(value, list) and any(typing.get_origin(arm) is tuple for arm in arms):
        return tuple(value)
    return value


def _is_group(settings: Any) -> bool:
    return dataclasses.is_dataclass(settings) and not isinstance(settings, type)
