"""Module 11, embeddings: a table of vectors, looked up by token id.

The gradient of a look-up adds each row of the gradient to the row it was taken from. Text becomes ids in module 10,
`positions` and `rotary` say where a token stands, and what attention does with the vectors is module 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core import init
from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op, quietly
from tt_core.engine.errors import ShapeError
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import empty, from_numpy, tensor
from tt_core.tensor.elementwise import half_in_float32
from tt_core.tensor.shapes import new_size
from tt_language.embeddings.checks import check_embedding, check_ids, check_options, check_table
from tt_learn.autograd import gradient

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike

# --- the ops


@op(check=check_embedding)
def embedding(ids: Array, weight: Array, /, padding_idx: int | None = None) -> Array:
    """Row `ids[...]` of `weight` (entries, dim) for each id: (...) gives (..., dim).

    `padding_idx` names a row that receives no gradient; a negative one counts from the end. Raises `DTypeError` for ids
    that are not integers, `ShapeError` for a table that is not a matrix, `OutOfRangeError` for ids outside it.

    >>> embedding(tensor([2, 0]), tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    tensor([[5., 6.],
            [1., 2.]])
    """
    return weight[ids]


@op
@half_in_float32
def embedding_backward(g: Array, ids: Array, /, size: int, padding_idx: int | None = None) -> Array:
    """Gradient of `embedding` for its weight (size, dim): the sum of the rows of `g` (..., dim) for each id."""
    total = np.zeros((size, g.shape[-1]), g.dtype)
    np.add.at(total, ids, g)  # unlike `total[ids] += g`, adds repeated ids
    if padding_idx is not None:
        total[padding_idx] = 0
    return total


# A one-hot matrix (..., size) @ weight (size, dim) would give the same rows, at `size` times the cost. Its transpose is
# the gradient: each row of g is added to the row of the table that it was taken from.
@gradient(embedding)
def _(out: Any, ids: Any, weight: Any, padding_idx: int | None) -> Any:
    size = weight.shape[0]
    row = None if padding_idx is None else padding_idx % size
    return None, lambda g: embedding_backward(g, ids, size=size, padding_idx=row)


@gradient(embedding_backward)
def _(out: Any, g: Any, ids: Any, size: int, padding_idx: int | None) -> Any:
    def for_g(u: Any) -> Any:  # the gradient of adding rows up is looking them up
        rows = embedding(ids, u)  # (..., dim)
        keep = None if padding_idx is None else np.asarray(ids) != padding_idx
        return rows if keep is None else rows * keep[..., None].astype(rows.dtype)

    return for_g, None


# --- the layer


class Embedding(Layer):
    """A table of `num_embeddings` vectors with `embedding_dim` features, looked up by id (PyTorch's `nn.Embedding`).

    `weight` (num_embeddings, embedding_dim) starts standard normal. The row `padding_idx` starts at zero and receives
    no gradient. With `max_norm`, rows that are looked up and whose `norm_type` norm is larger are first scaled down to
    it, in place. Takes ids (...), returns (..., embedding_dim). Raises `OutOfRangeError` for ids outside the table,
    and `ConfigError` for `scale_grad_by_freq` and `sparse`, which are not supported.

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
        _weight: Tensor | None = None,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        new_size("Embedding", (num_embeddings, embedding_dim))
        check_options(num_embeddings, padding_idx, max_norm, norm_type, scale_grad_by_freq or sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type = max_norm, norm_type
        # standard normal, as in PyTorch; models that add residuals start smaller (`GPT`)
        weight = init.normal_(empty(num_embeddings, embedding_dim)) if _weight is None else _weight
        check_table(weight, num_embeddings, embedding_dim)
        self.weight = weight.as_parameter()
        if _weight is None and self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0
        self._made_in(device, dtype)

    @classmethod
    @checked
    def from_pretrained(
        cls,
        embeddings: Tensor | Array | Sequence[Any],
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table of the given vectors (entries, dim), a tensor or an array; trained only with `freeze=False`.

        Shares the memory of a tensor. Raises `ShapeError` for a table that is not a matrix of floats.

        >>> Embedding.from_pretrained(tensor([[1.0, 2.0], [3.0, 4.0]]))(tensor([1]))
        tensor([[3., 4.]])
        """
        table = embeddings if isinstance(embeddings, Tensor) else tensor(embeddings)
        if table.ndim != 2 or table.dtype.kind != "f":
            raise ShapeError(f"Embedding: a table is floats (entries, dim), got {table.dtype} {tuple(table.shape)}")
        entries, dim = table.shape
        layer = Embedding(
            entries, dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight=from_numpy(table.data)
        )
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        if self.max_norm is not None:
            quietly(self._scale_down, np.asarray(ids), self.max_norm)
        return embedding(ids, self.weight, padding_idx=self.padding_idx)

    def _scale_down(self, ids: Array, most: float) -> None:
        """Scales down in place the rows that are looked up and whose norm, of order `norm_type`, is above `most`.

        Calls `mutation.record` with the table if a row changes, so that gradients and caches notice it.
        """
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
