"""Losses agree with their formulas, whatever the shape, the weights and the magnitude."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core import tensor
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, TinyTorchError

LIMIT = float(np.finfo("f4").max)


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def close(result: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(result.numpy(), expected, rtol=tolerance, atol=tolerance)


def logs(x: np.ndarray, dim: int) -> np.ndarray:
    x = x - x.max(dim, keepdims=True)
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


def expected_cross_entropy(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, ignore: int, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and weight of each example, in plain loops."""
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    loss, weights = np.zeros(len(rows)), np.zeros(len(rows))
    for i, (row, label) in enumerate(zip(logs(rows, 1), target.reshape(-1))):
        if label != ignore:
            right = -weight[label] * row[label]
            every = -(weight * row).mean()
            loss[i], weights[i] = (1 - smoothing) * right + smoothing * every, weight[label]
    return loss.reshape(target.shape), weights


# --- cross entropy


@pytest.mark.parametrize("shape", [(7, 5), (2, 5, 3), (2, 5, 3, 4), (1, 5), (1200, 50)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_cross_entropy_of_class_indices(shape: tuple[int, ...], weighted: bool, smoothing: float, ignore: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=shape)
    target = generator.integers(0, 5, (shape[0], *shape[2:]))
    if ignore == -100 and target.size > 1:
        target.flat[0] = -100
    weight = generator.random(shape[1]) if weighted else np.ones(shape[1])
    loss, weights = expected_cross_entropy(x, target, weight, ignore, smoothing)
    given = tensor(weight) if weighted else None
    for reduction, expected in {"none": loss, "sum": loss.sum(), "mean": loss.sum() / weights.sum()}.items():
        close(tt_core.cross_entropy(tensor(x), tensor(target), given, ignore, reduction, smoothing), expected)
        layer = tt_core.CrossEntropyLoss(given, ignore, reduction, smoothing)
        close(layer(tensor(x), tensor(target)), expected)
        if not smoothing:
            close(tt_core.nll_loss(tensor(logs(x, 1)), tensor(target), given, ignore, reduction), expected)
            close(tt_core.NLLLoss(given, ignore, reduction)(tensor(logs(x, 1)), tensor(target)), expected)


@pytest.mark.parametrize("shape", [(7, 5), (2, 5, 3), (5,)])
def test_cross_entropy_of_probabilities(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    dim = 1 if len(shape) > 1 else 0
    x, target = generator.normal(size=shape), generator.random(shape)
    target /= target.sum(dim, keepdims=True)
    weight = generator.random(5)
    shaped = weight.reshape((-1,) + (1,) * (len(shape) - dim - 1))
    smooth = 0.9 * target + 0.1 / 5
    loss = -(smooth * shaped * logs(x, dim)).sum(dim)
    for reduction, expected in {"none": loss, "sum": loss.sum(), "mean": loss.mean()}.items():
        args = tensor(x), tensor(target), tensor(weight)
        close(tt_core.cross_entropy(*args, reduction=reduction, label_smoothing=0.1), expected)


def test_one_hot_probabilities_are_class_indices() -> None:
    x, target = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 2, 1, 1])
    close(tt_core.cross_entropy(tensor(x), tensor(np.eye(3)[target])), tt_core.cross_entropy(x, target).item())
    with pytest.raises(ShapeError, match="one-hot target must be float"):
        tt_core.cross_entropy(x, np.eye(3, dtype=np.int64)[target])


def test_a_single_example() -> None:
    close(tt_core.cross_entropy(tensor([1.0, 2.0, 3.0]), tensor(2)), math.log(1 + math.exp(-1) + math.exp(-2)), 1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (6, 1), (6, 5), (2, 100), (900, 64)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_logits_are_left_as_they_were(shape: tuple[int, int], order: Any) -> None:
    x = np.asarray(np.random.default_rng(0).normal(size=shape), order=order)
    before = x.copy()
    tt_core.cross_entropy(tensor(x), tensor(np.zeros(shape[0], int)))
    tt_core.cross_entropy(tt_core.from_numpy(x), tensor(np.zeros(shape[0], int)))
    np.testing.assert_array_equal(x, before)


def test_float32_stays_float32_and_float64_stays_float64() -> None:
    for dtype in ("f4", "f8"):
        x, target = np.ones((2, 3), dtype), np.array([0, 1])
        assert tt_core.cross_entropy(tensor(x), tensor(target)).dtype == dtype
        assert tt_core.cross_entropy(tensor(x), tensor(target), tensor([1, 2, 3])).dtype == dtype
        assert tt_core.mse_loss(tensor(x), tensor(np.ones((2, 3), "i8"))).dtype == dtype


def test_cross_entropy_at_the_limits() -> None:
    x = tensor([[1e4, 0.0], [0.0, 1e4], [LIMIT, 0.0], [-LIMIT, LIMIT], [1e4, 1e4]])
    target = tensor([0, 0, 0, 1, 0])
    result = tt_core.cross_entropy(x, target, reduction="none").numpy()
    np.testing.assert_allclose(result, [0, 1e4, 0, 0, math.log(2)], rtol=1e-6)
    assert tt_core.cross_entropy(tensor([[-np.inf, 0.0]]), tensor([0])).item() == np.inf


def test_an_ignored_example_counts_nowhere_even_if_it_is_infinite() -> None:
    x = tensor([[np.inf, 0.0], [0.0, 0.0]])
    assert tt_core.cross_entropy(x, tensor([-100, 0])).item() == pytest.approx(math.log(2))
    assert np.isnan(tt_core.cross_entropy(x, tensor([-100, -100])).item())
    assert tt_core.cross_entropy(x, tensor([-100, -100]), reduction="sum").item() == 0


@pytest.mark.parametrize("label", [3, -1, 99])
@pytest.mark.parametrize("loss", [tt_core.cross_entropy, tt_core.nll_loss])
def test_a_class_that_does_not_exist_is_named_with_their_number(loss: Callable[..., Any], label: int) -> None:
    with pytest.raises(OutOfRangeError, match=rf"{loss.__name__}: class index {label} is out of range for 3 classes"):
        loss(tt_core.zeros(2, 3), tensor([0, label]))


# --- numbers


def test_distances() -> None:
    x, t = np.array([0.0, 0.4, -3.0, 2.0]), np.array([0.0, 0.0, 0.0, 2.5])
    d = np.abs(x - t)
    expected = {
        tt_core.mse_loss: d**2,
        tt_core.l1_loss: d,
        tt_core.smooth_l1_loss: np.where(d < 1, d**2 / 2, d - 0.5),
        lambda *a: tt_core.smooth_l1_loss(*a, beta=0.45): np.where(d < 0.45, d**2 / 0.9, d - 0.225),
        lambda *a: tt_core.smooth_l1_loss(*a, beta=0): d,
    }
    for loss, each in expected.items():
        close(loss(tensor(x), tensor(t), "none"), each)
        close(loss(tensor(x), tensor(t), "sum"), each.sum())
        close(loss(tensor(x), tensor(t)), each.mean())
    close(tt_core.MSELoss("sum")(x, t), (d**2).sum())
    close(tt_core.L1Loss()(x, t), d.mean())
    close(tt_core.SmoothL1Loss(beta=0.45)(x, t), np.where(d < 0.45, d**2 / 0.9, d - 0.225).mean())


def test_binary_cross_entropy() -> None:
    x, t, w = np.array([0.9, 0.2, 0.5]), np.array([1.0, 0.0, 0.3]), np.array([1.0, 2.0, 3.0])
    each = -(t * np.log(x) + (1 - t) * np.log(1 - x))
    close(tt_core.binary_cross_entropy(tensor(x), tensor(t), reduction="none"), each)
    close(tt_core.BCELoss(tensor(w))(tensor(x), tensor(t)), (each * w).mean())
    logits = np.log(x / (1 - x))
    close(tt_core.binary_cross_entropy_with_logits(tensor(logits), tensor(t), reduction="none"), each)
    p = np.array([2.0, 1.0, 0.5])
    each = -(p * t * np.log(x) + (1 - t) * np.log(1 - x))
    close(tt_core.BCEWithLogitsLoss(tensor(w), "sum", tensor(p))(tensor(logits), tensor(t)), (each * w).sum())


def test_binary_cross_entropy_at_the_limits() -> None:
    certain = tt_core.binary_cross_entropy(tensor([0.0, 1.0, 0.0, 1.0]), tensor([0, 1, 1, 0]), reduction="none")
    assert certain.tolist() == [0, 0, 100, 100]
    x = tensor([1e4, -1e4, LIMIT, 1e4])
    result = tt_core.binary_cross_entropy_with_logits(x, tensor([1, 0, 1, 0]), reduction="none")
    assert result.tolist() == [0, 0, 0, 1e4]


def test_kl_div() -> None:
    generator = np.random.default_rng(0)
    x, t = logs(generator.normal(size=(4, 3)), 1), np.exp(logs(generator.normal(size=(4, 3)), 1))
    each = t * (np.log(t) - x)
    for reduction, expected in {"none": each, "mean": each.mean(), "batchmean": each.sum() / 4}.items():
        close(tt_core.kl_div(tensor(x), tensor(t), reduction), expected)
        close(tt_core.KLDivLoss(reduction, log_target=True)(tensor(x), tensor(np.log(t))), expected)
    close(tt_core.kl_div(tensor([[0.0, 0.0]]), tensor([[0.0, 1.0]]), "sum"), 0)


# --- embeddings


def test_contrastive_loss() -> None:
    generator = np.random.default_rng(0)
    a, b, t = generator.normal(size=(5, 3)), generator.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    b[2] = a[2]
    distance = np.linalg.norm(a - b, axis=1)
    each = ((1 - t) * distance**2 + t * np.maximum(0, 2 - distance) ** 2) / 2
    close(tt_core.contrastive_loss(tensor(a), tensor(b), tensor(t), 2.0, "none"), each, 1e-5)
    close(tt_core.ContrastiveLoss(margin=2.0)(tensor(a), tensor(b), tensor(t)), each.mean(), 1e-5)


def test_info_nce_loss() -> None:
    generator = np.random.default_rng(0)
    q, k = generator.normal(size=(2, 6, 4))
    cosine = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (k / np.linalg.norm(k, axis=1, keepdims=True)).T
    each = -np.diagonal(logs(cosine / 0.2, 1))
    close(tt_core.info_nce_loss(tensor(q), tensor(k), 0.2, "none"), each)
    close(tt_core.InfoNCELoss(0.2)(tensor(q), tensor(k)), each.mean())
    assert np.isfinite(tt_core.info_nce_loss(tt_core.zeros(2, 3), tt_core.ones(2, 3)).item())


# --- mistakes


Z = tt_core.zeros


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tt_core.mse_loss(Z(3), Z(3, 1)), ShapeError, r"mse_loss: input \(3,\) and target \(3, 1\) differ"),
        (
            lambda: tt_core.l1_loss(Z(3), Z(3), "avg"),
            ArgumentError,
            "l1_loss: reduction is one of none, mean, sum, got 'avg'",
        ),
        (lambda: tt_core.MSELoss("avg"), ArgumentError, "MSELoss: reduction is one of"),
        (lambda: tt_core.KLDivLoss("avg"), ArgumentError, "KLDivLoss: reduction is one of none, mean, sum, batchmean"),
        (lambda: tt_core.smooth_l1_loss(Z(3), Z(3), beta=-1), ArgumentError, "beta must not be negative, got -1"),
        (lambda: tt_core.cross_entropy(Z(2, 3), tensor([0])), ShapeError, r"shape \(2,\) are expected .*\(2, 3\)"),
        (lambda: tt_core.cross_entropy(Z(2, 3), Z(2)), ShapeError, r"probabilities of the input's shape \(2, 3\)"),
        (
            lambda: tt_core.cross_entropy(Z(2, 3), tensor([True, False])),
            DTypeError,
            "class indices are integers, got bool",
        ),
        (lambda: tt_core.cross_entropy(tensor([[1, 2]]), tensor([0])), DTypeError, "needs a floating dtype, got int64"),
        (lambda: tt_core.cross_entropy(Z(2, 3), tensor([0, 1]), Z(2)), ShapeError, "each of the 3 classes, got shape"),
        (
            lambda: tt_core.cross_entropy(Z(2, 3), tensor([0, 1]), label_smoothing=2),
            ArgumentError,
            "label_smoothing is between 0 and 1, got 2",
        ),
        (lambda: tt_core.nll_loss(Z(2, 3), tensor([0])), ShapeError, "nll_loss: class indices of shape"),
        (lambda: tt_core.binary_cross_entropy(tensor([1.5]), Z(1)), ArgumentError, "between 0 and 1, got 1.5 to 1.5"),
        (lambda: tt_core.contrastive_loss(Z(2, 3), Z(2, 3), Z(3)), ShapeError, r"target needs shape \(2,\)"),
        (lambda: tt_core.info_nce_loss(Z(3), Z(3)), ShapeError, r"embeddings are \(N, D\)"),
        (lambda: tt_core.info_nce_loss(Z(2, 3), Z(2, 3), 0), ArgumentError, "temperature must be positive, got 0"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], Any], error: type[TinyTorchError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_weights_travel_in_the_state_dict_and_reprs_show_the_reduction() -> None:
    assert list(tt_core.CrossEntropyLoss(tensor([1.0, 2.0])).state_dict()) == ["weight"]
    assert list(tt_core.CrossEntropyLoss().state_dict()) == []
    assert repr(tt_core.MSELoss("sum")) == "MSELoss(reduction='sum')"


# --- weights


@pytest.mark.parametrize("loss", [tt_core.binary_cross_entropy, tt_core.binary_cross_entropy_with_logits])
def test_a_weight_does_not_enlarge_the_loss(loss: Any) -> None:
    x, target = tensor([[0.5], [0.25]]), tensor([[1.0], [0.0]])
    assert loss(x, target, weight=[[2.0], [0.0]], reduction="none")[1].item() == 0
    for shape in [(2, 3), (1, 2, 1), (4,)]:
        with pytest.raises(ShapeError, match=r"does not broadcast to the input \(2, 1\)"):
            loss(x, target, weight=tt_core.ones(*shape))


def test_class_weights_may_stand_in_a_list_and_a_mean_of_nothing_is_nan() -> None:
    x, target = tensor([[2.0, 0.0], [0.0, 1.0]]), tensor([0, 1])
    same = tt_core.cross_entropy(x, target, weight=tensor([1.0, 3.0]))
    assert tt_core.cross_entropy(x, target, weight=[1.0, 3.0]) == same
    empty = tt_core.zeros(0, 2)
    assert tt_core.cross_entropy(empty, empty).isnan()


@pytest.mark.parametrize("loss", [tt_core.mse_loss, tt_core.l1_loss, tt_core.smooth_l1_loss, tt_core.kl_div])
def test_integers_do_not_wrap_around_and_either_side_may_hold_them(loss: Any) -> None:
    zero, one = tensor([0, 3], dtype="uint8"), tensor([1, 2], dtype="uint8")
    with pytest.raises(DTypeError, match=f"{loss.__name__}: needs a floating dtype, got uint8; call .float"):
        loss(zero, one, reduction="sum")
    expected = loss(zero.float(), one.float())
    for result in (loss(zero.long(), one.float()), loss(zero.float(), one.long())):
        assert result.dtype == np.float32
        assert result == expected


def test_float16_embeddings_of_zeros_have_a_loss() -> None:
    zeros, ones = tt_core.zeros(2, 3, dtype="float16"), tt_core.ones(2, 3, dtype="float16")
    close(tt_core.info_nce_loss(zeros, ones), math.log(2), 1e-3)
    close(tt_core.contrastive_loss(zeros, zeros, tensor([0, 1]), reduction="none"), [0, 0.5], 1e-3)
