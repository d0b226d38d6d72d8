"""HTML that cannot be broken by what stands in it: whatever is not markup made here is escaped."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Html", "data", "group", "table", "tag"]

# Characters that no page may hold, among them those that colour a terminal.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


class Html(str):
    """Finished markup. A plain string is text."""


def _finished(content: object) -> Html:
    return content if isinstance(content, Html) else Html(html.escape(_UNSEEN.sub("\ufffd", str(content))))


def group(contents: Iterable[object]) -> Html:
    """Markup and texts, one after the other."""
    return Html("".join(map(_finished, contents)))


def tag(name: str, *contents: object, **attributes: object) -> Html:
    """An element. ``class_`` is the attribute class, and other underscores in names of attributes are hyphens."""
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{_finished(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{words}>{group(contents)}</{name}>")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table. A column whose name begins with ">" holds numbers."""
    kinds = ["number" if name.startswith(">") else "" for name in columns]
    head = group(tag("th", name.removeprefix(">"), class_=kind) for name, kind in zip(columns, kinds, strict=True))
    body = (group(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)) for row in rows)
    whole = tag("table", tag("thead", tag("tr", head)), tag("tbody", *(tag("tr", row) for row in body)))
    return tag("div", whole, class_="wide")


def data(name: str, value: Any) -> Html:
    """A value for the page's script. Inside <script> nothing is unescaped, so no "<" may stand there, not even in a string."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{name}">{text}</script>')
