"""The tables of derivatives for the ops of Act I; importing a table enters its rules."""

from __future__ import annotations

from tt_learn.rules import activations, elementwise, functions, indexing, layers, losses, products, reductions, shapes

__all__ = [
    "activations",
    "elementwise",
    "functions",
    "indexing",
    "layers",
    "losses",
    "products",
    "reductions",
    "shapes",
]
