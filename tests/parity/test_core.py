"""Act I forward, side by side with PyTorch: values within 1e-5 (float32) and 1e-10 (float64), dtypes and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import registry

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")
F = torch.nn.functional
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

Function = Callable[..., Any]


def agree(ours: Any, theirs: Any) -> None:
    """Same shape, same dtype, same values within the tolerance of the dtype (of the largest, where they cancel)."""
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs):
            agree(*pair)
        return
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    tolerance = TOLERANCE.get(str(expected.dtype), 0)
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else expected
    scale = max(1.0, float(np.abs(finite).max())) if finite.size and finite.dtype.kind == "f" else 1.0
    np.testing.assert_allclose(ours.numpy(), expected, rtol=tolerance, atol=tolerance * scale)


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0, positive: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).normal(0, 2, shape)
    return np.asarray(np.abs(x) + 0.1 if positive else x, dtype=dtype)


def both(arrays: list[np.ndarray]) -> tuple[list[Any], list[Any]]:
    return [tt.tensor(a) for a in arrays], [torch.from_numpy(a.copy()) for a in arrays]


SHAPES = [(), (7,), (3, 5), (2, 3, 4), (0, 3), (64, 130)]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
shapes = pytest.mark.parametrize("shape", SHAPES)

# --- element by element

POSITIVE = {"log", "sqrt", "log1p", "pow"}
UNARY: dict[str, Function] = {
    **{name: getattr(torch, name) for name in ("neg", "abs", "sign", "floor", "ceil", "round", "isnan", "isfinite")},
    **{name: getattr(torch, name) for name in ("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "erf")},
    **{name: getattr(torch, name) for name in ("logical_not", "relu", "sigmoid", "tanh")},
    **{name: getattr(F, name) for name in ("leaky_relu", "silu", "softplus", "gelu")},
}
BINARY: dict[str, Function] = {
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div", "floor_divide", "remainder", "pow")},
    **{name: getattr(torch, name) for name in ("maximum", "minimum", "logical_and", "logical_or")},
    **{name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}


@dtypes
@shapes
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one(name: str, shape: tuple[int, ...], dtype: str) -> None:
    (x,), (y,) = both([draw(shape, dtype, positive=name in POSITIVE)])
    agree(getattr(tt, name)(x), UNARY[name](y))


@dtypes
@pytest.mark.parametrize("pair", [((), ()), ((3, 4), (3, 4)), ((3, 1), (4,)), ((2, 1, 3), (5, 1)), ((0, 3), (3,))])
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two(name: str, pair: tuple[tuple[int, ...], ...], dtype: str) -> None:
    arrays = [draw(shape, dtype, seed, positive=name in POSITIVE) for seed, shape in enumerate(pair)]
    ours, theirs = both(arrays)
    agree(getattr(tt, name)(*ours), BINARY[name](*theirs))


@dtypes
@pytest.mark.parametrize("power", [-2, -1, 0, 0.5, 1, 2, 3, 2.5])
def test_powers(power: float, dtype: str) -> None:
    (x,), (y,) = both([draw((50,), dtype, positive=True)])
    agree(x**power, y**power)


@dtypes
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: tt.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
        (lambda x: tt.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),
        (lambda x: tt.softplus(x, 2.0, 1.5), lambda x: F.softplus(x, 2.0, 1.5)),
        (lambda x: tt.clip(x, -0.5, 1), lambda x: torch.clip(x, -0.5, 1)),
        (lambda x: x.clamp(min=0.5), lambda x: x.clamp(min=0.5)),
        (lambda x: x.abs().rsqrt(), lambda x: x.abs().rsqrt()),
        (lambda x: x.square(), lambda x: x.square()),
        (lambda x: x.reciprocal(), lambda x: x.reciprocal()),
        (lambda x: x.masked_fill(x > 0, -7.0), lambda x: x.masked_fill(x > 0, -7.0)),
        (lambda x: tt.where(x > 0, x, 0.0), lambda x: torch.where(x > 0, x, 0.0)),
        (lambda x: 2 - x, lambda x: 2 - x),
        (lambda x: 2 / x, lambda x: 2 / x),
        (lambda x: x // 2, lambda x: x // 2),
        (lambda x: x % 2, lambda x: x % 2),
    ],
)
def test_functions_with_attributes(ours: Function, theirs: Function, dtype: str) -> None:
    (x,), (y,) = both([draw((40, 5), dtype)])
    agree(ours(x), theirs(y))


EXTREMES = np.array([-3.4e38, -1e30, -1e4, -100, -1, 0, 1, 100, 1e4, 1e30, 3.4e38], "f4")


@pytest.mark.parametrize("name", [n for n in UNARY if n not in ("sin", "cos", "gelu")])  # PyTorch's gelu overflows
def test_extremes(name: str) -> None:
    (x,), (y,) = both([EXTREMES])
    ours, theirs = getattr(tt, name)(x).numpy(), UNARY[name](y).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-30)


# --- over dimensions


@dtypes
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (700, 64)])
def test_softmax(name: str, shape: tuple[int, ...], dim: int, dtype: str) -> None:
    (x,), (y,) = both([draw(shape, dtype) * 10])
    agree(getattr(tt, name)(x, dim), getattr(torch, name)(y, dim))


@dtypes
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "logsumexp", "all", "any"])
def test_reductions(name: str, dim: Any, keepdim: bool, dtype: str) -> None:
    (x,), (y,) = both([draw((3, 4, 5), dtype)])
    every = (0, 1, 2) if dim is None and name in ("logsumexp", "all", "any") else dim
    agree(getattr(x, name)(dim=dim, keepdim=keepdim), getattr(y, name)(dim=every, keepdim=keepdim))


@dtypes
@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, dim: x.max(dim),
        lambda x, dim: x.min(dim, keepdim=True),
        lambda x, dim: x.argmax(dim),
        lambda x, dim: x.argmin(dim, keepdim=True),
        lambda x, dim: x.prod(dim),
        lambda x, dim: x.cumsum(dim),
        lambda x, dim: x.sort(dim),
        lambda x, dim: x.sort(dim, descending=True),
        lambda x, dim: x.argsort(dim, descending=True),
        lambda x, dim: x.topk(2, dim),
        lambda x, dim: x.topk(2, dim, largest=False),
        lambda x, dim: x.norm(dim=dim),
    ],
)
def test_along_a_dimension(call: Function, dim: int, dtype: str) -> None:
    (x,), (y,) = both([draw((6, 5, 4), dtype)])
    agree(call(x, dim), tuple(call(y, dim)) if isinstance(call(y, dim), tuple) else call(y, dim))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "argmax", "amax"])
def test_reductions_of_integers(name: str, dtype: str) -> None:
    (x,), (y,) = both([np.array([1, 2, 3, 1]).astype(dtype)])
    if dtype == "bool" and name == "argmax":
        pytest.skip("PyTorch has no argmax of booleans")
    agree(getattr(x, name)(0), getattr(y, name)(0))


# --- shapes and indices

MOVES: list[Function] = [
    lambda x: x.reshape(4, -1),
    lambda x: x.view(2, 12),
    lambda x: x.flatten(),
    lambda x: x.flatten(1),
    lambda x: x.flatten(0, 1),
    lambda x: x.unflatten(2, (2, 2)),
    lambda x: x.transpose(0, 2),
    lambda x: x.permute(2, 0, 1),
    lambda x: x.mT,
    lambda x: x[:1].squeeze(0),
    lambda x: x.squeeze(),
    lambda x: x.unsqueeze(1),
    lambda x: x[:, :1].expand(2, 5, 4),
    lambda x: x[:, :1].expand(-1, 5, -1),
    lambda x: x.repeat(2, 1, 3),
    lambda x: x.repeat(2, 2, 1, 1),
    lambda x: x.repeat_interleave(2, 1),
    lambda x: x.split(2, 1),
    lambda x: x.split([1, 3], -1),
    lambda x: x.chunk(2, 1),
    lambda x: x.narrow(1, 1, 2),
    lambda x: x.unbind(1),
    lambda x: x.flip(0, 2),
    lambda x: x.roll(1, 0),
    lambda x: x.tril(),
    lambda x: x.triu(1),
    lambda x: x[0],
    lambda x: x[0, 1, 2],
    lambda x: x[..., 1:, None],
    lambda x: x[:, [0, 2]],
    lambda x: x[[0, 1], [2, 0]],
    lambda x: x[x > 0],
    lambda x: x[None, :, -1],
]


@dtypes
@pytest.mark.parametrize("move", MOVES)
def test_shapes_and_indices(move: Function, dtype: str) -> None:
    (x,), (y,) = both([draw((2, 3, 4), dtype)])
    agree(move(x), move(y))


@dtypes
def test_taking(dtype: str) -> None:
    (x, index), (y, jndex) = both([draw((3, 4), dtype), np.array([[0, 3], [2, 1]])])
    agree(x.gather(1, index), y.gather(1, jndex))
    agree(x.gather(0, index % 3), y.gather(0, jndex % 3))
    agree(tt.take_along_dim(x, x.argsort(1), 1), torch.take_along_dim(y, y.argsort(1), 1))
    agree(tt.index_select(x, 1, index[0]), torch.index_select(y, 1, jndex[0]))
    agree(tt.pad(x, (1, 2, 0, 1), value=3.0), F.pad(y, (1, 2, 0, 1), value=3.0))
    agree(tt.cat([x, x], 1), torch.cat([y, y], 1))
    agree(tt.stack([x, x], 1), torch.stack([y, y], 1))


# --- products and layers


@dtypes
@pytest.mark.parametrize(
    ("a", "b"),
    [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
     ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 0), (0, 4))],
)  # fmt: skip
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], dtype: str) -> None:
    ours, theirs = both([draw(a, dtype), draw(b, dtype, 1)])
    agree(tt.matmul(*ours), torch.matmul(*theirs))


@dtypes
@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bjk->bik", "ij->ji", "ii->i", "i,j->ij"])
def test_einsum(equation: str, dtype: str) -> None:
    ranks = [len(part) for part in equation.split("->")[0].split(",")]
    ours, theirs = both([draw((4,) * rank, dtype, rank) for rank in ranks])
    agree(tt.einsum(equation, *ours), torch.einsum(equation, *theirs))


@dtypes
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_linear_and_layer_norm(lead: tuple[int, ...], dtype: str) -> None:
    ours, theirs = both([draw((*lead, 6), dtype), draw((4, 6), dtype, 1), draw((4,), dtype, 2)])
    agree(tt.linear(*ours), F.linear(*theirs))
    agree(tt.linear(*ours[:2]), F.linear(*theirs[:2]))
    ours, theirs = both([draw((*lead, 2, 6), dtype), draw((2, 6), dtype, 1), draw((2, 6), dtype, 2)])
    agree(tt.layer_norm(*ours, dims=2), F.layer_norm(theirs[0], (2, 6), *theirs[1:]))
    agree(tt.layer_norm(ours[0]), F.layer_norm(theirs[0], (6,)))


def test_state_dicts_travel_both_ways() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    ours = tt.Sequential(tt.Linear(5, 4), tt.LayerNorm(4), tt.GELU(), tt.Linear(4, 2))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    (x,), (y,) = both([draw((3, 5), "float32")])
    agree(ours(x), theirs(y))
    fresh = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    fresh.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in ours.state_dict().items()})
    agree(ours(x), fresh(y))


# --- losses

reductions = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


@dtypes
@reductions
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3), (2, 5, 3, 2), (5,)])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"label_smoothing": 0.2}])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(
    shape: tuple[int, ...], options: dict[str, Any], weighted: bool, reduction: str, dtype: str
) -> None:
    labels = np.asarray(np.random.default_rng(0).integers(0, 5, (shape[0], *shape[2:]) if len(shape) > 1 else ()))
    if len(shape) == 1:
        labels[...] = 3
    (x, target, w), (y, goal, v) = both([draw(shape, dtype), labels, draw((5,), dtype, 1, positive=True)])
    ours, theirs = ({"weight": weight if weighted else None, "reduction": reduction, **options} for weight in (w, v))
    agree(tt.cross_entropy(x, target, **ours), F.cross_entropy(y, goal, **theirs))
    agree(tt.CrossEntropyLoss(**ours)(x, target), torch.nn.CrossEntropyLoss(**theirs)(y, goal))
    if "label_smoothing" not in options:
        dim = min(1, len(shape) - 1)
        x, y = tt.log_softmax(x, dim), torch.log_softmax(y, dim)
        agree(tt.nll_loss(x, target, **ours), F.nll_loss(y, goal, **theirs))
        agree(tt.NLLLoss(**ours)(x, target), torch.nn.NLLLoss(**theirs)(y, goal))


@dtypes
@reductions
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3), (5,)])
def test_cross_entropy_of_probabilities(shape: tuple[int, ...], smoothing: float, reduction: str, dtype: str) -> None:
    dim = min(1, len(shape) - 1)
    target = tt.softmax(tt.tensor(draw(shape, dtype, 2)), dim).numpy()
    (x, t, w), (y, u, v) = both([draw(shape, dtype), target, draw((5,), dtype, 1, positive=True)])
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    agree(tt.cross_entropy(x, t, w, **options), F.cross_entropy(y, u, v, **options))


@dtypes
@reductions
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("shape", [(6, 5), (7,), ()])
def test_losses_between_equal_shapes(shape: tuple[int, ...], reduction: str, dtype: str) -> None:
    arrays = [draw(shape, dtype), draw(shape, dtype, 1), draw(shape, dtype, 2, positive=True)]
    (x, t, w), (y, u, v) = both(arrays)
    agree(tt.MSELoss(reduction)(x, t), torch.nn.MSELoss(reduction=reduction)(y, u))
    agree(tt.L1Loss(reduction)(x, t), torch.nn.L1Loss(reduction=reduction)(y, u))
    for beta in (0.0, 0.5, 1.0):
        ours, theirs = tt.SmoothL1Loss(reduction, beta), torch.nn.SmoothL1Loss(reduction=reduction, beta=beta)
        agree(ours(x, t), theirs(y, u))
    t, u = tt.sigmoid(t), torch.sigmoid(u)
    agree(tt.BCEWithLogitsLoss(w, reduction, w)(x, t), torch.nn.BCEWithLogitsLoss(v, None, None, reduction, v)(y, u))
    agree(tt.KLDivLoss(reduction)(x, t), torch.nn.KLDivLoss(reduction=reduction)(y, u))
    agree(tt.KLDivLoss(reduction, True)(x, t), torch.nn.KLDivLoss(reduction=reduction, log_target=True)(y, u))
    agree(tt.BCELoss(w, reduction)(tt.sigmoid(x), t), torch.nn.BCELoss(v, reduction=reduction)(torch.sigmoid(y), u))


def test_kl_div_batchmean_and_certain_probabilities() -> None:
    (x, t), (y, u) = both([draw((4, 3), "float32"), np.eye(4, 3, dtype="f4")])
    agree(tt.kl_div(x, t, "batchmean"), F.kl_div(y, u, reduction="batchmean"))
    edge = np.array([0.0, 1.0, 0.0, 1.0, 1e-30], "f4")
    (x, t), (y, u) = both([edge, np.array([0, 1, 1, 0, 1], "f4")])
    agree(tt.binary_cross_entropy(x, t, reduction="none"), F.binary_cross_entropy(y, u, reduction="none"))


# --- creation and initialisation


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.tensor([1.0, 2]),
        lambda m: m.tensor([1, 2]),
        lambda m: m.tensor([True]),
        lambda m: m.tensor(3.5),
        lambda m: m.zeros(2, 3),
        lambda m: m.zeros((2, 3)),
        lambda m: m.ones(2),
        lambda m: m.full((2,), 3),
        lambda m: m.full((2,), 3.5),
        lambda m: m.full((2,), True),
        lambda m: m.zeros_like(m.tensor([1, 2])),
        lambda m: m.ones_like(m.tensor([1.0])),
        lambda m: m.full_like(m.tensor([1.0]), 2),
        lambda m: m.arange(5),
        lambda m: m.arange(5.0),
        lambda m: m.arange(1, 7, 2),
        lambda m: m.arange(0, 1, 0.25),
        lambda m: m.arange(3, 0, -1),
        lambda m: m.linspace(0, 1, 7),
        lambda m: m.linspace(2, 3, 1),
        lambda m: m.eye(3),
        lambda m: m.eye(2, 4),
        lambda m: m.where(m.tensor([True, False]), 1.0, 0.0),
        lambda m: m.where(m.tensor([True, False]), 1, 0),
    ],
)
def test_creation(make: Function) -> None:
    agree(make(tt), make(torch))


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.rand(2, 3),
        lambda m: m.randn((2, 3)),
        lambda m: m.randint(10, (4,)),
        lambda m: m.randint(5, 10, (4, 2)),
        lambda m: m.randperm(6),
        lambda m: m.empty(2, 3),
    ],
)
def test_random_creation_agrees_in_shape_and_dtype(make: Function) -> None:
    ours, theirs = make(tt), make(torch)
    assert ours.shape == tuple(theirs.shape)
    assert ours.dtype == theirs.numpy().dtype


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kaiming_uniform_", {"a": 5**0.5}),
        ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("kaiming_normal_", {}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("trunc_normal_", {"std": 0.5, "a": -0.6, "b": 0.3}),
        ("orthogonal_", {"gain": 0.5}),
        ("normal_", {"mean": 1.0, "std": 0.1}),
        ("uniform_", {"a": -1.0, "b": 3.0}),
    ],
)
def test_initialisers_have_the_same_distribution(name: str, options: dict[str, Any]) -> None:
    tt.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = tt.zeros(64, 32, 5, 5), torch.zeros(64, 32, 5, 5)
    getattr(tt.init, name)(ours, **options)
    getattr(torch.nn.init, name)(theirs, **options)
    probabilities = np.linspace(0.02, 0.98, 25)
    quantiles = [np.quantile(x.numpy(), probabilities) for x in (ours, theirs)]
    np.testing.assert_allclose(*quantiles, atol=0.04 * float(theirs.std()))


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gains(nonlinearity: str) -> None:
    assert tt.init.calculate_gain(nonlinearity) == torch.nn.init.calculate_gain(nonlinearity)


def test_no_op_of_act_one_is_left_out() -> None:
    files = [Path(__file__), Path(__file__).with_name("test_names.py")]
    words = {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    under_other_names = {
        "contiguous",
        "clone",
        "cast",
        "getitem",
        "topk_indices",
        "dropout",
        "add_at",
        "running_extreme",
    }
    ours = {name for name, op in registry.items() if op.kernel.__module__.startswith("tt_core.")}
    forward = {name for name in ours if not name.endswith("_backward")}
    assert forward - words - under_other_names == set()
