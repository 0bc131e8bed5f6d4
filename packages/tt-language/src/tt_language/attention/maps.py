"""Part of module 12, attention: recording the weights of a running model, and drawing them as heat maps.

    with record_attention() as maps:
        model(ids)
    heat_map(maps[0][0], "first.svg", words, words)

The attention op never returns its weights. While recording, a plugin asks every attention layer for them, so the code
of the layers stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.engine.files import write_atomic
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_language.attention.multi_head import MultiHeadAttention
from tt_language.errors import printable
from tt_learn.svg import drawing, rectangle, text


class _Recorder:
    """Wraps the attention layers, as a profiler does."""

    def __init__(self) -> None:
        self.maps: list[Array] = []

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
        if not issubclass(layer_type, MultiHeadAttention):
            return None

        def recorded(layer: Layer, *inputs: Any, **options: Any) -> Any:
            out, weights = call(layer, *inputs, **{**options, "need_weights": True})
            self.maps.append(weights.data)
            return (out, weights) if options.get("need_weights") else out

        return recorded


@contextmanager
def record_attention() -> Iterator[list[Array]]:
    """A block that collects the weights (batch, heads, T, S) of every attention layer that runs in it, in order.

    >>> from tt_core import ones
    >>> with record_attention() as maps:
    ...     _ = MultiHeadAttention(8, num_heads=2)(ones(1, 5, 8))
    >>> maps[0].shape
    (1, 2, 5, 5)
    """
    recorder = _Recorder()
    manager.register(recorder)
    try:
        yield recorder.maps
    finally:
        manager.unregister(recorder)


@checked
def heat_map(
    weights: Tensor | Array | Sequence[Any],
    path: str | os.PathLike[str],
    queries: Sequence[str] = (),
    keys: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw attention weights, a tensor or an array, as an SVG file at `path`: one panel per head, dark for 1.

    weights: (heads, T, S), or (T, S) for one head.
    queries, keys: labels of the rows and of the columns.

    Raises `ShapeError` for labels that do not fit, `ArgumentError` for weights that are infinite or nan.
    """
    panels = np.asarray(weights.data if isinstance(weights, Tensor) else weights)
    panels = panels[None] if panels.ndim == 2 else panels
    if panels.ndim != 3 or len(queries) not in (0, panels.shape[1]) or len(keys) not in (0, panels.shape[2]):
        raise ShapeError(
            f"heat_map: weights are (heads, T, S) with a label for each row and column, got {panels.shape} with "
            f"{len(queries)} and {len(keys)} labels"
        )
    if not np.isfinite(panels).all():
        raise ArgumentError("heat_map: weights must be finite, got inf or nan")
    write_atomic(path, _sheet(panels, queries, keys, title).encode("utf-8"))


_CELL, _MARGIN, _LETTER = 14, 12, 7  # pixels


def _sheet(panels: Array, queries: Sequence[str], keys: Sequence[str], title: str) -> str:
    heads, rows, columns = panels.shape
    left = _MARGIN + _LETTER * max(map(len, queries), default=0)
    top = 24 + _LETTER * max(map(len, keys), default=0) + (20 if title else 0)
    width = left + columns * _CELL + _MARGIN
    parts = [text(8, 16, printable(title), size=13)]
    for h, panel in enumerate(panels):
        parts += _panel(panel, f"head {h}", queries, keys, h * width + left, top)
    return drawing(parts, heads * width, top + rows * _CELL + _MARGIN)


def _panel(
    panel: Array, name: str, queries: Sequence[str], keys: Sequence[str], left: float, top: float
) -> Iterator[str]:
    """One head, with the corner of its first cell at (left, top)."""
    yield text(left, top - 12 - _LETTER * max(map(len, keys), default=0), name, size=11)
    for (i, j), weight in np.ndenumerate(panel):
        shade = 255 - round(255 * float(min(max(weight, 0), 1)))
        yield rectangle(left + j * _CELL, top + i * _CELL, _CELL, _CELL, f"rgb({shade},{shade},255)")
    for i, label in enumerate(queries):
        yield text(left - 4, top + i * _CELL + 11, printable(label), anchor="end", size=11)
    for j, label in enumerate(keys):
        yield text(left + j * _CELL + 11, top - 4, printable(label), size=11, turned=True)
