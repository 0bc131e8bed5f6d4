"""Every gradient rule of Acts I and II against finite differences, and proof that a wrong rule would be found.

The table below has a case for each shape and attribute worth telling apart. Each runs with its inputs stored in three
ways (row by row, in reverse order of dimensions, and with gaps), all in float64 and with random weights on the output.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tt_learn
from tt_core import activations as A
from tt_core import layers as L
from tt_core import losses
from tt_core.engine.dispatch import Array, Op, registry, wrap
from tt_core.tensor import elementwise as E
from tt_core.tensor import indexing as I
from tt_core.tensor import products
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.torch_names import ops as M
from tt_learn import GradientError, gradcheck, gradgradcheck
from tt_learn.autograd import Tensor, forget_rule, gradient, rule_of, sum_to
from tt_learn.autograd.finite_differences import GradcheckError
from tt_learn.autograd.rules import entry_of, register
from tt_learn.rules import activations as RA
from tt_learn.rules import layers as RL
from tt_learn.rules import losses as RO
from tt_learn.rules.products import rows_product

TOLERANCE = {"eps": 1e-5, "atol": 1e-8, "rtol": 1e-6}


# --- what goes into a case


@dataclass(frozen=True)
class Floats:
    """A float64 input to differentiate for, with values that suit the op."""

    shape: tuple[int, ...]
    values: str = "normal"


@dataclass(frozen=True)
class Same:
    """The tensor that is input `of` once more."""

    of: int = 0


@dataclass(frozen=True)
class Case:
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    call: Callable[..., Any] | None = None
    """What to run in place of the op, for a backward kernel whose inputs belong together."""


def F(*shape: int, values: str = "normal") -> Floats:
    return Floats(shape, values)


def case(*inputs: Any, call: Callable[..., Any] | None = None, **attributes: Any) -> Case:
    return Case(inputs, attributes, call)


VALUES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    "unit": lambda rng, shape: rng.uniform(0.1, 0.9, shape),
    # no two alike, and none near 0 or a whole number, where functions have kinks
    "apart": lambda rng, shape: (rng.permutation(int(np.prod(shape))).reshape(shape) - 2.5) * 0.37 + 0.011,
    # as above, but never near the values of "apart"
    "between": lambda rng, shape: (rng.permutation(int(np.prod(shape))).reshape(shape) - 2.5) * 0.37 + 0.16,
}


def stored(array: Array, how: int) -> Array:
    """Equal values in another layout: row by row, dimensions in reverse, every second element of a larger array."""
    if how == 0 or not array.ndim:
        return array
    if how == 1:
        return np.ascontiguousarray(array.T).T
    roomy = np.full(tuple(2 * n for n in array.shape), np.nan)
    roomy[tuple(slice(None, None, 2) for _ in array.shape)] = array
    return roomy[tuple(slice(None, None, 2) for _ in array.shape)][::1]


def inputs_of(made: Case, seed: int, how: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    inputs: list[Any] = []
    for i, given in enumerate(made.inputs):
        if isinstance(given, Floats):
            array = stored(np.asarray(VALUES[given.values](rng, given.shape), dtype=np.float64), (how + i) % 3)
            inputs.append(wrap(array).requires_grad_())
        else:
            inputs.append(inputs[given.of] if isinstance(given, Same) else given)
    return inputs


def function_of(op: Op, made: Case) -> Callable[..., Any]:
    return lambda *inputs: (made.call or op.call)(*inputs, **made.attributes)


# --- the table

SHAPES = ((), (0,), (1,), (5,), (3, 4), (2, 0, 3), (2, 3, 4), (1, 3, 1))
PAIRS = (((), ()), ((3,), ()), ((), (2, 3)), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1)),
         ((2, 0), (1,)), ((0, 3), (0, 3)))  # fmt: skip


def unary(values: str = "normal", **attributes: Any) -> list[Case]:
    return [case(F(*shape, values=values), **attributes) for shape in SHAPES]


def binary(first: str = "normal", second: str = "normal", twice: bool = True) -> list[Case]:
    cases = [case(F(*a, values=first), F(*b, values=second)) for a, b in PAIRS]
    cases += [case(F(2, 3, values=first), 1.5), case(2.5, F(2, 3, values=second))]
    return cases + [case(F(2, 3, values="positive"), Same())] * twice


def backward_kernel(values: str = "normal", **attributes: Any) -> list[Case]:
    """`g` and the input or result, of one shape each."""
    return [case(F(*shape), F(*shape, values=values), **attributes) for shape in SHAPES] + [case(F(3, 2), Same())] * (
        values == "normal"
    )


def reduced(values: str = "normal", dims: tuple[Any, ...] = (None, 0, 1, -1, (0, 2)), **attributes: Any) -> list[Case]:
    cases = [case(F(2, 3, 4, values=values), dim=d, keepdim=k, **attributes) for d in dims for k in (False, True)]
    return [*cases, case(F(values=values), dim=None, **attributes), case(F(1, values=values), dim=0, **attributes)]


def along(values: str = "normal", **attributes: Any) -> list[Case]:
    """Ops over one dimension that stays."""
    shapes = ((3, 4), (2, 3, 4), (5,), (1, 3), (0, 3))
    cases = [case(F(*shape, values=values), dim=dim, **attributes) for shape in shapes for dim in (0, -1)]
    return [c for c in cases if 0 not in c.inputs[0].shape or c.attributes["dim"] == -1] + [case(F(), dim=-1)]


def _cross_entropy_cases(with_g: bool) -> list[Case]:
    made = []
    weight = np.array([0.5, 1.0, 2.0, 0.0])
    targets = ((np.array([0, 3, 1]), (3, 4)), (np.array([[0, 2], [1, -100]]), (2, 4, 2)), (np.array(2), (4,)))
    for target, shape in targets:
        for reduction in ("none", "mean", "sum"):
            for w in (None, weight):
                g = [F(*target.shape) if reduction == "none" else F()] if with_g else []
                call = _cross_entropy_backward if with_g else None
                made.append(case(*g, F(*shape), target, w, call=call, reduction=reduction))
                if reduction != "sum" and shape != (4,):
                    made.append(case(*g, F(*shape), target, w, call=call, reduction=reduction, label_smoothing=0.2))
                    soft = F(*shape, values="unit")
                    made.append(case(*g, F(*shape), soft, w, call=call, reduction=reduction, label_smoothing=0.2))
    return made


def _cross_entropy_backward(
    g: Any, x: Any, target: Any, weight: Any, reduction: str, label_smoothing: float = 0
) -> Any:
    soft = not isinstance(target, np.ndarray)  # then there are no residuals
    _, peak, total = (None,) * 3 if soft else losses.cross_entropy.kernel(x.data, target, weight)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    return RO.cross_entropy_backward(g, x, target, peak, total, weight, **options)


def _layer_norm_backward(g: Any, x: Any, weight: Any = None, dims: int = 1) -> Any:
    _, mean, rstd = L.layer_norm.kernel(x.data, dims=dims)
    return RL.layer_norm_backward(g, x, wrap(mean), wrap(rstd), weight, dims=dims)


def _gelu_backward(g: Any, x: Any, approximate: str = "none") -> Any:
    return RA.gelu_backward(g, x, wrap(A.gelu.kernel(x.data, approximate=approximate)), approximate=approximate)


MASK = np.array([[True, False, True], [False, True, False]])
INDEX = np.array([2, 0, 2, 1])
TAKEN = np.array([[0, 2, 1], [2, 2, 0]])
ROW_SHAPES = ((4,), (2, 4), (2, 3, 4), (0, 4), (1, 1, 4))
MATMULS = (((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
           ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((0, 3), (3, 4)),
           ((2, 0), (0, 3)), ((4, 5, 2, 3), (3, 2)), ((1, 2, 3), (5, 3, 4)))  # fmt: skip
EINSUMS = (("ij,jk->ik", (2, 3), (3, 4)), ("ij,kj", (2, 3), (4, 3)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
           ("i,j->ij", (3,), (4,)), ("i,i", (3,), (3,)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ii->i", (3, 3)),
           ("ii", (3, 3)), ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 2)), ("...i,i", (2, 3, 4), (4,)),
           ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("bhqd,bhkd->bhqk", (1, 2, 3, 4), (1, 2, 2, 4)),
           ("ij,ij->ij", (1, 3), (2, 3)), ("ij,jk->ik", (2, 1), (3, 4)), ("...,...i", (1,), (2, 3)),
           ("ij->i", (3, 0)), ("ij->j", (0, 2)))  # fmt: skip

CASES: dict[Op, list[Case]] = {
    E.add: binary(),
    E.sub: binary(),
    E.mul: binary(),
    E.div: binary("normal", "positive"),
    E.pow: binary("positive", "normal") + [case(F(3, values="positive"), b) for b in (0, 2, 3, -1, 0.5)]
    + [case(F(3), 2), case(F(2, 2), 3)],
    E.remainder: [case(F(*a, values="apart"), F(*b, values="positive")) for a, b in PAIRS if a == b]
    + [case(F(2, 3, values="apart"), b) for b in (0.9, -1.3)]
    + [case(7.1, F(2, values="positive")), case(F(1, 3, values="apart"), F(4, 1, values="positive"))],
    E.floor_divide: [case(F(*a, values="apart"), F(*b, values="positive")) for a, b in PAIRS],
    E.maximum: binary("apart", "between", twice=False),
    E.minimum: binary("apart", "between", twice=False),
    E.neg: unary(),
    E.abs: unary("apart"),
    E.exp: unary(),
    E.log: unary("positive"),
    E.log1p: unary("positive"),
    E.expm1: unary(),
    E.sqrt: unary("positive"),
    E.sin: unary(),
    E.cos: unary(),
    E.erf: unary(),
    E.sign: unary("apart"),
    E.floor: unary("apart"),
    E.ceil: unary("apart"),
    E.round: unary("apart"),
    E.where: [case(MASK, F(*a), F(*b)) for a, b in (((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((2, 3), ()))]
    + [case(MASK, F(2, 3), Same()), case(MASK, F(2, 3), 0.5), case(MASK, 0.5, F(2, 3)), case(MASK[:0], F(0, 3), F(3))],
    E.masked_fill: [case(F(2, 3), MASK, v) for v in (0.0, 3.0, F())]
    + [case(F(2, 3), MASK, call=lambda x, m: A.softmax(E.masked_fill(x, m, -np.inf)))]
    + [case(F(4, 2, 3), MASK, 1.0), case(F(2, 3), MASK[0], 1.0), case(F(0, 3), MASK[:0], 1.0), case(F(), True, 2.0)],
    E.clip: [case(F(*s, values="apart"), a, b) for s in SHAPES for a, b in ((-0.5, 0.5), (None, 0.2), (0.1, None))]
    + [case(F(2, 3, values="apart"), low, high)
       for low, high in ((F(2, 3, values="between"), F(3)), (F(2, 1, values="between"), None), (None, F(2, 3)))],
    A.relu: unary("apart"),
    A.leaky_relu: unary("apart") + unary("apart", negative_slope=0.3),
    A.softplus: unary() + unary(beta=2.0) + unary("apart", threshold=0.8),
    A.sigmoid: unary(),
    A.tanh: unary(),
    A.silu: unary(),
    A.gelu: unary() + unary(approximate="tanh"),
    A.softmax: along(),
    A.log_softmax: along(),
    RA.relu_backward: backward_kernel("apart"),
    RA.leaky_relu_backward: backward_kernel("apart") + backward_kernel("apart", negative_slope=0.3),
    RA.softplus_backward: backward_kernel(beta=2.0) + backward_kernel("apart", threshold=0.8),
    RA.sigmoid_backward: backward_kernel(),
    RA.tanh_backward: backward_kernel(),
    RA.silu_backward: backward_kernel(),
    RA.gelu_backward: [
        case(F(*s), F(*s), call=_gelu_backward, approximate=a) for s in SHAPES for a in ("none", "tanh")
    ],
    RA.softmax_backward: [case(F(*s), F(*s), dim=d) for s in ((3, 4), (2, 3, 4), (5,), (0, 3)) for d in (0, -1)],
    RA.log_softmax_backward: [case(F(*s), F(*s), dim=d) for s in ((3, 4), (2, 3, 4), (5,), (0, 3)) for d in (0, -1)],
    L.linear: [case(F(*s), F(3, 4), b) for s in ROW_SHAPES for b in (None, F(3))] + [case(F(4, 4), Same(), F(4))],
    L.layer_norm: [case(F(*s), *more) for s in ROW_SHAPES for more in ((), (F(4),), (F(4), F(4)))]
    + [case(F(2, 3, 4), F(3, 4), F(3, 4), dims=2), case(F(4), Same()), case(F(2, 4), None, F(4))],
    RL.layer_norm_backward: [case(F(*s), F(*s), *more, call=_layer_norm_backward) for s in ROW_SHAPES
                            for more in ((), (F(4),))]
    + [case(F(2, 3, 4), F(2, 3, 4), F(3, 4), dims=2, call=_layer_norm_backward)],
    L.dropout: unary(p=0.4) + unary(p=0.0),
    losses.cross_entropy: _cross_entropy_cases(with_g=False),
    RO.cross_entropy_backward: _cross_entropy_cases(with_g=True),
    losses.binary_cross_entropy: [
        case(F(*s, values="unit"), F(*s, values="unit"), *w, reduction=r)
        for s in SHAPES if 0 not in s for w in ((), (F(*s),)) for r in ("none", "mean", "sum")
    ],
    RO.binary_cross_entropy_backward: [
        case(F(*s), F(*s, values="unit"), F(*s, values="unit"), *w, reduction="none") for s in SHAPES
        for w in ((), (F(*s),))
    ],
    products.matmul: [case(F(*a), F(*b)) for a, b in MATMULS] + [case(F(3, 3), Same()), case(F(2, 3, 3), Same())],
    products.einsum: [case(*[F(*s) for s in shapes], equation=e) for e, *shapes in EINSUMS]
    + [case(F(3, 3), Same(), equation="ij,jk->ik")],
    rows_product: [case(F(*s, 3), F(*s, 2)) for s in ((), (4,), (2, 3), (0,), (2, 1, 2), (1,))]
    + [case(F(3, 2), Same()), case(F(3, 0), F(3, 2)), case(F(2, 3, 2), F(2, 3, 0))],
    R.sum: reduced(),
    R.mean: reduced(),
    R.var: reduced()[:-2] + reduced(correction=0),
    R.std: reduced()[:-2] + reduced(correction=0)[:-2],
    R.norm: [*reduced(p=2), *reduced(p=1), *reduced("apart", p=math.inf)],
    R.prod: reduced(dims=(None, 0, 1, 2, -1)),
    R.amax: reduced("apart"),
    R.amin: reduced("apart"),
    R.logsumexp: reduced(),
    R.cumsum: along(),
    S.reshape: [case(F(*a), shape=b) for a, b in (((2, 3), (6,)), ((2, 3), (3, -1)), ((), (1, 1)), ((0, 2), (2, 0)),
                ((2, 3, 4), (4, 6)), ((6,), (1, 2, 3)), ((1,), ()))],
    S.view: [case(F(*a), shape=(*a[:1], 1, *a[1:])) for a in ((2, 3), (0, 2), (2, 3, 4), (5,), (1,), (4, 1),
             (1, 1, 2))],
    S.squeeze: [case(F(*s), dim=d) for s, d in (((1, 3), None), ((1, 3), 0), ((1, 3, 1), (0, 2)), ((1, 3, 1), -1),
                ((1,), None), ((2, 3), 0), ((0, 1), 1))],
    S.unsqueeze: [case(F(*s), dim=d) for s in ((), (3,), (2, 3), (0,)) for d in (0, -1)],
    S.permute: [case(F(2, 3, 4), dims=d) for d in ((2, 0, 1), (1, 2, 0), (0, 2, 1), (-1, 0, 1), (2, 1, 0))]
    + [case(F(), dims=()), case(F(0, 2), dims=(1, 0))],
    S.transpose: [case(F(2, 3, 4), dim0=a, dim1=b) for a, b in ((0, 1), (1, 2), (0, 2), (-1, 0), (1, 1))]
    + [case(F(0, 2), dim0=0, dim1=1), case(F(3), dim0=0, dim1=-1)],
    S.expand: [case(F(*a), shape=b) for a, b in (((), (2, 3)), ((1,), (4,)), ((3,), (2, 3)), ((2, 1), (2, 3)),
               ((1, 1), (0, 2)), ((2, 1, 3), (4, 2, 2, 3)), ((2, 3), (2, 3)))],
    S.contiguous: unary(),
    S.clone: unary(),
    S.cast: unary(dtype=np.dtype(np.float64)),
    I.getitem: [case(F(4, 3, 2), index=i) for i in (0, slice(1, 3), (slice(None), -1), (..., None), INDEX, (0, 1, 1),
                slice(None, None, -2), np.arange(4) > 1, (INDEX, slice(None), np.array([0, 1, 1, 0])), [1, 1])],
    I.add_at: [case(F(*np.empty((4, 3))[i].shape), index=i, shape=(4, 3))
                         for i in (0, slice(1, 3), (slice(None), -1), INDEX, (0, 1), np.arange(4) > 1, [1, 1])],
    I.take_along_dim: [case(F(2, 3), TAKEN, dim=d) for d in (1, -1)] + [case(F(3, 3), TAKEN, dim=0)]
    + [case(F(2, 3, 2), np.zeros((2, 1, 2), int), dim=1), case(F(3), INDEX, dim=0), case(F(2, 3), TAKEN[:, :0], dim=1),
       case(F(1, 3), TAKEN[:1], dim=1)],
    I.index_select: [case(F(3, 4, 3), INDEX, dim=d) for d in (0, 2, -1)]
    + [case(F(3), INDEX, dim=0), case(F(3, 0), INDEX, dim=0), case(F(3, 2), INDEX[:0], dim=0),
       case(F(3), INDEX, dim=-1), case(F(), np.array([0]), dim=0)],
    S.cat: [case(F(2, 3), F(1, 3), dim=0), case(F(2, 1), F(2, 3), F(2, 2), dim=1),
                    case(F(2, 1), F(2, 2), dim=-1),
                    case(F(0, 3), F(2, 3), dim=0), case(F(2, 3), Same(), dim=0), case(F(3), dim=0),
                    case(F(2), np.ones(3), F(1), dim=0), case(F(0), F(2, 3), F(0), F(2, 1), dim=1)],
    S.stack: [case(F(2, 3), F(2, 3), dim=d) for d in (0, 1, 2, -1)]
    + [case(F(), F(), dim=0), case(F(2), Same(), dim=1), case(F(0, 2), F(0, 2), dim=0)],
    S.flip: [case(F(2, 3, 4), dims=d) for d in (0, (1,), (0, 2), -1)] + [case(F(3), dims=0), case(F(0, 2), dims=1),
                                                                        case(F(1, 1), dims=(0, 1))],
    S.roll: [case(F(3, 4), shifts=n, dims=d) for n in (1, -2, 5) for d in (0, -1)]
    + [case(F(0, 2), shifts=1, dims=0), case(F(3, 4), shifts=(1, -3), dims=(0, 1)), case(F(3, 4), shifts=(2,))],
    S.pad: [case(F(2, 3), pad=p) for p in ((1, 2), (1, 2, 0, 1), (0, 0), (2, 0, 2, 0), (-1, 2, 1, -2))]
    + [case(F(3, 4), pad=p, mode=m) for p in ((2, 1), (1, -1, 0, 2)) for m in ("reflect", "replicate", "circular")]
    + [case(F(3), pad=(1, 1), value=2.0), case(F(2, 3, 4), pad=(1, 0, 2, 1)), case(F(0, 2), pad=(1, 1))],
    S.tril: [case(F(3, 4), diagonal=d) for d in (0, 1, -1, 5)] + [case(F(2, 3, 3)), case(F(1, 3)), case(F(0, 3))],
    S.triu: [case(F(3, 4), diagonal=d) for d in (0, 1, -1, 5)] + [case(F(2, 3, 3)), case(F(1, 3)), case(F(0, 3))],
    S.repeat_interleave: [case(F(2, 3), repeats=n, dim=d) for n in (1, 2, 3) for d in (0, 1, -1)],
    **{op: unary() for op in (M.atan, M.sinh, M.cosh, M.asinh, M.exp2)},
    **{op: unary("unit") for op in (M.tan, M.asin, M.acos, M.atanh)},
    **{op: unary("positive") for op in (M.log2, M.log10)},
    M.acosh: [case(F(*s, values="positive"), call=lambda x: M.acosh(x + 1)) for s in SHAPES],
    M.atan2: binary(),
    M.hypot: binary("positive", "positive"),
    M.logaddexp: binary(),
    M.fmod: binary("apart", "positive", twice=False),
    M.trunc: unary("apart"),
    M.cumprod: along(),
    S.repeat_interleave: [case(F(2, 3), repeats=n, dim=d) for n in (1, 2, 3) for d in (0, 1, -1, None)]
    + [case(F(2, 3), repeats=np.array(n), dim=d) for n, d in (([2, 0, 1], 1), ([0, 2], 0), ([3], -1))]
    + [case(F(), repeats=2)],
    sum_to: [case(F(*a), shape=b) for a, b in (((2, 3), (3,)), ((2, 3), ()), ((2, 3), (2, 1)), ((4, 2, 3), (1, 3)),
             ((2, 3), (2, 3)), ((0, 3), (3,)), ((1, 3), (1, 1)))],
}  # fmt: skip


def runs(op: Op, layouts: tuple[int, ...] = (0, 1, 2)) -> Iterator[tuple[Callable[..., Any], list[Any]]]:
    """Each case of an op, in three layouts."""
    seed = zlib.crc32(op.name.encode())
    for number, made in enumerate(CASES[op]):
        for how in layouts:
            yield function_of(op, made), inputs_of(made, seed + number, how)


def named(op: Op) -> str:
    return op.name


OPS = sorted(CASES, key=named)
FLAT = {E.sign, E.floor, E.ceil, E.round, E.floor_divide, M.trunc}
"""Constant in pieces: their gradient is 0 and knows nothing of the inputs."""


@pytest.mark.parametrize("op", OPS, ids=named)
def test_gradient_agrees_with_finite_differences(op: Op) -> None:
    for function, inputs in runs(op):
        assert gradcheck(function, inputs, **TOLERANCE)


@pytest.mark.parametrize("op", [op for op in OPS if op not in FLAT], ids=named)
def test_second_derivative_agrees_with_finite_differences(op: Op) -> None:
    for number, made in enumerate(CASES[op]):
        inputs = inputs_of(made, number, how=number)
        assert gradgradcheck(function_of(op, made), inputs, eps=1e-5, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("op", OPS, ids=named)
def test_at_least_twenty_shapes_and_strides(op: Op) -> None:
    assert sum(1 for _ in runs(op)) >= 20


def test_every_op_has_a_rule_or_is_named_as_non_differentiable_and_every_rule_a_case() -> None:
    ours = [op for op in registry.values() if op.kernel.__module__.partition(".")[0] in ("tt_core", "tt_learn")]
    assert ours
    missing = [op.name for op in ours if rule_of(op) is not None and op not in CASES]
    assert missing == [], "ops with a gradient rule that no case checks"


def test_an_op_without_a_rule_is_found() -> None:
    rule = rule_of(E.exp)
    forget_rule(E.exp)
    try:
        with pytest.raises(GradientError, match="exp has no gradient rule"):
            test_every_op_has_a_rule_or_is_named_as_non_differentiable_and_every_rule_a_case()
    finally:
        gradient(E.exp, rule)


# --- the check itself, checked: a rule made wrong on purpose must be found


def sign(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    gradients[i] = -gradients[i]


def factor(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    gradients[i] = gradients[i] * 1.001


def missing_term(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    gradients[i] = gradients[i] * 0


def missing_element(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    kept = np.ones(gradients[i].shape)
    kept.reshape(-1)[-1:] = 0
    gradients[i] = gradients[i] * kept


def swapped(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    for j, other in enumerate(gradients):
        alike = other is not None and other.shape == gradients[i].shape
        if alike and inputs[j] is not inputs[i]:
            gradients[i], gradients[j] = other, gradients[i]
            return


def missing_reduction(gradients: list[Any], i: int, inputs: tuple[Any, ...]) -> None:
    """As if one broadcast row, not their sum, came back: the first of `g` stands for all of them."""


MUTATIONS = (sign, factor, missing_term, missing_element, swapped, missing_reduction)


def mutated(rule: Callable[..., Any], mutate: Callable[..., None], i: int, changed: list[bool]) -> Callable[..., Any]:
    """`rule` with the gradient of input `i` made wrong; notes in `changed` where that made a difference."""

    def wrong(out: Any, *inputs: Any, **attributes: Any) -> Any:
        found = rule(out, *inputs, **attributes)

        def all_inputs(g: Any) -> tuple[Any, ...]:
            right = gradients_by(found, inputs, g)
            if not (i < len(inputs) and has_gradient(inputs[i])) or right[i] is None:
                return tuple(right)
            made = list(right)
            if mutate is missing_reduction:
                made[i] = gradients_by(found, inputs, first_row(g))[i]
            mutate(made, i, inputs)
            changed.append(not np.array_equal(made[i].data, right[i].data))
            return tuple(made)

        return all_inputs

    return wrong


def gradients_by(found: Any, inputs: tuple[Any, ...], g: Any) -> list[Any]:
    """What a rule returned, whichever of its three forms it has, applied to `g`."""
    if callable(found) and not inspect.signature(found).parameters:  # a formula, to be computed again
        with tt_learn.enable_grad():
            result = found()
        wanted = [x for x in inputs if has_gradient(x)]
        outputs = result if isinstance(result, tuple) else (result,)
        pairs = [(x, part) for x, part in zip(outputs, g if isinstance(g, tuple) else (g,)) if part is not None]
        roots, weights = zip(*[(x, part) for x, part in pairs if x.requires_grad])
        each = dict(zip(map(id, wanted), tt_learn.grad(roots, wanted, weights, allow_unused=True)))
        return [each.pop(id(x), None) for x in inputs]  # a tensor used twice has one gradient, not two
    if isinstance(found, tuple):
        return [None if f is None else f(g) for f in found]
    return list(found(g))


def has_gradient(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def first_row(g: Any) -> Any:
    if isinstance(g, tuple):
        return tuple(None if part is None else first_row(part) for part in g)
    kept = np.ones(g.shape)
    if g.ndim:
        kept[1:] = 0
    return g * kept


def verdict(op: Op, mutate: Callable[..., None], i: int) -> tuple[bool, bool]:
    """Whether the mutation changed a gradient in some case, and whether the check found it."""
    rule, node, changed = rule_of(op), entry_of(op).node, []
    forget_rule(op)
    gradient(op, mutated(rule, mutate, i, changed))
    try:
        for function, inputs in runs(op, layouts=(2,)):
            gradcheck(function, inputs, **TOLERANCE)
    except GradcheckError:
        return any(changed), True
    finally:
        forget_rule(op)
        register(op, rule, node)
    return any(changed), False


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("op", OPS, ids=named)
def test_a_wrong_rule_is_found(op: Op, mutate: Callable[..., None]) -> None:
    verdicts = [verdict(op, mutate, i) for i in range(2 if op.variadic else len(op.inputs))]
    for i, (changed, found) in enumerate(verdicts):
        assert changed == found, f"{mutate.__name__} of the gradient for input {i}"
    if mutate in (sign, factor, missing_term):
        assert any(found for _, found in verdicts) == (op not in FLAT)


# --- at the points that finite differences cannot judge: PyTorch's values


def gradients_at(function: Callable[..., Any], *values: Any) -> list[list[float]]:
    inputs = [Tensor(np.array(value, float), requires_grad=True) for value in values]
    function(*inputs).sum().backward()
    return [x.grad.data.tolist() for x in inputs]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "cumsum", "logsumexp", "norm"])
@pytest.mark.parametrize("dim", [0, -1])
def test_a_number_can_be_reduced_over_the_dimension_it_does_not_have(name: str, dim: int) -> None:
    x = Tensor(np.float64(1.7), requires_grad=True)
    reduced = getattr(x, name)(dim=dim)
    (reduced[0] if isinstance(reduced, tuple) else reduced).backward()
    assert x.grad is not None
    assert x.grad.item() == 1


def test_a_length_and_a_deviation_of_0_have_gradient_0() -> None:
    (found,) = gradients_at(lambda x: x.norm(dim=1), [[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8]])
    (found,) = gradients_at(lambda x: x.std(1), [[2.0, 2.0], [1.0, 3.0]])
    np.testing.assert_allclose(found, [[0, 0], [-(0.5**0.5), 0.5**0.5]])
    assert gradients_at(lambda x: x.norm() ** 0.5, [0.0, 0.0]) == [[0, 0]]  # also where infinity arrives
    x = Tensor(np.zeros(2), requires_grad=True)
    (first,) = tt_learn.grad(x.norm(), x, create_graph=True)
    (second,) = tt_learn.grad(first.sum(), x)
    assert second.data.tolist() == [0, 0]


def test_a_power_0_of_0_has_gradient_0_for_its_base_and_keeps_the_mixed_derivative() -> None:
    base, exponent = gradients_at(lambda a, b: a**b, [0.0, 2.0, 3.0], [0.0, 0.0, 2.0])
    assert base == [0, 0, 6]
    np.testing.assert_allclose(exponent, [0, np.log(2), 9 * np.log(3)])
    a, b = Tensor(2.0, requires_grad=True), Tensor(0.0, requires_grad=True)
    (first,) = tt_learn.grad(a**b, a, create_graph=True)
    assert tt_learn.grad(first, b)[0].item() == 0.5  # type: ignore[union-attr]  # PyTorch loses this one


@pytest.mark.parametrize("function", [E.maximum, E.minimum], ids=named)
def test_nan_passes_the_gradient_on_and_the_smaller_one_gets_none_of_infinity(function: Op) -> None:
    assert gradients_at(function, [np.nan, 1.0], [1.0, np.nan]) == [[1, 1], [1, 1]]
    larger, other = gradients_at(lambda a, b: function(a, b) * np.inf, [2.0, 1.0], [1.0, 1.0])
    assert sorted([larger[0], other[0]]) == [0, np.inf]
    assert larger[1] == other[1] == np.inf


def test_the_variance_of_one_number_has_no_gradient_either() -> None:
    (found,) = gradients_at(lambda x: x.var(1), [[1.0], [2.0]])
    assert np.isnan(found).all()


def test_layer_norm_of_halves_sums_in_float32() -> None:
    rng = np.random.default_rng(0)
    x, g = 300 * rng.standard_normal((4, 1000)), 50 * rng.standard_normal((4, 1000))  # squares end at 65504
    results = []
    for dtype in (np.float16, np.float32):
        weight, bias = (
            Tensor(np.ones(1000, dtype), requires_grad=True),
            Tensor(np.zeros(1000, dtype), requires_grad=True),
        )
        rows = Tensor(x.astype(np.float16).astype(dtype), requires_grad=True)
        y = L.layer_norm(rows, weight, bias)
        y.backward(Tensor(g.astype(np.float16).astype(dtype)))
        results.append([y.data, rows.grad.data, weight.grad.data, bias.grad.data])
        assert {each.dtype for each in results[-1]} == {np.dtype(dtype)}
    for half, single in zip(*results):
        np.testing.assert_allclose(half, single, rtol=2e-3, atol=2e-3)
