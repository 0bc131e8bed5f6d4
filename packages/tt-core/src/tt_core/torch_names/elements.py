"""Part of module 01, tensor: methods of PyTorch's that find, scatter, draw and change elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import explained_methods
from tt_core.engine.dispatch import Array, HasArray, quietly, wrap
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, shown
from tt_core.random import Generator, source
from tt_core.tensor import elementwise as E
from tt_core.tensor import indexing as I
from tt_core.tensor import shapes as S

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor


def same_as(name: str) -> Callable[..., Any]:
    """PyTorch's second name of a method."""

    def method(self: Any, *inputs: Any, **options: Any) -> Any:
        return getattr(self, name)(*inputs, **options)

    method.__doc__ = f"Same as `{name}`."
    return method


def _in_place_of(name: str) -> Callable[..., Any]:
    """The method `name` with its result written over the tensor; raises as all changes in place do."""

    def method(self: Any, *inputs: Any, **options: Any) -> Any:
        result = getattr(self.detach(), name)(*inputs, **options)
        instead = f"{name}()"
        if result.shape != self.shape:
            raise ShapeError(f"{name}_: the result has shape {result.shape}, the tensor {self.shape}; use {instead}")
        write = lambda data: np.copyto(data, result.data, casting="same_kind")  # noqa: E731
        return self._in_place(f"{name}_", instead, result, write)

    method.__doc__ = f"Same as `{name}`, in place."

    return method


def needs(name: str, *pairs: tuple[Any, int]) -> None:
    """Raise unless each tensor has its number of dimensions."""
    for x, ndim in pairs:
        if x.ndim != ndim:
            raise ShapeError(f"{name}: needs a tensor of {ndim} dimensions, got shape {x.shape}; matmul() takes any")


@explained_methods
class ElementMethods(HasArray):
    """What `Tensor` inherits to find, scatter, draw and change elements under PyTorch's names."""

    # --- finding, choosing and scattering

    def nonzero(self: Any, *, as_tuple: bool = False) -> Any:
        """Indices of the elements that are not 0, a row for each; with `as_tuple`, a tensor for each dimension."""
        if as_tuple:
            return tuple(wrap(at) for at in np.nonzero(np.atleast_1d(self.data)))
        return wrap(np.argwhere(self.data))

    argwhere = same_as("nonzero")

    def masked_select(self: Any, mask: Tensor) -> Tensor:
        """The elements where `mask`, which broadcasts with this tensor, holds, as a vector."""
        shape = np.broadcast_shapes(self.shape, mask.shape)
        return self.expand(shape)[mask.expand(shape)]

    def take(self: Any, index: Tensor) -> Tensor:
        """Elements of the flattened tensor, in the shape of `index`."""
        return self.flatten()[index]

    def unique(
        self: Any,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Any:
        """The distinct elements (or entries of `dim`) in order; on request, where each is and how often it occurs."""
        found, inverse, counts = np.unique(self.data, return_inverse=True, return_counts=True, axis=dim)
        shape = self.shape if dim is None else (self.shape[dim],)
        parts = [found] + [inverse.reshape(shape)] * return_inverse + [counts] * return_counts
        return wrap(tuple(parts)) if len(parts) > 1 else wrap(found)

    def bincount(self: Any, weights: Tensor | Array | None = None, minlength: int = 0) -> Tensor:
        """How often each of the integers 0, 1, ... occurs, or the sum of their weights.

        Raises `ShapeError` for negative integers and for a tensor that is not a vector.
        """
        needs("bincount", (self, 1))
        if self.dtype.kind not in "iu" or (self.numel() and self.data.min() < 0):
            raise ShapeError(f"bincount: needs integers of at least 0, got {self.dtype} from {self.data.min()}")
        if weights is None:
            return wrap(np.bincount(self.data, minlength=minlength))
        total = np.bincount(self.data, weights.data, minlength)
        return wrap(total.astype(np.float32) if weights.dtype == np.float32 else total)

    def scatter_add(self: Any, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
        """`src` added at `index` along `dim`: for dim 0 of a matrix, `self[index[i, j], j] += src[i, j]`.

        Raises `ShapeError` where `index` is larger than `src`, or than this tensor outside `dim`, and
        `OutOfRangeError` for an index that does not exist.
        """
        dim = self._dim("scatter_add", dim)
        part = _covering("scatter_add", self, dim, index, src)
        if not self.ndim:
            return self + part
        covered = tuple(n if d == dim else m for d, (n, m) in enumerate(zip(self.shape, index.shape)))
        places = I.along_dim(index.data, dim, covered, part.shape)
        spread = I.add_at(part, index=places, shape=covered)
        missing = [(0, n - m) for n, m in zip(self.shape, covered)][::-1]
        if covered != self.shape:
            spread = S.pad(spread, pad=[n for pair in missing for n in pair])
        return self + spread

    def scatter(
        self: Any, dim: int, index: Tensor, src: Tensor | float | None = None, *, value: float | None = None
    ) -> Tensor:
        """`src` (a tensor or a number) written at `index` along `dim`, the last one where several meet.

        Raises as `scatter_add` does.
        """
        if (src is None) == (value is None):
            raise ArgumentError("scatter: takes a tensor or a number as src, or a number as value; give one of them")
        src = value if src is None else src
        if not isinstance(src, HasArray):
            src = wrap(quietly(np.full, index.shape, numbers("scatter", src), self.dtype))
        dim = self._dim("scatter", dim)
        src = _covering("scatter", self, dim, index, src)
        order = np.arange(1, index.data.size + 1).reshape(index.shape)
        last = np.zeros(self.shape, np.int64)  # which element of src is written last at each place, counted from 1
        places: list[Any] = list(np.ogrid[tuple(slice(n) for n in index.shape)])
        if self.ndim:
            places[dim] = index.data
        last[tuple(places)] = order
        wins = last[tuple(places)] == order
        return E.masked_fill(self, last > 0, 0).scatter_add(dim, index, E.where(wins, src, 0)).to(self.dtype)

    def index_add(self: Any, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        """`alpha * source` added to the entries `index` of `dim`, several times where one is named twice."""
        at = (*(slice(None),) * self._own_dim("index_add", dim), index.data)
        rows = source if alpha == 1 else source * alpha
        return self + I.add_at(rows, index=at, shape=self.shape)

    def index_fill(self: Any, dim: int, index: Tensor, value: float) -> Tensor:
        """`value` in the entries `index` of `dim`."""
        mask = np.zeros(self.shape, bool)
        mask[(*(slice(None),) * self._own_dim("index_fill", dim), index.data)] = True
        return E.masked_fill(self, mask, value)

    def index_copy(self: Any, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """The entries `index` of `dim` replaced by those of `source`."""
        dim = self._own_dim("index_copy", dim)
        places = index.data.reshape((-1,) + (1,) * (self.ndim - dim - 1))
        return self.scatter(dim, wrap(np.broadcast_to(places, source.shape)), source)

    # --- random numbers

    def multinomial(
        self: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
    ) -> Tensor:
        """`num_samples` indices drawn from each row in proportion to its weights; (n,) or (rows, n) gives (..., k).

        Raises `ShapeError` for weights that are negative, not finite or all 0, and where, without replacement, fewer
        than `num_samples` are positive.
        """
        weights = np.asarray(self.data, np.float64)
        if not 1 <= weights.ndim <= 2:
            raise ShapeError(f"multinomial: needs one or two dimensions, got shape {self.shape}")
        rows = np.atleast_2d(weights)
        if not np.isfinite(rows).all() or (rows < 0).any() or not (rows.sum(1) > 0).all():
            raise ShapeError("multinomial: each row of weights must be finite, at least 0, and not all 0")
        random = source(generator)
        if replacement:
            ends = rows.cumsum(1)
            draws = random.random((len(rows), num_samples)) * ends[:, -1:]
            chosen = np.stack([np.searchsorted(end, draw, side="right") for end, draw in zip(ends, draws)])
        else:
            least = int((rows > 0).sum(1).min())
            if num_samples > least:
                raise ShapeError(f"multinomial: cannot draw {num_samples} of {least} without replacement")
            with np.errstate(divide="ignore"):  # the first of several exponential clocks (Efraimidis, Spirakis 2006)
                chosen = np.argsort(random.standard_exponential(rows.shape) / rows, axis=1)[:, :num_samples]
        return wrap(chosen.reshape(*weights.shape[:-1], num_samples).astype(np.int64))

    def bernoulli(self: Any, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
        """1 with the probability that each element gives (or with `p`), else 0."""
        chance = self.data if p is None else p
        return wrap((source(generator).random(self.shape) < chance).astype(self.dtype))

    def uniform_(self: Any, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Fill with numbers that are uniform in [a, b)."""
        return self._drawn("uniform_", lambda: source(generator).uniform(a, b, self.shape))

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Fill with normal numbers of `mean` and `std`."""
        return self._drawn("normal_", lambda: source(generator).standard_normal(self.shape) * std + mean)

    def exponential_(self: Any, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Fill with exponentially distributed numbers of rate `lambd`."""
        return self._drawn("exponential_", lambda: source(generator).standard_exponential(self.shape) / lambd)

    def bernoulli_(self: Any, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
        """Fill with 1 with probability `p`, else 0."""
        return self._drawn("bernoulli_", lambda: source(generator).random(self.shape) < p)

    def random_(self: Any, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
        """Fill with whole numbers from `low` to `high` - 1; with one bound, from 0."""
        first, end = (0, low) if high is None else (low, high)
        return self._drawn("random_", lambda: source(generator).integers(first, end, self.shape))

    def _drawn(self: Any, name: str, draw: Callable[[], Array]) -> Tensor:
        return self._in_place(name, "a new tensor", 0, lambda data: np.copyto(data, draw(), casting="unsafe"))

    # --- in place: raises on a tensor that has history, as every change in place

    abs_, neg_, exp_, log_, sqrt_ = map(_in_place_of, ("abs", "neg", "exp", "log", "sqrt"))
    floor_, ceil_, round_, trunc_, sign_ = map(_in_place_of, ("floor", "ceil", "round", "trunc", "sign"))
    relu_, sigmoid_, tanh_, sin_, cos_ = map(_in_place_of, ("relu", "sigmoid", "tanh", "sin", "cos"))
    square_, reciprocal_, rsqrt_, pow_ = map(_in_place_of, ("square", "reciprocal", "rsqrt", "pow"))
    clip_, clamp_, clamp_min_, clamp_max_ = map(_in_place_of, ("clip", "clamp", "clamp_min", "clamp_max"))
    lerp_, addcmul_, addcdiv_, addmm_ = map(_in_place_of, ("lerp", "addcmul", "addcdiv", "addmm"))
    masked_fill_, scatter_, scatter_add_ = map(_in_place_of, ("masked_fill", "scatter", "scatter_add"))
    index_add_, index_fill_, index_copy_ = map(_in_place_of, ("index_add", "index_fill", "index_copy"))
    tril_, triu_, remainder_, floor_divide_ = map(_in_place_of, ("tril", "triu", "remainder", "floor_divide"))
    cumsum_, nan_to_num_, logical_not_ = map(_in_place_of, ("cumsum", "nan_to_num", "logical_not"))

    def fill_diagonal_(self: Any, fill_value: float) -> Tensor:
        """Set the main diagonal of a matrix to `fill_value`; raises `ShapeError` for fewer dimensions."""
        return self._in_place("fill_diagonal_", "where()", 0, lambda data: np.fill_diagonal(data, fill_value))


def numbers(name: str, x: object) -> Array:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{name}: takes numbers or booleans, got {shown(x)}")
    return array


def _covering(name: str, x: Any, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """The part of `src` that `index` covers, after all sizes and indices are checked."""
    src = src if isinstance(src, HasArray) else wrap(np.asarray(src))
    fits = index.ndim == x.ndim == src.ndim and all(n <= m for n, m in zip(index.shape, src.shape))
    if not fits or any(n > m for d, (n, m) in enumerate(zip(index.shape, x.shape)) if d != dim):
        raise ShapeError(f"{name}: index {index.shape} is larger than src {src.shape}, or than {x.shape} outside {dim}")
    size = x.shape[dim] if x.ndim else 1
    if index.data.size and not (index.data.min() >= 0 and index.data.max() < size):
        least, most = index.data.min(), index.data.max()
        raise OutOfRangeError(f"{name}: index goes from {least} to {most}, dimension {dim} has {size} entries")
    return src if src.shape == index.shape else src[tuple(slice(n) for n in index.shape)]
