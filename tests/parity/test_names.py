"""PyTorch's names beyond the journey, side by side with PyTorch: values, dtypes and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_core.nn as nn
import tt_core.nn.functional as F
import tt_data  # noqa: F401 - tt_core.nn shows its layers
import tt_language  # noqa: F401
import tt_learn

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")
TF = torch.nn.functional
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}

Call = Callable[[Any, Any], Any]
"""Takes a library (ours or PyTorch) and a tensor, so that each case is written once."""


def draw(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0, low: float = -2, high: float = 2) -> Any:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def agree(ours: Any, theirs: Any, tolerance: float | None = None) -> None:
    """Same structure, shapes, dtypes and values."""
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs):
            agree(*pair, tolerance)
    elif isinstance(theirs, torch.Tensor):
        expected = theirs.detach().numpy()
        assert ours.shape == expected.shape
        assert ours.dtype == expected.dtype
        tolerance = tolerance or TOLERANCE.get(str(expected.dtype), 0)
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=tolerance, atol=tolerance)
    else:
        assert ours == theirs


def floats(result: Any) -> list[Any]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [x for x in parts if getattr(x, "requires_grad", False)]


def check(call: Call, *arrays: np.ndarray, gradient: bool = True) -> None:
    """`call(library, *tensors)` gives the same in both, and so do its gradients for all floats."""
    ours = [tt_learn.tensor(a, requires_grad=gradient and a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=gradient and a.dtype.kind == "f") for a in arrays]
    result, expected = call(tt, *ours), call(torch, *theirs)
    agree(result, expected)
    if gradient:
        assert len(floats(result)) == len(floats(expected))
        if floats(expected):
            sum((x * x).sum() for x in floats(result)).backward()
            sum((x * x).sum() for x in floats(expected)).backward()
        through_float32 = any(x.dtype == np.float32 for x in floats(result))
        for x, y in zip(ours, theirs):
            if y.grad is not None:
                agree(x.grad, y.grad, 1e-4 if through_float32 else None)


# --- one tensor, (3, 4)

ONE: dict[str, Call] = {
    **{n: lambda t, x, n=n: getattr(t, n)(x) for n in ("tan", "atan", "sinh", "cosh", "asinh", "exp2", "trunc", "fix")},
    **{n: lambda t, x, n=n: getattr(x, n)() for n in ("frac", "sinc", "square", "relu", "sigmoid", "tanh", "absolute")},
    **{n: lambda t, x, n=n: getattr(t, n)(x / 2.5) for n in ("asin", "acos", "atanh")},
    **{n: lambda t, x, n=n: getattr(t, n)(x.abs() + 1.5) for n in ("acosh", "log2", "log10", "rsqrt", "reciprocal")},
    **{
        n: lambda t, x, n=n: getattr(x, n)()
        for n in ("isinf", "isposinf", "isneginf", "nonzero", "t", "ravel", "trace")
    },
    **{n: lambda t, x, n=n: getattr(t, n)(x) for n in ("median", "max", "min", "std", "norm", "fliplr", "flipud")},
    "logit": lambda t, x: t.logit(x, 0.2) + (x.abs() / 4 + 0.1).logit(),
    "negative": lambda t, x: t.negative(x),
    "clamp_min": lambda t, x: t.clamp_min(x, 0.5) + x.clamp_max(1.0) + t.clamp(x, -1, 1),
    "nan_to_num": lambda t, x: (x / (x > 0).to(x.dtype)).detach().nan_to_num(1.0, 2.0, 3.0),
    "softmax": lambda t, x: (x.softmax(1), x.log_softmax(0), x.softmax(-1, dtype=t.float64), t.softmax(x, dim=0)),
    "softmax dtype": lambda t, x: t.softmax(x, dim=1, dtype=t.float32),
    "sum": lambda t, x: (
        x.sum(axis=0),
        t.sum(x, axis=1, keepdim=True),
        x.sum(0, dtype=t.float32),
        t.sum(x, dtype=t.float32),
    ),
    "sum of ints": lambda t, x: (
        x.long().sum(dtype=t.float32),
        t.sum(x.long(), 0),
        t.mean(x.long(), dim=0, dtype=t.float32),
    ),
    "mean": lambda t, x: (x.mean(axis=1), t.mean(x, dim=(0, 1), keepdim=True), x.mean(dtype=t.float32)),
    "prod": lambda t, x: (x.prod(1), t.prod(x, dim=0), t.prod(x), x.prod(dtype=t.float32)),
    "var": lambda t, x: (x.var(unbiased=False), x.var(0, False), x.var(False), t.var(x, dim=1, unbiased=False)),
    "var keepdim": lambda t, x: (x.var(1, keepdim=True), x.var(dim=0, correction=0), t.var(x, 0, keepdim=True)),
    "std options": lambda t, x: (x.std(unbiased=False), x.std(0, True), t.std(x, dim=0, keepdim=True), x.std(axis=1)),
    "std_mean": lambda t, x: (*t.std_mean(x, dim=0), *t.var_mean(x, 1)),
    "max axis": lambda t, x: (x.max(axis=0), t.max(x, 1, keepdim=True), x.argmax(axis=1), t.argmax(x, dim=0)),
    "min": lambda t, x: (t.min(x, dim=1), x.argmin(0), t.minimum(x, x * 0)),
    "amax": lambda t, x: (t.amax(x, dim=0), x.amin(axis=1)),
    "cumsum": lambda t, x: (t.cumsum(x, dim=0), x.cumsum(1, dtype=t.float32)),
    "cumprod": lambda t, x: (t.cumprod(x, dim=0), (x.trunc() * x).cumprod(1)),
    "cummax": lambda t, x: (x.cummax(1), t.cummin(x, dim=0), x.round().cummax(0), x.round().cummin(1)),
    "median dim": lambda t, x: (x.median(1), t.median(x, 0, keepdim=True)),
    "kthvalue": lambda t, x: (x.kthvalue(2, 1), t.kthvalue(x, 1, 0, True)),
    "quantile": lambda t, x: (x.quantile(0.3), t.quantile(x, 0.5, dim=1), x.quantile(0.9, 0, keepdim=True)),
    "quantiles": lambda t, x: (
        t.quantile(x, t.tensor([0.1, 0.7], dtype=x.dtype), dim=1),
        x.quantile(x.new_tensor([0.2])),
    ),
    "nansum": lambda t, x: (x.nansum(), t.nanmean(x, 0), t.nansum(x, 1)),
    "keepdims": lambda t, x: (
        x.sum(1, keepdims=True),
        x.mean(axis=0, keepdims=True),
        x.max(dim=1, keepdims=True),
        t.sum(x, dim=0, keepdims=True),
    ),
    "trapezoid": lambda t, x: (
        t.trapezoid(x),
        t.trapezoid(x, dx=0.5, dim=0),
        t.trapezoid(x, x * x, dim=0),
        t.trapz(x, x[0]),
        t.trapezoid(x, x[:, 0], dim=0),
    ),
    "memory_format": lambda t, x: (
        t.zeros_like(x, memory_format=t.preserve_format),
        t.ones_like(x, dtype=t.float32, device="cpu"),
    ),
    "diff": lambda t, x: (t.diff(x), x.diff(dim=0), x.diff(2, 1)),
    "sort": lambda t, x: (
        t.sort(x, dim=0),
        x.sort(1, descending=True),
        t.argsort(x, 1),
        t.topk(x, 2),
        t.topk(x, 2, 0, largest=False),
    ),
    "gather": lambda t, x: (t.gather(x, 1, t.tensor([[0, 3], [1, 1], [2, 0]])), t.take(x, t.tensor([[0, 5], [11, 0]]))),
    "index_select": lambda t, x: (t.index_select(x, 1, t.tensor([0, 0, 2])), x.index_select(0, t.tensor([2, 0]))),
    "masked_select": lambda t, x: (t.masked_select(x, x > 0), x.masked_select(t.tensor([True, False, True, True]))),
    "scatter": lambda t, x: x.scatter(1, t.tensor([[0, 2], [1, 0]]), x[:2, 2:] * 2),
    "scatter number": lambda t, x: (
        x.scatter(0, t.tensor([[0, 2, 1, 0]]), 5.0),
        t.scatter(x, 1, t.tensor([[1], [0], [3]]), value=7),
    ),
    "scatter_add": lambda t, x: (
        x.scatter_add(1, t.tensor([[0, 0, 2], [1, 1, 1]]), x[1:, :3]),
        t.scatter_add(x, 0, t.tensor([[0, 0, 2, 1]]), x[:1]),
    ),
    "index_add": lambda t, x: (
        x.index_add(0, t.tensor([0, 0, 2]), x * 2),
        t.index_add(x, 1, t.tensor([1]), x[:, :1], alpha=3),
    ),
    "index_fill": lambda t, x: (x.index_fill(1, t.tensor([0, 2]), -1), t.index_copy(x, 0, t.tensor([2, 0]), x[:2] * 2)),
    "where": lambda t, x: (*t.where(x > 0), t.where(x > 0, x, t.zeros_like(x)), t.argwhere(x > 1)),
    "nonzero": lambda t, x: (
        x.round().nonzero(as_tuple=True),
        t.count_nonzero(x.round()),
        t.count_nonzero(x.round(), dim=0),
    ),
    "unique": lambda t, x: (
        t.unique(x.detach().round()),
        x.detach().round().unique(return_inverse=True, return_counts=True),
    ),
    "unique dim": lambda t, x: t.unique((x.detach() > 0).long(), dim=0, return_counts=True),
    "bincount": lambda t, x: (
        t.bincount((x.detach().abs().flatten()).long(), minlength=5),
        (x.detach()[0] > 0).long().bincount(x.detach()[0]),
    ),
    "split": lambda t, x: (
        t.split(x, 2, dim=1),
        x.split([1, 3], 1),
        t.chunk(x, 2),
        t.chunk(x, 3, dim=1),
        t.unbind(x),
        x.tensor_split(3, 1),
        t.tensor_split(x, (1,), 0),
    ),
    "flatten": lambda t, x: (
        t.flatten(x),
        t.unflatten(x, 1, (2, 2)),
        t.reshape(x, (4, 3)),
        t.squeeze(x[:1]),
        t.unsqueeze(x, dim=1),
        t.unsqueeze(x, -1),
    ),
    "movedim": lambda t, x: (
        t.movedim(x, 0, 1),
        x[None].moveaxis((0, 1), (2, 0)),
        t.swapaxes(x, 0, 1),
        t.transpose(x, 0, 1),
        t.permute(x, (1, 0)),
        x.swapdims(0, 1),
    ),
    "tile": lambda t, x: (t.tile(x, (2,)), x.tile(2, 1, 2), t.repeat_interleave(x, 2, dim=1), x.repeat(2, 1)),
    "rot90": lambda t, x: (t.rot90(x), t.rot90(x, 2), t.rot90(x, 3, (1, 0)), x.rot90(-1)),
    "narrow": lambda t, x: (t.narrow(x, 1, 1, 2), t.select(x, 1, -1), x.select(0, 1), t.broadcast_to(x, (2, 3, 4))),
    "diag": lambda t, x: (
        t.diag(x),
        t.diag(x, 1),
        x[0].diag(-1),
        x.diagonal(-1),
        x[None].diagonal(1, 1, 2),
        t.diag_embed(x),
        t.diag_embed(x, 1),
    ),
    "unfold": lambda t, x: (x.unfold(1, 2, 1), x.unfold(0, 2, 2)),
    "products": lambda t, x: (
        t.mm(x, x.T),
        t.bmm(x[None], x.T[None]),
        t.mv(x, x[0]),
        t.dot(x[0], x[1]),
        t.outer(x[0], x[:, 0]),
        t.inner(x, x),
        x[0] @ x[1],
    ),
    "addmm": lambda t, x: (
        t.addmm(x[:, :3], x, x.T, beta=0.5, alpha=2),
        t.baddbmm(x[None, :, :3], x[None], x.T[None]),
        x.addcmul(x, x, value=3),
        t.addcdiv(x, x, x * x + 1, value=-2),
    ),
    "tensordot": lambda t, x: (t.tensordot(x, x.T, dims=1), t.tensordot(x, x, dims=([0, 1], [0, 1]))),
    "joining": lambda t, x: (
        t.hstack([x, x]),
        t.vstack([x[0], x[1]]),
        t.hstack([x[0], x[1]]),
        t.column_stack([x[:, 0], x]),
        t.concat([x, x], dim=1),
        t.atleast_2d(x[0]),
        t.atleast_1d(x[0, 0]),
    ),
    "norm": lambda t, x: (t.norm(x, dim=1), x.norm(1, 0), t.norm(x, p=2, dim=0, keepdim=True), t.dist(x, x * 2)),
    "new": lambda t, x: (
        x.new_zeros(2, 3),
        x.new_ones((2,), dtype=t.int64),
        x.new_full((2,), 3.0),
        x.new_tensor([1, 2]),
        x.new_zeros(3, device="cpu"),
    ),
    "like": lambda t, x: (
        t.zeros_like(x),
        t.ones_like(x, dtype=t.int64),
        t.full_like(x, 2.0),
        t.zeros_like(x, device="cpu"),
        t.empty_like(x).shape,
        t.randn_like(x).shape,
        t.rand_like(x).dtype == x.dtype,
    ),
    "to": lambda t, x: (
        x.to("cpu"),
        x.to(t.device("cpu")),
        x.to(t.float32),
        x.to("cpu", t.float32),
        x.to(device="cpu", dtype=t.float32),
        x.cpu(),
        x.to(x),
        x.type_as(x),
        x.byte(),
        x.short(),
        x.type(t.float32),
    ),
    "histc": lambda t, x: (
        t.histc(x.detach(), 4, -2, 2),
        t.bucketize(x.detach(), x.new_tensor([-1.0, 1.0])),
        t.searchsorted(x.new_tensor([-1.0, 1.0]), x.detach(), right=True),
    ),
    "isin": lambda t, x: (
        t.isin(x.long(), t.tensor([0, 1])),
        t.is_tensor(x),
        t.numel(x),
        t.is_floating_point(x),
        x.nelement(),
        x.ndimension(),
    ),
    "in place": lambda t, x: [
        getattr(x.detach().clone(), f"{n}_")()
        for n in (
            "abs",
            "neg",
            "exp",
            "floor",
            "ceil",
            "round",
            "trunc",
            "sign",
            "relu",
            "sigmoid",
            "tanh",
            "sin",
            "cos",
            "square",
            "reciprocal",
            "tril",
            "triu",
            "zero",
        )
    ],
    "clamp_": lambda t, x: (
        x.detach().clone().clamp_(-1, 1),
        x.detach().clone().clamp_(min=0),
        x.detach().clone().pow_(2),
        x.detach().clone().fill_(3),
        x.detach().clone().mul_(2).add_(x.detach(), alpha=2).div_(3).sub_(1),
    ),
    "masked_fill_": lambda t, x: (
        x.detach().clone().masked_fill_(x > 0, 7),
        x.detach().clone().lerp_(x.detach() * 2, 0.5),
        x.detach().clone().addcmul_(x.detach(), x.detach(), value=2),
    ),
    "scatter_": lambda t, x: (
        t.zeros(3, 4).scatter_(1, t.tensor([[1], [0], [3]]), 1),
        x.detach().clone().scatter_add_(0, t.tensor([[0, 1, 2, 2]]), x.detach()),
        t.zeros(3, 2).index_add_(0, t.tensor([0, 2, 0]), t.ones(3, 2)),
        t.ones(3, 2).index_fill_(1, t.tensor([1]), 5),
        x.detach().clone().index_copy_(0, t.tensor([1]), x.detach()[:1]),
        x.detach().clone().fill_diagonal_(9),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ONE)
def test_functions_and_methods_of_one(name: str, dtype: str) -> None:
    check(ONE[name], draw((3, 4), dtype, seed=3))


TWO: dict[str, Call] = {
    **{n: lambda t, x, y, n=n: getattr(t, n)(x, y) for n in ("atan2", "hypot", "logaddexp", "fmod", "arctan2")},
    **{n: lambda t, x, y, n=n: getattr(t, n)(x, y) for n in ("multiply", "subtract", "divide", "true_divide")},
    **{
        n: lambda t, x, y, n=n: getattr(t, n)(x, y)
        for n in ("greater", "greater_equal", "less", "less_equal", "not_equal")
    },
    "alpha": lambda t, x, y: (t.add(x, y, alpha=2), t.sub(x, y, alpha=0.5), x.add(y, alpha=3), x.sub(y, alpha=2)),
    "rounding": lambda t, x, y: (
        t.div(x, y, rounding_mode="floor"),
        x.div(y, rounding_mode="trunc"),
        x.detach().floor_divide(y.detach()),
        x.remainder(y),
    ),
    "lerp": lambda t, x, y: (t.lerp(x, y, 0.3), x.lerp(y, x)),
    "xlogy": lambda t, x, y: t.xlogy(x, y.abs() + 0.1),
    "close": lambda t, x, y: (
        t.allclose(x, y),
        t.allclose(x, x + 1e-9),
        t.isclose(x, y),
        t.equal(x, y),
        x.equal(x),
        t.logical_xor(x > 0, y > 0),
    ),
    "meshgrid": lambda t, x, y: (
        t.meshgrid(x[0], y[:, 0], indexing="ij"),
        t.meshgrid(x[0], y[:, 0], indexing="xy"),
        t.cartesian_prod(x[0], y[0]),
        t.broadcast_tensors(x[:1], y),
    ),
    "max": lambda t, x, y: (t.max(x, y), t.min(x, y), t.maximum(x, y)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TWO)
def test_functions_of_two(name: str, dtype: str) -> None:
    check(TWO[name], draw((3, 4), dtype, seed=4), draw((3, 4), dtype, seed=5))


INTEGERS: list[Call] = [
    lambda t, x: (x.bitwise_and(3), x.bitwise_or(4), x.bitwise_xor(1), x.bitwise_not(), t.bitwise_and(x, x)),
    lambda t, x: (t.fmod(x, 3), t.div(x, 2, rounding_mode="trunc"), t.div(x, 2, rounding_mode="floor")),
    lambda t, x: (x.cumprod(0), x.cummax(0), x.median(), x.sort(), x.unique(), x.float().tan(), x.trunc()),
    lambda t, x: (
        t.tril_indices(3, 3),
        t.triu_indices(3, 4, 1),
        t.logspace(0, 2, 5),
        t.diag(x),
        x.scatter(0, x % 3, 9),
    ),
    lambda t, x: (
        t.FloatTensor([1, 2]),
        t.LongTensor([1, 2]),
        t.as_tensor([1, 2]),
        t.as_tensor(np.ones(2)),
        t.zeros(2, device="cpu"),
        t.full((2,), 1.5, device=t.device("cpu")),
        t.tensor([1.0], device="cpu"),
        t.ones(2, dtype=t.long),
        t.arange(3, device="cpu"),
    ),
]


@pytest.mark.parametrize("case", range(len(INTEGERS)))
def test_integers(case: int) -> None:
    check(INTEGERS[case], np.array([3, -5, 7, 0, 2]), gradient=False)


# --- torch.nn.functional

FUNCTIONAL: dict[str, Call] = {
    **{n: lambda f, x, n=n: getattr(f, n)(x) for n in ("elu", "selu", "celu", "mish", "hardswish")},
    **{n: lambda f, x, n=n: getattr(f, n)(x) for n in ("hardtanh", "relu6", "logsigmoid", "softsign", "tanhshrink")},
    **{n: lambda f, x, n=n: getattr(f, n)(x, dim=1) for n in ("softmin", "glu", "normalize", "softmax", "log_softmax")},
    "hardsigmoid": lambda f, x: f.hardsigmoid(x.float()),  # PyTorch rounds its 1/6 to float32
    "options": lambda f, x: (
        f.elu(x, 0.7),
        f.celu(x, 2.0),
        f.hardtanh(x, -0.5, 1.5),
        f.threshold(x, 0.3, 2.0),
        f.relu(x, inplace=False),
        f.leaky_relu(x, 0.2, inplace=False),
    ),
    "shrink": lambda f, x: (f.hardshrink(x, 0.8), f.softshrink(x, 0.8)),
    "prelu": lambda f, x: (f.prelu(x, x[0, :1]), f.prelu(x, x[0])),
    "normalize": lambda f, x: (f.normalize(x), f.normalize(x, dim=-1), f.normalize(x, 1, 0)),
    "distances": lambda f, x: (
        f.cosine_similarity(x, x.flip(0)),
        f.cosine_similarity(x, x + 1, dim=0),
        f.pairwise_distance(x, x * 2),
        f.pairwise_distance(x, x + 1, 1, keepdim=True),
    ),
    "layer_norm": lambda f, x: (
        f.layer_norm(x, (4,)),
        f.layer_norm(x, [4], x[0], x[1]),
        f.linear(x, x, x[:, 0]),
        f.dropout(x, 0.5, training=False),
        f.dropout(x, p=0.0),
    ),
    "pad": lambda f, x: (f.pad(x, (1, 2)), f.pad(x, (0, 1, 2, 0), value=3.0), f.pad(x, (1, 1), "constant", 0)),
    "huber": lambda f, x: (
        f.huber_loss(x, x.flip(0) * 3),
        f.huber_loss(x, x.flip(1), "none", 0.4),
        f.smooth_l1_loss(x, x.flip(0)),
        f.mse_loss(x, x.flip(0), reduction="sum"),
    ),
    "margins": lambda f, x: (
        f.margin_ranking_loss(x, x.flip(0), x.detach().sign(), 0.3),
        f.hinge_embedding_loss(x, x.detach().sign(), 0.5),
        f.soft_margin_loss(x, x.detach().sign(), reduction="none"),
    ),
    "cosine": lambda f, x: f.cosine_embedding_loss(x, x.flip(0), x.detach()[:, 0].sign(), 0.1, reduction="none"),
    "triplet": lambda f, x: (
        f.triplet_margin_loss(x, x.flip(0), x * 2),
        f.triplet_margin_loss(x, x.flip(0), x + 1, 0.5, swap=True, reduction="sum"),
    ),
    "poisson": lambda f, x: (
        f.poisson_nll_loss(x, x.detach().abs() * 2),
        f.poisson_nll_loss(x.abs(), x.detach().abs() * 2, log_input=False, full=True, reduction="none"),
    ),
    "gaussian": lambda f, x: (
        f.gaussian_nll_loss(x, x.flip(0), x.abs()),
        f.gaussian_nll_loss(x, x.flip(0), x.abs(), full=True, reduction="none"),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional(name: str, dtype: str) -> None:
    call = FUNCTIONAL[name]
    check(lambda library, x: call(F if library is tt else TF, x), draw((3, 4), dtype, seed=6))


def test_functional_of_classes() -> None:
    labels = np.array([2, 0, 1])
    check(lambda t, x: (F if t is tt else TF).one_hot(x), labels)
    check(lambda t, x: (F if t is tt else TF).one_hot(x, num_classes=5), labels)
    weight = draw((4,), low=0.5)
    for options in ({}, {"p": 2}, {"margin": 0.5, "reduction": "none"}):
        check(lambda t, x, y, o=options: (F if t is tt else TF).multi_margin_loss(x, y, **o), draw((3, 4)), labels)
    check(
        lambda t, x, y, w: (F if t is tt else TF).multi_margin_loss(x, y, weight=w.detach()),
        draw((3, 4)),
        labels,
        weight,
    )
    check(lambda t, x, y: F.cdist(x, y) if t is tt else t.cdist(x, y), draw((3, 4)), draw((5, 4), seed=1))


LAYERS: dict[str, tuple[Any, ...]] = {
    "ELU": (0.5,),
    "CELU": (),
    "SELU": (),
    "Mish": (),
    "Hardswish": (),
    "Hardsigmoid": (),
    "Hardtanh": (-0.5, 0.7),
    "ReLU6": (),
    "PReLU": (),
    "GLU": (),
    "LogSigmoid": (),
    "Softsign": (),
    "Threshold": (0.1, 2.0),
    "Tanhshrink": (),
    "Softmin": (1,),
    "Hardshrink": (),
    "Softshrink": (0.2,),
    "ReLU": (),
    "Tanh": (),
    "GELU": (),
    "SiLU": (),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_one(name: str) -> None:
    check(lambda t, x: (nn if t is tt else t.nn).__dict__[name](*LAYERS[name])(x), draw((3, 4), "float32"))


LOSSES: dict[str, tuple[dict[str, Any], int]] = {
    "HuberLoss": ({"delta": 0.5}, 0),
    "SoftMarginLoss": ({}, 1),
    "HingeEmbeddingLoss": ({"margin": 0.5}, 1),
    "PoissonNLLLoss": ({"log_input": True}, 0),
    "MarginRankingLoss": ({"margin": 0.2}, 2),
    "TripletMarginLoss": ({"margin": 0.5, "swap": True}, 3),
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_layers_of_losses(name: str, reduction: str) -> None:
    options, kind = LOSSES[name]

    def call(t: Any, x: Any, y: Any) -> Any:
        loss = getattr(nn if t is tt else t.nn, name)(**options, reduction=reduction)
        target = y.detach().abs() if kind == 0 else y.detach().sign()
        return loss(x, target) if kind < 2 else loss(x, y, target) if kind == 2 else loss(x, y, x.flip(0))

    check(call, draw((3, 4)), draw((3, 4), seed=1))


DISTRIBUTIONS: dict[str, Call] = {
    "Normal": lambda d, x: d.Normal(x[0], x[1].abs() + 0.1),
    "Uniform": lambda d, x: d.Uniform(x[0] - 5, x[1] + 5),
    "Categorical": lambda d, x: d.Categorical(logits=x),
    "Categorical by probs": lambda d, x: d.Categorical(x.abs()),
    "Bernoulli": lambda d, x: d.Bernoulli(logits=x[0]),
    "Bernoulli by probs": lambda d, x: d.Bernoulli(x[0].abs() / 3),
}
VALUES: dict[str, np.ndarray] = {
    "Normal": draw((5, 4)),
    "Uniform": draw((5, 4)),
    "Categorical": np.array([[0, 1, 2], [3, 2, 1]]),
    "Bernoulli": np.array([[0.0, 1, 1, 0], [1, 1, 0, 0]]),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name: str) -> None:
    value = VALUES[name.split()[0]]

    def call(t: Any, x: Any) -> Any:
        made = DISTRIBUTIONS[name](t.distributions, x)
        other = DISTRIBUTIONS[name](t.distributions, x.flip(1) * 1.5)
        found = [made.log_prob(t.tensor(value)), made.entropy(), made.sample((7, 2)).shape, made.sample().shape]
        if name == "Normal":
            found += [made.cdf(t.tensor(value)), made.rsample().requires_grad]
        return found if "Uniform" in name else [*found, t.distributions.kl_divergence(made, other)]

    check(call, draw((3, 4), seed=11))


def test_parts_that_only_layers_have() -> None:
    check(lambda t, x: (nn if t is tt else t.nn).Unflatten(1, (2, 2))(x), draw((3, 4)))
    ours, theirs = nn.ParameterDict({"a": tt.ones(2)}), torch.nn.ParameterDict({"a": torch.ones(2)})
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


MADE_IN: dict[str, tuple[Any, ...]] = {
    "Linear": (3, 2), "LayerNorm": (3,), "Embedding": (3, 2), "RMSNorm": (3,), "Conv1d": (1, 2, 3),
    "Conv2d": (1, 2, 3), "ConvTranspose2d": (1, 2, 3), "BatchNorm1d": (3,), "BatchNorm2d": (3,), "GroupNorm": (1, 2),
    "InstanceNorm2d": (3,), "PReLU": (), "MultiheadAttention": (4, 2), "TransformerEncoderLayer": (4, 2, 8),
    "TransformerDecoderLayer": (4, 2, 8), "Transformer": (4, 2, 1, 1, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE_IN)
def test_layers_are_made_in_a_dtype(name: str) -> None:
    options = {"batch_first": True} if name == "Transformer" else {}  # without it, PyTorch warns
    ours = getattr(nn, name)(*MADE_IN[name], device="cpu", dtype=tt.float64, **options)
    theirs = getattr(torch.nn, name)(*MADE_IN[name], device="cpu", dtype=torch.float64, **options)
    given = {key: str(value.dtype) for key, value in ours.state_dict().items()}
    assert given == {key: str(value.dtype).removeprefix("torch.") for key, value in theirs.state_dict().items()}


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"padding_value": -1.0, "padding_side": "left"}])
def test_pad_sequence(options: dict[str, Any]) -> None:
    def call(t: Any, x: Any) -> Any:
        return (nn if t is tt else t.nn).utils.rnn.pad_sequence([x[:1], x, x[1:]], **options)

    check(call, draw((3, 4)))
    check(call, draw((4,)))


def test_vectors_to_parameters_and_back() -> None:
    ours, theirs = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    vector = draw((8,), "float32")
    nn.utils.vector_to_parameters(tt.tensor(vector), ours.parameters())
    torch.nn.utils.vector_to_parameters(torch.tensor(vector), theirs.parameters())
    assert ours.weight.requires_grad
    for pair in zip(ours.parameters(), theirs.parameters()):
        agree(*pair)


def test_parameters_that_are_not_learnt() -> None:
    for t, layers in ((tt, nn), (torch, torch.nn)):
        fixed = layers.Parameter(t.ones(2), requires_grad=False)
        assert not fixed.requires_grad
        assert layers.Parameter(t.ones(2), True).requires_grad
        model = layers.Linear(2, 1)
        model.fixed = fixed
        (model(t.ones(1, 2)) * fixed.sum()).sum().backward()
        assert model.fixed.grad is None
        assert "fixed" in model.state_dict()


@pytest.mark.parametrize(
    "pair",
    [([1.0, 2.0], [1.0, 2.00001]), ([1.0], [1.000001]), ([1], [1]), ([1], [2]), ([0.0], [2e-5]), ([[1.0]], [1.0])],
)
def test_what_is_close(pair: Any) -> None:
    def close(t: Any) -> bool:
        try:
            t.testing.assert_close(*map(t.tensor, pair))
        except AssertionError:
            return False
        return True

    assert close(tt) == close(torch)


@pytest.mark.parametrize("layers", [nn, torch.nn])
def test_a_child_may_be_called_layers(layers: Any) -> None:
    class Block(layers.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers.ModuleList([layers.Linear(4, 4)])

    model = layers.Sequential(Block())
    encoder = layers.TransformerEncoder(layers.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)
    assert list(model.state_dict()) == ["0.layers.0.weight", "0.layers.0.bias"]
    assert len(encoder.layers) == 2
    assert encoder.layers[1].linear1.weight.shape == (8, 4)
