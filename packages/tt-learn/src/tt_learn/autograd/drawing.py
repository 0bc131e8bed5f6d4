"""Module 05, autograd: the recorded graph as a picture, from the leaves at the top to the result at the bottom.

Each call is one row below the lowest of its inputs; within a row, boxes move towards their neighbours until few
lines cross (Sugiyama et al. 1981). It shows what `backward` will walk, in reverse: no values, and no calls that nothing
requires a gradient of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.files import write_atomic
from tt_learn.autograd import GradientError, Node, Tensor
from tt_learn.svg import SVG

MOST = 2000
"""The number of boxes that a reader, and a browser, can handle."""

_ROW, _BOX, _GAP, _MARGIN, _LETTER = 74, 40, 18, 24, 7.4  # pixels
_SWEEPS = 12
_COLOURS = {"call": ("#ffffff", "#5a5a5a"), "leaf": ("#e3f0fb", "#1f6fb4"), "parameter": ("#e5f5e8", "#2f8f4e")}


class _Box:
    """A call, a leaf, or (without a title) the bend of a line in a row that it crosses."""

    def __init__(self, title: str = "", below: str = "", kind: str = "call") -> None:
        self.title, self.below, self.kind = title, below, kind
        self.above: list[_Box] = []
        self.under: list[_Box] = []
        self.row, self.x = 0, 0.0

    @property
    def width(self) -> float:
        return max(len(self.title), len(self.below)) * _LETTER + 20 if self.title else 8


@checked
def draw_graph(
    tensor: Tensor, path: str | os.PathLike[str] | None = None, names: Mapping[str, Any] | None = None
) -> SVG:
    """The graph behind `tensor` as SVG text, which notebooks show as a picture, written to `path` if given.

    `names`: what leaves are called, `dict(model.named_parameters())` for one. Raises `GradientError` for a tensor
    without history, and for a graph of more than 2,000 boxes.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> draw_graph((x * x).sum(), names={"x": x}).count("<rect")  # x, mul, sum, and the paper
    4
    """
    if not isinstance(tensor, Tensor):
        raise GradientError(f"draw_graph: takes a tensor that was computed, got {type(tensor).__name__}")
    if tensor.grad_fn is None:
        raise GradientError("draw_graph: this tensor has no history; nothing it was computed from requires a gradient")
    titles = {id(x): name for name, x in (names or {}).items()}
    boxes = _boxes(tensor.grad_fn, titles)
    rows = _rows(boxes)
    _order(rows)
    _place(rows)
    svg = SVG(_svg(rows))
    if path is not None:
        write_atomic(path, svg.encode())
    return svg


# --- boxes and rows


def _boxes(root: Node, titles: Mapping[int, str]) -> list[_Box]:
    """A box for each call and leaf, linked to one another; inputs come before what was computed from them."""
    found: dict[int, tuple[Any, _Box]] = {}
    stack: list[Any] = [root]
    while stack:
        at = stack.pop()
        if id(at) in found:
            continue
        if len(found) == MOST:
            raise GradientError(f"draw_graph: more than {MOST:,} boxes; draw a smaller model, or a part of it")
        found[id(at)] = at, _box(at, titles)
        stack += _inputs(at)
    ordered = sorted(found.values(), key=lambda pair: pair[0].number if isinstance(pair[0], Node) else -1)
    for at, box in ordered:
        for parent in dict.fromkeys(map(id, _inputs(at))):
            above = found[parent][1]
            box.above.append(above)
            above.under.append(box)
    return [box for _, box in ordered]


def _inputs(at: Any) -> list[Any]:
    return [edge[0] for edge in at.parents if edge] if isinstance(at, Node) else []


def _box(at: Any, titles: Mapping[int, str]) -> _Box:
    if isinstance(at, Node):
        return _Box(at.name, " ".join(_size(*output) for output in at.outputs))
    kind = "parameter" if at.is_parameter else "leaf"
    return _Box(titles.get(id(at)) or kind, _size(at.shape, at.dtype), kind)


def _size(shape: tuple[int, ...], dtype: Any) -> str:
    text = "x".join(map(str, shape)) or "number"
    return text if dtype == "float32" else f"{text} {dtype}"


def _rows(boxes: list[_Box]) -> list[list[_Box]]:
    """Places each box one row below its lowest input, and each leaf above its first use; adds bends to long lines."""
    for box in boxes:
        box.row = max((above.row + 1 for above in box.above), default=0)
    for box in boxes:
        if not box.above and box.under:
            box.row = min(under.row for under in box.under) - 1
    first = min(box.row for box in boxes)
    rows: list[list[_Box]] = [[] for _ in range(max(box.row for box in boxes) - first + 1)]
    for box in boxes:
        box.row -= first
        rows[box.row].append(box)
    bends: dict[int, list[_Box]] = {id(box): [] for box in boxes}
    for box in boxes:
        for above in list(box.above):
            _bend(above, box, rows, bends[id(above)])
    return rows


def _bend(above: _Box, box: _Box, rows: list[list[_Box]], bends: list[_Box]) -> None:
    """Adds a bend in each row between the two boxes; all lines from one box share the same `bends`."""
    between = box.row - above.row - 1
    while len(bends) < between:
        bend, last = _Box(), bends[-1] if bends else above
        bend.row, bend.above = last.row + 1, [last]
        last.under.append(bend)
        rows[bend.row].append(bend)
        bends.append(bend)
    if between:
        last = bends[between - 1]
        above.under.remove(box)
        last.under.append(box)
        box.above[box.above.index(above)] = last


# --- order and places


def _order(rows: list[list[_Box]]) -> None:
    """Sorts each row by the mean position of its boxes' neighbours, downwards and upwards in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            row.sort(key=lambda box: _mean(box.above if down else box.under, box.x))
            for place, box in enumerate(row):
                box.x = place - len(row) / 2


def _mean(boxes: list[_Box], otherwise: float) -> float:
    return sum(box.x for box in boxes) / len(boxes) if boxes else otherwise


def _place(rows: list[list[_Box]]) -> None:
    """Moves boxes towards the mean of their neighbours without changing their order."""
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            _spread(row, [_mean(box.above if down else box.under, box.x) for box in row])


def _spread(row: list[_Box], wished: list[float]) -> None:
    """Positions as near to the desired ones as the widths allow: the mean of packing to the right and to the left."""
    right = list(_pushed(row, wished))
    left = [-x for x in _pushed(row[::-1], [-x for x in wished[::-1]])][::-1]
    for box, a, b in zip(row, right, left):
        box.x = (a + b) / 2


def _pushed(row: list[_Box], wished: list[float]) -> Iterator[float]:
    edge = float("-inf")
    for box, wish in zip(row, wished):
        x = max(wish, edge + _GAP + box.width / 2)
        edge = x + box.width / 2
        yield x


# --- the picture


def _svg(rows: list[list[_Box]]) -> str:
    boxes = [box for row in rows for box in row]
    left = min(box.x - box.width / 2 for box in boxes) - _MARGIN
    width = max(box.x + box.width / 2 for box in boxes) + _MARGIN - left
    height = (len(rows) - 1) * _ROW + _BOX + 2 * _MARGIN
    for box in boxes:
        box.x -= left
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="12" text-anchor="middle">',
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
        *(_line(above, box) for box in boxes for above in box.above),
        *(_drawn(box) for box in boxes if box.title),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _top(box: _Box) -> float:
    return _MARGIN + box.row * _ROW


def _line(above: _Box, box: _Box) -> str:
    """A curve from the lower edge of one box to the upper edge of the other, vertical at both ends."""
    start, end = _top(above) + _BOX, _top(box)
    middle = (start + end) / 2
    through = "" if above.title else f" M{above.x:.1f},{start - _BOX:.1f} V{start:.1f}"
    curve = f"M{above.x:.1f},{start:.1f} C{above.x:.1f},{middle:.1f} {box.x:.1f},{middle:.1f} {box.x:.1f},{end:.1f}"
    return f'<path d="{curve}{through}" fill="none" stroke="#9a9a9a" stroke-width="1.2"/>'


def _drawn(box: _Box) -> str:
    fill, edge = _COLOURS[box.kind]
    top = _top(box)
    return (
        f'<rect x="{box.x - box.width / 2:.1f}" y="{top}" width="{box.width:.1f}" height="{_BOX}" rx="6" '
        f'fill="{fill}" stroke="{edge}"/>'
        f'<text x="{box.x:.1f}" y="{top + 16}" font-weight="bold" fill="#222222">{escape(box.title)}</text>'
        f'<text x="{box.x:.1f}" y="{top + 31}" font-size="11" fill="#666666">{escape(box.below)}</text>'
    )
