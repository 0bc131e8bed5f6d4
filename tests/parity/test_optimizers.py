"""Fifty steps of each optimizer beside PyTorch's, from the same start with the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_learn import Tensor
from tt_learn.optim import muon
from tt_learn.optimizers import clipping

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")

SHAPES = [(300, 130), (130,), (), (7, 3, 2), (1, 40_000), (3, 1)]  # two cut into blocks, four that share one
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
COARSE = {"NAdam": 1e-8}  # PyTorch keeps `mu_product` in float32
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "weight_decay": 0.1, "momentum": 0.8, "maximize": True}),
    ("RMSprop", {"alpha": 0.9, "centered": True, "momentum": 0.8}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"weight_decay": 0.1, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "momentum_decay": 0.1, "maximize": True}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"betas": (0.9, 0.5), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
]
NAMES = list(dict.fromkeys(name for name, _ in CASES))


def start(dtype: str, shapes: list[tuple[int, ...]]) -> tuple[list[Tensor], list[torch.nn.Parameter]]:
    draw = np.random.default_rng(0)
    arrays = [np.asarray(draw.standard_normal(shape), dtype) for shape in shapes]
    ours = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    return ours, [torch.nn.Parameter(torch.tensor(array)) for array in arrays]


def give_gradients(step: int, ours: list[Tensor], theirs: list[torch.nn.Parameter]) -> None:
    """Noise around the parameters, so that the path bends; the second parameter gets none in the first steps."""
    draw = np.random.default_rng(step)
    for i, (mine, other) in enumerate(zip(ours, theirs)):
        g = (draw.standard_normal(mine.shape) + 0.3 * other.detach().numpy()).astype(mine.dtype)
        late = i == 1 and step < 3
        mine.grad, other.grad = (None, None) if late else (Tensor(np.asarray(g)), torch.tensor(g))


def assert_close(ours: list[Tensor], theirs: list[torch.nn.Parameter], tolerance: float) -> None:
    for mine, other in zip(ours, theirs):
        expected = other.detach().numpy()
        scale = max(1.0, float(np.abs(expected).max()))
        assert float(np.abs(mine.data - expected).max()) / scale <= tolerance, mine.shape


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_fifty_steps(name: str, options: dict[str, object], dtype: str) -> None:
    ours, theirs = start(dtype, SHAPES)
    mine, other = getattr(tt_learn, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        give_gradients(step, ours, theirs)
        mine.step()
        other.step()
    assert_close(ours, theirs, max(TOLERANCE[dtype], COARSE.get(name, 0)))


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_pytorchs(name: str) -> None:
    ours, theirs = start("float64", [(2,)])
    mine, other = getattr(tt_learn, name)(ours).defaults, getattr(torch.optim, name)(theirs).defaults
    assert mine == {option: other[option] for option in mine}


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_of_pytorch_continues_here(name: str) -> None:
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    ours, theirs = start("float64", SHAPES)
    mine, other = getattr(tt_learn, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(20):
        give_gradients(step, ours, theirs)
        other.step()
    for parameter, source in zip(ours, theirs):
        np.copyto(parameter.data, source.detach().numpy())
    mine.load_state_dict(other.state_dict())
    for step in range(20, 40):
        give_gradients(step, ours, theirs)
        mine.step()
        other.step()
    assert_close(ours, theirs, COARSE.get(name, 1e-10))


# --- L-BFGS


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 4, "lr": 0.3},
        {"lr": 0.1, "max_iter": 5},
        {"lr": 0.002, "history_size": 2, "max_iter": 7, "max_eval": 6},
    ],
    ids=str,
)
@pytest.mark.parametrize("halfway", [False, True], ids=["straight", "from PyTorch's state"])
def test_lbfgs(options: dict[str, object], halfway: bool) -> None:
    """Rosenbrock's valley in several parameters, to the same point in as many evaluations."""
    ours, theirs = start("float64", [(3,), (2, 2), ()])
    mine, other = tt_learn.LBFGS(ours, **options), torch.optim.LBFGS(theirs, **options)

    def closure_of(optimizer: object, parameters: list, cat: object) -> object:
        def closure() -> object:
            optimizer.zero_grad()
            x = cat([p.reshape(-1) for p in parameters])
            loss = (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
            loss.backward()
            return loss

        return closure

    my_closure, their_closure = closure_of(mine, ours, tt_core.cat), closure_of(other, theirs, torch.cat)
    for step in range(8):
        if halfway and step == 3:
            mine.load_state_dict(other.state_dict())
        assert mine.step(my_closure).item() == pytest.approx(other.step(their_closure).item(), rel=1e-6, abs=1e-12)
        assert_close(ours, theirs, 1e-6)
    state, expected = mine.state_dict()["state"][0], other.state_dict()["state"][0]
    assert state["n_iter"] == expected["n_iter"]
    assert state["func_evals"] == expected["func_evals"]


# --- Lion and Muon


def lion_in_torch(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, lr: float, decay: float) -> None:
    """Program 1 of arXiv:2302.06675."""
    update = torch.sign(0.9 * m + 0.1 * g)
    p.data.sub_(lr * (update + decay * p))
    m.copy_(0.99 * m + 0.01 * g)


def test_lion_is_the_papers() -> None:
    ours, theirs = start("float64", SHAPES)
    lion = tt_learn.Lion(ours, lr=0.01, weight_decay=0.1)
    means = [torch.zeros_like(p) for p in theirs]
    for step in range(50):
        give_gradients(step, ours, theirs)
        lion.step()
        for p, m in zip(theirs, means):
            if p.grad is not None:
                lion_in_torch(p, p.grad, m, 0.01, 0.1)
    assert_close(ours, theirs, 1e-10)


MATRICES = [(20, 50), (50, 20), (16, 16)]
MUON = [{"lr": 0.02}, {"lr": 0.02, "nesterov": False, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"}]


@pytest.mark.parametrize("options", MUON, ids=str)
def test_muon_within_pytorchs_bfloat16(options: dict[str, object]) -> None:
    ours, theirs = start("float32", MATRICES)
    mine, other = muon.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(50):
        give_gradients(step, ours, theirs)
        mine.step()
        other.step()
    assert_close(ours, theirs, 2e-2)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", MUON, ids=str)
def test_muon_beside_pytorchs_without_rounding(
    options: dict[str, object], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own code, but its bfloat16() left out."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    ours, theirs = start(dtype, MATRICES)
    mine, other = muon.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(50):
        give_gradients(step, ours, theirs)
        mine.step()
        other.step()
    assert_close(ours, theirs, TOLERANCE[dtype])


# --- clipping


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, float("inf")])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    ours, theirs = start("float64", SHAPES)
    give_gradients(5, ours, theirs)
    norm = clipping.clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-10)
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine.grad.data, other.grad.numpy(), rtol=1e-10)


def test_a_norm_that_is_no_number_spoils_all_gradients() -> None:
    ours, theirs = start("float64", [(3,), (2,)])
    give_gradients(5, ours, theirs)
    ours[0].grad.data[1] = theirs[0].grad[1] = float("nan")
    clipping.clip_grad_norm_(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    assert np.isnan(ours[1].grad.data).all()
    assert torch.isnan(theirs[1].grad).all()
    with pytest.raises(tt_learn.GradientError, match="norm is nan"):
        clipping.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)


def test_clip_grad_value() -> None:
    ours, theirs = start("float64", SHAPES)
    give_gradients(5, ours, theirs)
    clipping.clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    for mine, other in zip(ours, theirs):
        np.testing.assert_array_equal(mine.grad.data, other.grad.numpy())
