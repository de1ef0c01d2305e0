"""The few HTML elements that a report is made of. Texts are escaped here; contents are HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def section(title: str, *parts: str) -> str:
    """Parts of HTML under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def figure(content: str, label: str = "", caption: str = "", kind: str = "") -> str:
    """A picture with a caption below; `label` is read out in its place, `kind` a CSS class."""
    role = f' role="img" aria-label="{escape(label)}"' if label else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><div{role}>{content}</div>{below}</figure>\n'


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", texts: int = 1
) -> str:
    """A table. The first `texts` columns are words, the first of them the row's head; the others
    are numbers and stand to the right."""

    def line(cells: Sequence[str], head: bool) -> str:
        text = ""
        for column, cell in enumerate(cells):
            kind = "th" if head or column == 0 else "td"
            number = ' class="number"' if column >= texts else ""
            text += f"<{kind}{number}>{escape(cell)}</{kind}>"
        return f"<tr>{text}</tr>\n"

    above = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    head = f"<thead>\n{line(header, head=True)}</thead>\n" if header else ""
    body = "".join(line(row, head=False) for row in rows)
    return f'<div class="wide"><table>\n{above}{head}<tbody>\n{body}</tbody>\n</table></div>\n'


def bullets(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>\n" for text in texts)
    return f"<ul>\n{items}</ul>\n"


def commands(named: Mapping[str, str]) -> str:
    """Commands to copy, each under what it does."""
    return "".join(
        f"<h3>{escape(name)}</h3>\n<pre>{escape(command)}</pre>\n"
        for name, command in named.items()
    )


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of a table: ("optimizer.momentum", "0.9")."""
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else repr(value)))
    return rows
