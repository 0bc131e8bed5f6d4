"""Part of module 11, embeddings: how much of a model's memory its embedding tables take."""

from __future__ import annotations

from dataclasses import dataclass

from tt_core.engine.arguments import checked
from tt_core.layers import Layer
from tt_language.embeddings.embeddings import Embedding


@dataclass(frozen=True)
class MemoryFootprint:
    """Bytes of a model's parameters: those in embedding tables, and all others."""

    embeddings: dict[str, int]
    """Bytes of each table by its name in the model."""
    rest: int

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.embeddings.values()) + self.rest

    def __str__(self) -> str:
        rows = [*self.embeddings.items(), ("everything else", self.rest), ("total", self.total)]
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{wide}}  {n / 1e6:10.2f} MB  {n / max(self.total, 1):6.1%}" for name, n in rows)


@checked
def memory_footprint(model: Layer) -> MemoryFootprint:
    """How much of a model's memory its embedding tables take; a table shared with the output counts once.

    >>> memory_footprint(Embedding(1000, 10)).embeddings
    {'weight': 40000}
    """
    tables = {id(layer.weight) for layer in model.modules() if isinstance(layer, Embedding)}
    named = dict(model.named_parameters())
    found = {name: p.nbytes for name, p in named.items() if id(p) in tables}
    return MemoryFootprint(found, sum(p.nbytes for p in named.values()) - sum(found.values()))
