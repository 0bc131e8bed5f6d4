"""Calls to try the ops of Act I with: what `tt plugins check` compares kernels on. Not a module of the journey.

Later acts, and packages with ops of their own, answer the hook `tt_samples` with a table like `SAMPLES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The inputs and attributes of one call."""

LAYOUTS = ("contiguous", "Fortran", "strided", "negative strides")
CORNERS = (np.nan, np.inf, -np.inf, -0.0, 0.0)


@dataclass
class Draw:
    """Draws random arrays of one dtype and memory layout, with some of `CORNERS` among their entries or without.

    >>> Draw("float32", "Fortran").normal(2, 3).flags.f_contiguous
    True
    """

    dtype: str
    layout: str = "contiguous"
    corners: bool = False
    large: bool = False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes for ops that take any: without dimensions, empty, and more; one of a megabyte where `large`."""
        return ((512, 512),) if self.large else ((), (0,), (1,), (5, 7), (2, 0, 3), (2, 3, 4))

    def normal(self, *shape: int) -> Array:
        """Normally distributed numbers; small integers or booleans where the dtype has no fractions."""
        return self._placed(self.rng.standard_normal(shape) * 3, self.corners)

    def positive(self, *shape: int) -> Array:
        """Numbers from 0.5 to 2."""
        return self._placed(self.rng.uniform(0.5, 2.0, shape), self.corners)

    def unit(self, *shape: int) -> Array:
        """Numbers from 0.01 to 0.99, such as probabilities."""
        return self._placed(self.rng.uniform(0.01, 0.99, shape), corners=False)

    def distinct(self, *shape: int) -> Array:
        """Distinct numbers in random order, so that their order is unique; of booleans there are no more than two."""
        return self._placed(self.rng.permutation(math.prod(shape)).reshape(shape), corners=False)

    def integers(self, high: int, *shape: int) -> Array:
        """Int64 from 0 to `high` - 1: labels or indices."""
        return self._laid_out(np.asarray(self.rng.integers(high, size=shape)))

    def mask(self, *shape: int) -> Array:
        """Booleans."""
        return self._laid_out(np.asarray(self.rng.random(shape) < 0.5))

    def _placed(self, values: Any, corners: bool) -> Array:
        values = np.asarray(values)
        if corners and self.dtype.startswith("float"):
            chosen = self.rng.random(values.shape) < 0.1
            values = np.where(chosen, self.rng.choice(CORNERS, values.shape), values)
        return self._laid_out(values.astype(self.dtype))

    def _laid_out(self, values: Array) -> Array:
        if self.layout == "Fortran":
            return np.asfortranarray(values)
        if self.layout == "contiguous" or not values.ndim:
            return values
        step = 2 if self.layout == "strided" else -1
        every = tuple(slice(None, None, step) for _ in values.shape)
        room = np.zeros([abs(step) * n for n in values.shape], values.dtype)
        room[every] = values
        return room[every]


Samples = Callable[[Draw], Iterable[Arguments]]


def unary(numbers: str = "normal", **attributes: Any) -> Samples:
    """Calls of an op with one input of any shape; `numbers` is the method of `Draw` that makes it."""
    return lambda draw: [((getattr(draw, numbers)(*shape),), attributes) for shape in draw.shapes]


def binary(second: str = "normal") -> Samples:
    """Calls of an op with two inputs that are broadcast."""

    def calls(draw: Draw) -> Iterable[Arguments]:
        other = getattr(draw, second)
        for shape in draw.shapes:
            yield (draw.normal(*shape), other(*shape)), {}
            yield (draw.normal(*shape), other(*shape[-1:])), {}
            yield (draw.normal(*shape), other()), {}

    return calls


def reduction(*dims: int | tuple[int, ...] | None, **attributes: Any) -> Samples:
    """Calls of an op that reduces dimensions: each of `dims` where the array has them."""

    def calls(draw: Draw) -> Iterable[Arguments]:
        for shape in draw.shapes:
            for dim in dims:
                needed = 0 if dim is None else max(d + 1 if d >= 0 else -d for d in np.atleast_1d(dim))
                if len(shape) >= needed:
                    yield (draw.normal(*shape),), {"dim": dim, **attributes}

    return calls


def along(**attributes: Any) -> Samples:
    """Calls of an op over one dimension that stays."""
    return reduction(-1, 0, **attributes)


def _matmul(draw: Draw) -> Iterable[Arguments]:
    sizes = (
        [((256, 256), (256, 256))]
        if draw.large
        else [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4,)), ((0, 4), (4, 5))]
    )
    return [((draw.normal(*a), draw.normal(*b)), {}) for a, b in sizes]


def _linear(draw: Draw) -> Iterable[Arguments]:
    sizes = ((256, 512, 512),) if draw.large else ((3, 4, 5), (0, 4, 5), (1, 1, 1))
    for rows, inputs, outputs in sizes:
        yield (draw.normal(rows, inputs), draw.normal(outputs, inputs), draw.normal(outputs)), {}
        yield (draw.normal(rows, inputs), draw.normal(outputs, inputs), None), {}


def _layer_norm(draw: Draw) -> Iterable[Arguments]:
    for shape in ((2048, 512),) if draw.large else ((3, 4), (2, 3, 4), (0, 4), (1, 1), (5,)):
        yield (draw.normal(*shape), draw.normal(shape[-1]), draw.normal(shape[-1])), {"dims": 1, "eps": 1e-5}
        yield (draw.normal(*shape), None, None), {"dims": 1, "eps": 1e-5}
    if not draw.large:
        yield (draw.normal(2, 3, 4), draw.normal(3, 4), draw.normal(3, 4)), {"dims": 2, "eps": 1e-5}


def _cross_entropy(draw: Draw) -> Iterable[Arguments]:
    rows, classes = (2048, 512) if draw.large else (5, 7)
    for reduction_ in ("mean", "sum", "none"):
        attributes = {"ignore_index": -100, "reduction": reduction_}
        yield (draw.normal(rows, classes), draw.integers(classes, rows), None), attributes
        yield (draw.normal(rows, classes), draw.integers(classes, rows), draw.unit(classes)), attributes
        yield (draw.normal(rows, classes), draw.integers(classes, rows), None), {**attributes, "ignore_index": 1}
    soft = replace(draw, rng=np.random.default_rng(1))  # the samples of the ops after this one stay what they were
    for reduction_ in ("mean", "sum", "none"):
        smooth = {"ignore_index": -100, "reduction": reduction_, "label_smoothing": 0.1}
        yield (soft.normal(rows, classes), soft.integers(classes, rows), soft.unit(classes)), smooth
        yield (soft.normal(rows, classes), soft.unit(rows, classes), soft.unit(classes)), smooth


def _where(draw: Draw) -> Iterable[Arguments]:
    return [((draw.mask(*shape), draw.normal(*shape), draw.normal(*shape)), {}) for shape in draw.shapes]


def _matrices(draw: Draw) -> Iterable[Arguments]:
    return [((draw.normal(*shape),), {"diagonal": 0}) for shape in draw.shapes if len(shape) >= 2]


def _matrix(*others: Callable[[Draw], Any], **attributes: Any) -> Samples:
    """A call with a matrix of 6 x 8 and other inputs."""
    return lambda draw: [((draw.normal(6, 8), *(other(draw) for other in others)), attributes)]


def _topk(draw: Draw) -> Iterable[Arguments]:
    shape = (64, 1000) if draw.large else (6, 8)
    for largest in (True, False) if draw.dtype != "bool" else ():
        for k, dim in ((3, -1), (6, 0), (0, 0)):
            yield (draw.distinct(*shape),), {"k": k, "dim": dim, "largest": largest}


def _joined(draw: Draw) -> Iterable[Arguments]:
    return [((draw.normal(*shape), draw.normal(*shape)), {"dim": 0}) for shape in draw.shapes if shape]


_BINARY = "add sub mul div floor_divide remainder maximum minimum eq ne lt le gt ge logical_and logical_or "
_BINARY += "fmod atan2 hypot logaddexp"
_UNARY = (
    "logical_not isnan isfinite neg abs sign exp expm1 sin cos tan asin acos atan sinh cosh asinh acosh atanh floor "
    "ceil round trunc erf exp2 contiguous clone"
)
_REDUCTIONS = "sum mean var std norm amax amin all any logsumexp"
_ACTIVATIONS = "relu leaky_relu softplus sigmoid tanh silu"

SAMPLES: dict[str, Samples] = {
    **{name: binary() for name in _BINARY.split()},
    **{name: unary() for name in (_UNARY + " " + _ACTIVATIONS).split()},
    **{name: unary("positive") for name in ("log", "log1p", "log2", "log10", "sqrt")},
    **{name: reduction(None, 0, -1, (0, 1)) for name in _REDUCTIONS.split()},
    **{name: reduction(None, 0, -1) for name in ("prod", "argmax", "argmin")},
    **{name: along() for name in ("softmax", "log_softmax", "cumsum", "cumprod", "running_extreme", "argsort")},
    "pow": binary("positive"),
    "clip": unary(min=-1.0, max=1.0),
    "gelu": lambda draw: [*unary(approximate="none")(draw), *unary(approximate="tanh")(draw)],
    "dropout": lambda draw: [*unary(p=0.5)(draw), *unary(p=0.5, training=False)(draw)],
    "where": _where,
    "matmul": _matmul,
    "linear": _linear,
    "layer_norm": _layer_norm,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": lambda draw: [((draw.unit(*shape), draw.unit(*shape)), {}) for shape in draw.shapes],
    "tril": _matrices,
    "triu": _matrices,
    "masked_fill": _matrix(lambda draw: draw.mask(6, 8), lambda draw: 2),
    "take_along_dim": _matrix(lambda draw: draw.integers(6, 3, 8), dim=0),
    "index_select": _matrix(lambda draw: draw.integers(6, 3), dim=0),
    "getitem": lambda draw: [
        *_matrix(index=(slice(1, None), np.array([0, 2, 2])))(draw),
        *_matrix(index=(slice(1, None), 2))(draw),
    ],
    "add_at": lambda draw: [
        *_matrix(index=(slice(1, None), slice(None, None, 2)), shape=(7, 16))(draw),
        *_matrix(index=(np.array([0, 2, 2, 1, 0, 2]),), shape=(3, 8))(draw),
    ],
    "repeat_interleave": _matrix(repeats=2, dim=0),
    "pad": lambda draw: [
        call
        for mode in ("constant", "reflect", "replicate", "circular")
        for pad in ((1, 2), (2, -1, 0, 1))
        for call in _matrix(pad=pad, mode=mode)(draw)
    ],
    "roll": _matrix(shifts=2, dims=0),
    "cast": lambda draw: [*_matrix(dtype=np.dtype("float64"))(draw), *_matrix(dtype=np.dtype(draw.dtype))(draw)],
    "einsum": lambda draw: [
        ((draw.normal(6, 8),), {"equation": "ij->ji"}),
        ((draw.normal(6, 8), draw.normal(8, 3)), {"equation": "ij,jk->ik"}),
    ],
    "permute": _matrix(dims=(1, 0)),
    "transpose": _matrix(dim0=0, dim1=1),
    "unsqueeze": _matrix(dim=0),
    "squeeze": _matrix(dim=0),
    "reshape": _matrix(shape=(4, 12)),
    "view": _matrix(shape=(4, 12)),
    "expand": _matrix(shape=(2, 6, 8)),
    "flip": _matrix(dims=(0,)),
    "topk_indices": _topk,
    **{
        f"bitwise_{name}": lambda draw: [((draw.integers(8, 6, 8), draw.integers(8, 8)), {})]
        for name in ("and", "or", "xor")
    },
    "bitwise_not": lambda draw: [((draw.integers(8, 6, 8),), {})],
    "cat": _joined,
    "stack": _joined,
}
"""Calls by the name of the op."""
