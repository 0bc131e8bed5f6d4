"""Module 11, embeddings: from token ids to vectors, and from positions to vectors or rotations.

A table of vectors (`Embedding`) and three ways to say where a token stands: learnt vectors, fixed sine waves, and
rotations of queries and keys. `nearest`, `picture` and `memory_footprint` look at a trained table. Text becomes ids
in module 10; what attention does with the vectors is module 12.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op, quietly
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, shown
from tt_core.engine.files import write_atomic
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy, randn, tensor
from tt_language.embeddings.rope_scaling import RopeScaling
from tt_language.errors import ConfigError, check_positive, check_sizes, short
from tt_learn.autograd import gradient

# --- a table of vectors


@op
def embedding(ids: Array, weight: Array, /, padding_idx: int | None = None) -> Array:
    """Row `ids[...]` of `weight` (entries, dim) for each id: (...) gives (..., dim).

    `padding_idx` names a row that receives no gradient, from the end where it is negative. Raises `DTypeError` for ids
    that are no integers, `ShapeError` for a table that is no matrix, `OutOfRangeError` for ids outside it.

    >>> embedding(tensor([2, 0]), tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    tensor([[5., 6.],
            [1., 2.]])
    """
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids are whole numbers, got {ids.dtype}")
    if weight.ndim != 2:
        raise ValueError(f"weight is (entries, dim), got shape {weight.shape}")
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise OutOfRangeError(f"padding_idx {padding_idx} is outside the table, which has {len(weight)} entries")
    check_ids(ids, weight.shape[0])
    return weight[ids]


def check_ids(ids: Array, size: int) -> None:
    """Raise `OutOfRangeError` that names an id outside 0 ... size - 1 (a negative one would count from the end)."""
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        wrong = ids[(ids < 0) | (ids >= size)].flat[0]
        raise OutOfRangeError(f"id {wrong} is outside the vocabulary, which has {size} entries (0 to {size - 1})")


@op
def embedding_backward(g: Array, ids: Array, /, size: int, padding_idx: int | None = None) -> Array:
    """Gradient of `embedding` for its weight (size, dim): each row of `g` added to the row it was taken from.

    Repeated ids make this a sum, which NumPy has no fast form of for rows. Measured on 1024 ids of 1024 and dim 384:
    `np.add.at` on rows 2.9 ms, sort and `np.add.reduceat` 7.7, one-hot product 3.0, on single elements 0.9, row by
    row 0.7. Rows narrower than 256 are faster by elements.
    """
    dim = g.shape[-1]
    rows = g.reshape(ids.size, dim)
    ids = ids.reshape(-1).astype(np.intp, copy=False)  # narrow ids, times dim, would wrap round
    total = np.zeros((size, dim), g.dtype)
    if dim < 256:
        np.add.at(total.reshape(-1), (ids[:, None] * dim + np.arange(dim)).reshape(-1), rows.reshape(-1))
    else:
        for i, row in zip(ids.tolist(), rows):
            total[i] += row
    if padding_idx is not None:
        total[padding_idx] = 0
    return total


@gradient(embedding)
def _(out: Any, ids: Any, weight: Any, padding_idx: int | None) -> Any:
    size = weight.shape[0]
    row = None if padding_idx is None else padding_idx % size
    return None, lambda g: embedding_backward(g, ids, size=size, padding_idx=row)


@gradient(embedding_backward)
def _(out: Any, g: Any, ids: Any, size: int, padding_idx: int | None) -> Any:
    def for_g(gg: Any) -> Any:
        rows = embedding(ids, gg)
        keep = None if padding_idx is None else np.asarray(ids) != padding_idx
        return rows if keep is None else rows * keep[..., None].astype(rows.dtype)

    return for_g, None


class Embedding(Layer):
    """A table of `num_embeddings` vectors of `embedding_dim` numbers, looked up by id (PyTorch's `nn.Embedding`).

    `weight` (num_embeddings, embedding_dim) starts standard normal. The row `padding_idx` starts at zero and is never
    changed by a gradient. With `max_norm`, rows that are looked up and whose `norm_type` norm is larger are first
    scaled down to it, in place. Takes ids (...), returns (..., embedding_dim). Raises `OutOfRangeError` for ids
    outside, and `ConfigError` for `scale_grad_by_freq` and `sparse`, which are not built.

    >>> Embedding(10, 4)(tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    weight: Tensor

    @checked
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self._set_options(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        self.weight = randn(num_embeddings, embedding_dim).as_parameter()
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def _set_options(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise OutOfRangeError(f"Embedding: padding_idx {padding_idx} is outside its {num_embeddings} entries")
        if scale_grad_by_freq or sparse:
            raise ConfigError("Embedding: scale_grad_by_freq and sparse are not supported; leave them False")
        for name, value in (("max_norm", max_norm), ("norm_type", norm_type)):
            if value is not None and not (type(value) in (int, float) and value > 0):
                raise ConfigError(f"Embedding: {name} is {short(value)}, expected a number above 0")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type = max_norm, norm_type

    @classmethod
    @checked
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table of the given vectors (entries, dim), which training does not change unless `freeze` is False.

        It shares the memory of a tensor. Raises `ShapeError` for a table that is no matrix.

        >>> Embedding.from_pretrained(tensor([[1.0, 2.0], [3.0, 4.0]]))(tensor([1]))
        tensor([[3., 4.]])
        """
        table = embeddings if isinstance(embeddings, Tensor) else tensor(embeddings)
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ShapeError(f"Embedding: a table is floats (entries, dim), got {table.dtype} {tuple(table.shape)}")
        layer = Embedding.__new__(Embedding)
        Layer.__init__(layer)
        entries, dim = table.shape
        layer._set_options(entries, dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        layer.weight = from_numpy(table.data).as_parameter()
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(self, ids: Any) -> Any:
        if self.max_norm is not None:
            quietly(self._scale_down, np.asarray(ids), self.max_norm)
        return embedding(ids, self.weight, padding_idx=self.padding_idx)

    def _scale_down(self, ids: Array, most: float) -> None:
        """Bring the rows that are looked up to a norm of `most` at most."""
        check_ids(ids, self.num_embeddings)
        used = np.unique(ids)
        rows = self.weight.data[used]
        norms = (np.abs(rows) ** self.norm_type).sum(-1) ** (1 / self.norm_type)
        large = norms > most
        if large.any():
            mutation.record(self.weight.data)
            self.weight.data[used[large]] = rows[large] * (most / (norms[large] + 1e-7))[:, None]

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


# --- where a token stands


class PositionalEmbedding(Embedding):
    """A learnt vector for each of `max_length` positions, as GPT-2 has it; starts normal with deviation 0.02.

    Takes positions (...) and returns (..., dim).

    >>> PositionalEmbedding(16, 4)(tensor([0, 1])).shape
    (2, 4)
    """

    @checked
    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__(max_length, dim)
        self.weight.data *= np.float32(0.02)


class SinusoidalEmbedding(Layer):
    """Sine waves of falling frequency, one vector for each of `max_length` positions; nothing is learnt.

    PE(p, 2i) = sin(p / base^(2i/dim)), PE(p, 2i + 1) = cos of the same (Vaswani et al. 2017, section 3.5).
    Takes positions (...) and returns (..., dim). Raises `ShapeError` for an odd `dim`.

    >>> SinusoidalEmbedding(16, 2)(tensor([0]))
    tensor([[0., 1.]])
    """

    table: Tensor

    @checked
    def __init__(self, max_length: int, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        check_sizes("SinusoidalEmbedding", max_length=max_length, dim=dim)
        check_positive("SinusoidalEmbedding", "base", base)
        if dim % 2:
            raise ShapeError(f"SinusoidalEmbedding: dim {dim} is odd; a sine and a cosine share each frequency")
        self.max_length, self.dim = max_length, dim
        angle = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)  # (max_length, dim / 2)
        table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(max_length, dim)
        self.register_buffer("table", tensor(table, np.float32), persistent=False)

    def forward(self, positions: Any) -> Any:
        return embedding(positions, self.table)

    def extra_repr(self) -> str:
        return f"{self.max_length}, {self.dim}"


@op
def rotary(x: Array, cos: Array, sin: Array, /) -> Array:
    """Each pair (x[i], x[i + dim/2]) turned by its angle; x (..., T, dim), cos and sin (..., T, dim/2).

    Su et al. 2021 (arXiv:2104.09864), with the halves split as in Llama's checkpoints rather than interleaved. Raises
    `ShapeError` where there is not one angle for each pair.

    >>> rotary(tensor([[1.0, 0.0]]), tensor([[0.0]]), tensor([[1.0]]))  # by 90 degrees
    tensor([[0., 1.]])
    """
    half = x.shape[-1] // 2
    if x.shape[-1] % 2 or cos.shape[-1] != half:
        raise ValueError(f"{x.shape[-1]} features need {x.shape[-1] / 2:g} angles, got {cos.shape[-1]}")
    first, second = x[..., :half], x[..., half:]
    result = np.empty_like(x)
    np.multiply(first, cos, out=result[..., :half])
    result[..., :half] -= second * sin
    np.multiply(second, cos, out=result[..., half:])
    result[..., half:] += first * sin
    return result


@gradient(rotary)
def _(out: Any, x: Any, cos: Any, sin: Any) -> Any:
    """A rotation's transpose turns back; for the angles, pairs are multiplied as complex numbers."""

    def halves(*pairs: Any) -> list[Any]:
        return [part for each in pairs for part in each.chunk(2, -1)]

    def for_cos(g: Any) -> Any:
        g_first, g_second, first, second = halves(g, x)
        return g_first * first + g_second * second

    def for_sin(g: Any) -> Any:
        g_first, g_second, first, second = halves(g, x)
        return g_second * first - g_first * second

    return lambda g: rotary(g, cos, -sin), for_cos, for_sin


class RotaryEmbedding(Layer):
    """Rotates queries and keys by angles that grow with their position, so that products depend on distances alone.

    Frequencies are `theta ** (-2i / dim)`. `scaling` stretches them to longer texts as Llama's configurations say:
    `rope_type` is "linear", "dynamic", "llama3", "yarn" or "longrope", with its numbers under Hugging Face's names.
    Takes x (batch, heads, T, dim) and positions (T,) or (batch, T), returns the shape of x. Raises `ShapeError` for a
    scaling that it does not know, `OutOfRangeError` for a position from `max_length` on.

    >>> x = randn(1, 2, 3, 8)
    >>> turned = RotaryEmbedding(8, max_length=16)(x, tensor([0, 1, 2]))
    >>> bool(np.allclose(turned.norm(dim=-1).data, x.norm(dim=-1).data, atol=1e-5))
    True
    """

    frequency: Tensor

    @checked
    def __init__(
        self, dim: int, max_length: int = 2048, theta: float = 10000.0, scaling: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_sizes("RotaryEmbedding", dim=dim, max_length=max_length)
        check_positive("RotaryEmbedding", "theta", theta)
        if dim % 2:
            raise ShapeError(f"RotaryEmbedding: dim {dim} is odd; features turn in pairs")
        self.dim, self.max_length, self.theta = dim, max_length, theta
        self.scaling = RopeScaling.read(scaling or {}, dim, theta, max_length)
        # No buffer, since float16, to which a model may go, would be off by a whole turn at position 4000.
        frequency, self.magnitude = self.scaling.frequencies(dim, theta, 1)
        self.frequency = tensor(frequency)

    @checked
    def angles(self, positions: Any, endless: bool = False) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions (T,) as (T, dim/2), for (batch, T) as (batch, 1, T, dim/2).

        `endless` allows positions from `max_length` on, for queries that see only keys near them.
        """
        where = np.asarray(positions)
        if where.dtype.kind not in "iu" and where.size:
            raise DTypeError(f"RotaryEmbedding: positions are integers, got {shown(positions)}")
        if where.size and not (where.min() >= 0 and (endless or where.max() < self.max_length)):
            wrong = where.min() if where.min() < 0 else where.max()
            raise OutOfRangeError(f"RotaryEmbedding: position {wrong} is outside its {self.max_length} positions")
        frequency = self._frequencies(where)  # (dim/2,), or (batch, 1, dim/2)
        angle = where[..., None].astype(np.float32) * frequency
        angle = angle if where.ndim < 2 else angle[:, None]
        cos, sin = np.cos(angle), np.sin(angle)
        if self.magnitude != 1:
            cos, sin = cos * np.float32(self.magnitude), sin * np.float32(self.magnitude)
        return from_numpy(cos), from_numpy(sin)

    @checked
    def changes_at(self, length: int) -> bool:
        """Whether a text of `length` positions has other frequencies than one that is a position shorter.

        Keys that were remembered before it do not fit those after it. True for "dynamic" beyond the original context,
        and for "longrope" at its end.
        """
        return self.scaling.changes_at(length)

    def _frequencies(self, where: Array) -> Array:
        """Those of a text that ends with its largest position; each row of a batch is a text of its own."""
        if self.scaling.kind not in ("dynamic", "longrope") or not where.size:
            return self.frequency.data
        if where.ndim < 2:
            return self._for_length(int(where.max()) + 1)
        return np.stack([self._for_length(int(row.max()) + 1) for row in where])[:, None]

    def _for_length(self, length: int) -> Array:
        return self.scaling.frequencies(self.dim, self.theta, length)[0]

    def forward(self, x: Any, positions: Any) -> Any:
        return rotary(x, *self.angles(positions))

    def extra_repr(self) -> str:
        kind = "" if self.scaling.kind == "default" else f", {self.scaling.kind}"
        return f"{self.dim}, theta={self.theta:g}{kind}"


# --- looking at a trained table


def _table(source: Any) -> Array:
    """The (entries, dim) array of an Embedding, a tensor or an array."""
    weight = source.weight if isinstance(source, Embedding) else source
    table = np.asarray(weight.data if isinstance(weight, Tensor) else weight)
    table = table.astype(np.float32) if table.dtype == np.float16 else table  # norms overflow in float16
    if table.ndim != 2:
        raise ShapeError(f"embedding table: expected (entries, dim), got shape {table.shape}")
    return table


@checked
def nearest(source: Any, query: Any, k: int = 10) -> list[tuple[int, float]]:
    """The `k` entries whose vectors point most nearly the same way as `query`, best first: (id, cosine).

    `source` is an Embedding or a table (entries, dim); `query` an id, which is left out of the answer, or a vector.
    Raises `ShapeError` for a vector of another size or a `k` below 0, `OutOfRangeError` for an id outside.

    >>> nearest(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 0, k=1)[0][0]
    1
    """
    if k < 0:
        raise ArgumentError(f"nearest: k is {k}, expected 0 or more")
    table = _table(source)
    own = query if isinstance(query, (int, np.integer)) else None
    if own is not None:
        check_ids(np.asarray(own), len(table))
    vector = table[own] if own is not None else np.asarray(query.data if isinstance(query, Tensor) else query)
    if table.dtype.kind not in "fiu" or vector.dtype.kind not in "fiu":
        raise DTypeError(f"nearest: needs vectors of numbers, got {table.dtype} and {vector.dtype}")
    if vector.shape != table.shape[1:]:
        raise ShapeError(f"nearest: the vector has shape {vector.shape}, the table's have {table.shape[1:]}")
    lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(vector)
    cosine = np.divide(table @ vector, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    order = np.argsort(-cosine, kind="stable")
    return [(int(i), float(cosine[i])) for i in order if i != own][:k]


@checked
def picture(source: Any, ids: Sequence[int], path: str | os.PathLike[str], labels: Sequence[str] | None = None) -> None:
    """Draw the vectors of `ids` in the plane in which they differ most (principal components), as SVG at `path`.

    `labels` are the texts at the points, the ids themselves by default. Raises `ArgumentError` for fewer than 2 ids and
    for vectors that are infinite or nan.
    """
    table = _table(source)
    if len(ids) < 2 or (labels is not None and len(labels) != len(ids)):
        raise ArgumentError(f"picture: needs 2 ids or more and a label for each, got {len(ids)} ids")
    check_ids(np.asarray(ids), len(table))
    if not np.isfinite(table[list(ids)]).all():
        raise ArgumentError("picture: the vectors are not all numbers")
    names = [str(i) for i in ids] if labels is None else labels
    write_atomic(path, _svg(_plane(table[list(ids)]), names).encode("utf-8"))


def _plane(vectors: Array) -> Array:
    """(n, dim) to (n, 2): coordinates along the two directions of largest variance, scaled to [0, 1]."""
    centred = vectors - vectors.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(vectors), 2))
    flat[:, : min(2, len(size))] = (left * size)[:, :2]
    low, span = flat.min(0), np.ptp(flat, axis=0)
    return (flat - low) / np.where(span > 0, span, 1)


def _svg(points: Array, names: Sequence[str], width: int = 720, height: int = 540, margin: int = 36) -> str:
    def dots() -> Iterator[str]:
        for (x, y), name in zip(points, names):
            at_x, at_y = margin + x * (width - 2 * margin), margin + (1 - y) * (height - 2 * margin)
            visible = escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in name))
            yield f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="2.5" fill="#36c"/>'
            yield f'<text x="{at_x + 4:.1f}" y="{at_y + 4:.1f}">{visible}</text>'

    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
    head += ' font-size="11">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *dots(), "</svg>\n"])


# --- what it costs


@dataclass(frozen=True)
class MemoryFootprint:
    """Bytes of a model's parameters: those in embedding tables, beside all others."""

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
    tables = {id(layer.weight) for layer in model.layers() if isinstance(layer, Embedding)}
    named = dict(model.named_parameters())
    found = {name: p.nbytes for name, p in named.items() if id(p) in tables}
    return MemoryFootprint(found, sum(p.nbytes for p in named.values()) - sum(found.values()))
