"""Seeing what attention looks at (module 12, Act IV): weights of a running model, and heat maps of them.

    with record_attention() as maps:
        model(ids)
    heat_map(maps[0][0], "first.svg", words, words)

The fused op never builds the weights; while recording, every attention layer is asked for them by a plugin, and the
layers' code stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.engine.files import write_atomic
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_language.attention.attention import MultiHeadAttention


class _Recorder:
    """Wraps the attention layers, as a profiler would."""

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
    """A block in which the weights (batch, heads, T, S) of every attention layer that runs are collected, in order.

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
    weights: Any,
    path: str | os.PathLike[str],
    queries: Sequence[str] = (),
    keys: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw attention weights (heads, T, S), or (T, S), as SVG at `path`: a panel a head, dark where much is taken.

    `queries` label the rows and `keys` the columns. Raises `ShapeError` for labels that do not fit and weights that are
    infinite or nan.
    """
    panels = np.asarray(weights.data if isinstance(weights, Tensor) else weights)
    panels = panels[None] if panels.ndim == 2 else panels
    if panels.ndim != 3 or len(queries) not in (0, panels.shape[1]) or len(keys) not in (0, panels.shape[2]):
        raise ShapeError(
            f"heat_map: weights are (heads, T, S) with a label for each row and column, got {panels.shape} with "
            f"{len(queries)} and {len(keys)} labels"
        )
    if not np.isfinite(panels).all():
        raise ArgumentError("heat_map: weights are not all numbers")
    write_atomic(path, "\n".join(_panels(panels, queries, keys, title)).encode("utf-8"))


def _panels(panels: Array, queries: Sequence[str], keys: Sequence[str], title: str, cell: int = 14) -> Iterator[str]:
    heads, rows, columns = panels.shape
    above = 20 if title else 0
    left, top = 12 + 7 * max(map(len, queries), default=0), 24 + 7 * max(map(len, keys), default=0)
    width, height = left + columns * cell + 12, above + top + rows * cell + 12
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {heads * width} {height}"'
    yield ' font-family="monospace" font-size="11">'
    yield f'<rect width="{heads * width}" height="{height}" fill="white"/>'
    if title:
        yield f'<text x="8" y="16" font-size="13">{_visible(title)}</text>'
    for h, panel in enumerate(panels):
        yield f'<g transform="translate({h * width + left},{above + top})"><text y="{12 - top}">head {h}</text>'
        for (i, j), w in np.ndenumerate(panel):
            shade = 255 - round(255 * float(min(max(w, 0), 1)))
            where = f'x="{j * cell}" y="{i * cell}" width="{cell}" height="{cell}"'
            yield f'<rect {where} fill="rgb({shade},{shade},255)"/>'
        for i, name in enumerate(queries):
            yield f'<text x="-4" y="{i * cell + 11}" text-anchor="end">{_visible(name)}</text>'
        for j, name in enumerate(keys):
            yield f'<text transform="translate({j * cell + 11},-4) rotate(-90)">{_visible(name)}</text>'
        yield "</g>"
    yield "</svg>\n"


def _visible(text: str) -> str:
    """Text as SVG may hold it: control characters spelt out."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
