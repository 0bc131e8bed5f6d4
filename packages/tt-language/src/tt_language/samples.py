"""Calls to try the ops of Act IV with, for `tt plugins check` and the test that holds formulas and kernels equal."""

from __future__ import annotations

from collections.abc import Iterable

from tt_core.samples import Arguments, Draw, Samples


def _attention(draw: Draw) -> Iterable[Arguments]:
    length, width = (128, 32) if draw.large else (5, 4)
    for heads, causal in ((2, False), (2, True), (1, True)):  # the last one shares a head of keys
        query = draw.normal(2, 2, length, width)
        key, value = draw.normal(2, heads, length, width), draw.normal(2, heads, length, width)
        yield (query, key, value, None), {"is_causal": causal, "enable_gqa": heads == 1}
    yield (query, query, query, draw.normal(length, length)), {}
    yield (query, query, query, None), {"dropout_p": 0.5}
    if not draw.large:
        keys, values = draw.normal(2, 2, 7, 4), draw.normal(2, 2, 7, 3)
        yield (query, keys, values, draw.mask(2, 1, 1, 7)), {}
        yield (query, keys, values, draw.normal(2, 5, 7)), {"is_causal": True, "causal_offset": 2, "scale": 0.3}
        yield (query[0, 0], keys[0, 0], values[0, 0], draw.mask(5, 7)), {"is_causal": True, "causal_offset": -2}
        yield (query, keys[:, :1], values[:1], None), {}
        yield (query[:1], keys[:1], values, draw.normal(2, 1, 1, 7)), {}
        yield (query, keys[:, :, :0], values[:, :, :0], None), {}


def _attention_weights(draw: Draw) -> Iterable[Arguments]:
    for (query, key, _, *mask), attributes in _attention(draw):
        if "dropout_p" not in attributes:
            yield (query, key, *mask), attributes


def _rms_norm(draw: Draw) -> Iterable[Arguments]:
    for shape in ((2048, 512),) if draw.large else ((3, 4), (2, 3, 4), (0, 4)):
        yield (draw.normal(*shape), draw.normal(shape[-1])), {"eps": 1e-5}
        yield (draw.normal(*shape), None), {"eps": None}


def _rotary(draw: Draw) -> Iterable[Arguments]:
    length = 256 if draw.large else 5
    yield (draw.normal(2, 2, length, 4), draw.unit(length, 2), draw.unit(length, 2)), {}
    yield (draw.normal(2, 2, length, 4), draw.unit(2, 1, length, 2), draw.unit(2, 1, length, 2)), {}


def _join_heads(draw: Draw) -> Iterable[Arguments]:
    yield (draw.normal(2, 2, 5, 4), draw.normal(2, 1, 5, 4)), {}
    yield (draw.normal(2, 5, 2, 4).swapaxes(-2, -3),), {}


def _embedding(draw: Draw) -> Iterable[Arguments]:
    for dim, padding_idx in ((4, None), (4, -1), (300, 2)):  # backward has a kernel for wide rows
        yield (draw.integers(7, 2, 3), draw.normal(7, dim)), {"padding_idx": padding_idx}


SAMPLES: dict[str, Samples] = {
    "split_heads": lambda draw: [((draw.normal(2, 5, 8),), {"heads": heads}) for heads in ((2,), (2, 1, 1))],
    "join_heads": _join_heads,
    "attention_weights": _attention_weights,
    "scaled_dot_product_attention": _attention,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "embedding": _embedding,
}
"""Calls by the name of the op."""
