"""Pieces of HTML for notebooks, which show what `_repr_html_` returns in place of the `repr`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A table with a row of headings; numbers are aligned to the right, everything is escaped.

    >>> table(["op"], [["a < b"]])
    '<table><tr><th>op</th></tr><tr><td>a &lt; b</td></tr></table>'
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    style = ' style="text-align: right"' if isinstance(value, (int, float)) else ""
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td{style}>{escape(text)}</td>"


def captioned(text: str, caption: str) -> str:
    """Preformatted text with a small line below.

    >>> captioned("tensor(1)", "()")
    '<pre>tensor(1)</pre><small>()</small>'
    """
    return f"<pre>{escape(text)}</pre><small>{escape(caption)}</small>"


def tree(label: str, note: str, branches: Sequence[str], opened: bool = True) -> str:
    """A label with branches that unfold below it; a leaf without branches is one line.

    >>> tree("ReLU()", "", [])
    '<code>ReLU()</code>'
    """
    line = f"<code>{escape(label)}</code>" + (f" <small>{escape(note)}</small>" if note else "")
    if not branches:
        return line
    items = "".join(f'<li style="list-style: none">{branch}</li>' for branch in branches)
    return f"<details{' open' if opened else ''}><summary>{line}</summary><ul>{items}</ul></details>"
