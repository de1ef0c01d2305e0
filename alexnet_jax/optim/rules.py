"""One ordered table of rules gives every parameter its settings, and prints itself.

A rule is `(regex, settings)`; the regex is searched in the parameter's name, such as
"backbone/conv1/kernel". Each *setting* comes from the first rule that gives it, then from
`BUILT_IN`, then from the optimizer:

    Rules((("^head/", {"lr_mult": 10.0}), ("^backbone/conv1/", {"frozen": True})))

| setting | meaning |
|---|---|
| `lr_mult` | multiplies the learning rate, hence also decoupled decay and the proximal step |
| `l1`, `l2`, `decay` | strength for these parameters in place of the optimizer's; 0 exempts |
| `frozen` | not differentiated, no optimizer state |
| `shard` | axis that is laid over the mesh axis "model", or None |
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from alexnet_jax.leaves import leaf_name, named_leaves

Params = Any

BUILT_IN = ((r"(^|/)(bias|scale)$", {"l1": 0.0, "l2": 0.0, "decay": 0.0}),)


class Row(NamedTuple):
    """Settings of one parameter; `shape` is None where the leaf is absent (split off).

    `l1`, `l2` and `decay` are None where no rule gives them: the optimizer's own value holds.
    """

    name: str
    shape: tuple[int, ...] | None
    lr_mult: float = 1.0
    l1: float | None = None
    l2: float | None = None
    decay: float | None = None
    frozen: bool = False
    shard: int | None = None


SETTINGS = Row._fields[2:]


@dataclass(frozen=True)
class Rules:
    """Ordered rules; `entries` may be given as any iterable of `(regex, mapping)`.

    They are kept as nested tuples, so that rules are hashable and comparable.
    """

    entries: tuple = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(_entry(entry) for entry in self.entries))

    def settings(self, name: str, shape: tuple[int, ...] | None = None) -> Row:
        """Resolve every setting for the parameter `name`."""
        row: dict[str, Any] = {}
        for pattern, settings in (*self.entries, *BUILT_IN):
            if re.search(pattern, name):
                row = {**dict(settings), **row}
        return Row(name, shape, **row)

    def table(self, params: Params) -> tuple[Row, ...]:
        """Return one row per parameter, in the order of the tree; absent leaves included."""
        return tuple(
            self.settings(name, None if leaf is None else tuple(leaf.shape))
            for name, leaf in named_leaves(params)
        )

    def frozen(self, params: Params) -> Any:
        """Return the tree of `params` with a Python bool per leaf: True where it is frozen."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: self.settings(leaf_name(path)).frozen, params
        )

    def check(self, params: Params) -> None:
        """Raise ValueError if a rule matches no parameter or shards an axis that is not there.

        Absent leaves (None, as `split` leaves them) have names too, so the check holds on the
        whole tree and on either part of it.
        """
        rows = self.table(params)
        for pattern, _ in self.entries:
            if not any(re.search(pattern, row.name) for row in rows):
                near = difflib.get_close_matches(pattern, [row.name for row in rows], n=1, cutoff=0)
                hint = f" The nearest name is {near[0]!r}." if near else ""
                raise ValueError(
                    f"The rule {pattern!r} matches no parameter.{hint} Correct the expression or "
                    f"remove the rule; the parameters and their settings are:\n{format_table(rows)}"
                )
        for row in rows:
            if row.shape is None or row.shard is None:
                continue
            if not -len(row.shape) <= row.shard < len(row.shape):
                raise ValueError(
                    f"A rule shards axis {row.shard} of {row.name}, whose shape is {row.shape}; "
                    "let its expression match arrays that have this axis, such as '/kernel$'."
                )

    def to_json(self) -> list:
        """Return plain data for `json.dumps`: `[[regex, {setting: value}], ...]`."""
        return [[pattern, dict(settings)] for pattern, settings in self.entries]

    @classmethod
    def from_json(cls, data: Iterable) -> Rules:
        """Build rules from what `to_json` returned."""
        return cls(tuple(data))


def split(params: Params, mask: Any) -> tuple[Params, Params]:
    """Split `params` by a tree of bools into (trainable, frozen); the other's leaves are None."""
    trainable = jax.tree.map(lambda frozen, leaf: None if frozen else leaf, mask, params)
    frozen = jax.tree.map(lambda frozen, leaf: leaf if frozen else None, mask, params)
    return trainable, frozen


def merge(trainable: Params, frozen: Params) -> Params:
    """Undo `split`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, trainable, frozen, is_leaf=lambda x: x is None
    )


def format_table(rows: Iterable[Row]) -> str:
    """Return the rows as an aligned text table; "-" is a setting that no rule gives."""
    cells: list[tuple[str, ...]] = [("name", "shape", *SETTINGS)]
    for row in rows:
        shape = "-" if row.shape is None else "x".join(map(str, row.shape)) or "scalar"
        cells.append((row.name, shape, *("-" if v is None else _text(v) for v in row[2:])))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def _entry(entry: Any) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """Validate one rule and return it as nested tuples."""
    try:
        pattern, settings = entry
        settings = dict(settings)
    except (TypeError, ValueError):
        raise ValueError(
            f"A rule is (regular expression, {{setting: value}}), got {entry!r}."
        ) from None
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"The rule {pattern!r} is no regular expression ({error}); "
            "names look like 'backbone/conv1/kernel'."
        ) from None
    if not settings:
        raise ValueError(f"The rule {pattern!r} gives no setting; known are {', '.join(SETTINGS)}.")
    checked = ((key, _setting(pattern, key, value)) for key, value in settings.items())
    return pattern, tuple(sorted(checked))


def _setting(pattern: str, key: str, value: Any) -> Any:
    where = f"The rule {pattern!r}"
    if key not in SETTINGS:
        near = difflib.get_close_matches(str(key), SETTINGS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{where} gives the unknown setting {key!r}; did you mean {near!r}? "
            f"Known are {', '.join(SETTINGS)}."
        )
    if key == "frozen":
        if not isinstance(value, bool):
            raise ValueError(f"{where}: frozen is true or false, got {value!r}.")
        return value
    if key == "shard":
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{where}: shard is the number of an axis or None, got {value!r}.")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: {key} is a finite number that is not negative, got {value!r}.")
    if key == "lr_mult" and value == 0:
        raise ValueError(
            f"{where}: lr_mult=0 would still compute gradients and optimizer state; "
            "use frozen=True to keep parameters as they are."
        )
    return float(value)


def parse_rules(lines: tuple[str, ...]) -> tuple:
    """("^head/ lr_mult=10 l2=0",) -> (("^head/", {"lr_mult": 10.0, "l2": 0.0}),)."""
    entries = []
    for line in lines:
        pattern, *settings = line.split() or [""]
        if not settings or any("=" not in s for s in settings):
            raise ValueError(
                f'the rule {line!r} is not of the form "REGEX SETTING=VALUE ...", '
                'such as "^head/ lr_mult=10"'
            )
        pairs = (s.split("=", 1) for s in settings)
        entries.append((pattern, {key: _rule_value(key, value) for key, value in pairs}))
    return tuple(entries)


def _rule_value(key: str, text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if key == "shard" else float(text)
    except ValueError:
        raise ValueError(f"rule setting {key}={text}: expected a number, true or false") from None
