"""PyTorch's names beyond the journey: known values, and errors of one line. `tests/parity` compares with PyTorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_core.nn.functional as F
from tt_core import distributions as D
from tt_core import nn, tensor
from tt_core.engine.devices import DeviceError
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, TinyTorchError

X = [[3.0, 1.0, 2.0], [6.0, 5.0, 4.0]]
nan, inf = math.nan, math.inf

VALUES: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda x: x.sum(1, keepdims=True) + x.max(dim=1, keepdims=True).values, [[9], [21]]),
    (lambda x: x.mean(axis=1, keepdims=True) - x.min(1, keepdims=True).values, [[1], [1]]),
    (lambda x: tt.sum(x, dim=1, keepdims=True), [[6], [15]]),
    (lambda x: tt.trapezoid(x, dim=0), [4.5, 3, 3]),
    (lambda x: tt.trapezoid(x, tensor([0.0, 2.0, 3.0])), [5.5, 15.5]),
    (lambda x: tt.trapezoid(x, x, dim=1), [-2.5, -10]),
    (lambda x: tt.trapz(x[:, :0], dx=2.0), [0, 0]),
    (lambda x: tt.zeros_like(x, memory_format=tt.preserve_format, device="cpu"), [[0] * 3] * 2),
    (lambda x: tt.normal(mean=2.0, std=0.0, size=(2,), device="cpu"), [2, 2]),
    (lambda x: tt.FloatTensor([1], device="cpu"), [1]),
    (lambda x: x.numpy(force=True), X),
    (lambda x: nn.utils.rnn.pad_sequence([x[0], x[1, :1]], batch_first=True), [[3, 1, 2], [6, 0, 0]]),
    (lambda x: nn.utils.rnn.pad_sequence([x, x[:1]], False, -1, "left")[0], [[3, 1, 2], [-1, -1, -1]]),
    (lambda x: tt.amp.GradScaler(enabled=False).scale(x), X),
    (lambda x: x.frac() + 0.5, [[0.5] * 3] * 2),
    (lambda x: x.exp2()[0], [8, 2, 4]),
    (lambda x: tt.log2(x[0] - 1).nan_to_num(neginf=-9), [1, -9, 0]),
    (lambda x: (x / 4).trunc() + x.fix(), [[3, 1, 2], [7, 6, 5]]),
    (lambda x: tensor([0.0, 0.5]).sinc(), [1, 2 / math.pi]),
    (lambda x: tensor([0.5]).logit(), [0]),
    (lambda x: tensor([0.0, 1.0]).xlogy(tensor([0.0, 1.0])), [0, 0]),
    (lambda x: x.lerp(x + 4, 0.25), [[4, 2, 3], [7, 6, 5]]),
    (lambda x: x.addcmul(x, x, value=0.5)[0], [7.5, 1.5, 4]),
    (lambda x: x.addcdiv(x, x, value=2)[0], [5, 3, 4]),
    (lambda x: x.clamp_min(2).clamp_max(5), [[3, 2, 2], [5, 5, 4]]),
    (lambda x: x.div(2, rounding_mode="floor")[0], [1, 0, 1]),
    (lambda x: (-x).div(2, rounding_mode="trunc")[0], [-1, 0, -1]),
    (lambda x: x.add(x, alpha=-1) + x.sub(x, alpha=1), [[0] * 3] * 2),
    (lambda x: tensor([1, inf, -inf, nan]).isinf(), [False, True, True, False]),
    (lambda x: x.logical_xor(x > 2), [[False, True, True], [False] * 3]),
    (lambda x: tensor([1.0, 2.0]).isclose(tensor([1.0, 2.1])), [True, False]),
    (lambda x: x.count_nonzero(0), [2, 2, 2]),
    (lambda x: tensor([5, 3]).bitwise_and(6), [4, 2]),
    (lambda x: tensor([5, 3]).bitwise_or(tensor([2, 4])), [7, 7]),
    (lambda x: tensor([5, 3]).bitwise_xor(1), [4, 2]),
    (lambda x: x.t(), [[3, 6], [1, 5], [2, 4]]),
    (lambda x: x[0].tile(2), [3, 1, 2, 3, 1, 2]),
    (lambda x: x.movedim(0, 1), [[3, 6], [1, 5], [2, 4]]),
    (lambda x: x.select(1, -1), [2, 4]),
    (lambda x: x.rot90(), [[2, 4], [1, 5], [3, 6]]),
    (lambda x: x.fliplr(), [[2, 1, 3], [4, 5, 6]]),
    (lambda x: x.flipud(), [[6, 5, 4], [3, 1, 2]]),
    (lambda x: x.tensor_split(2, 1)[0], [[3, 1], [6, 5]]),
    (lambda x: x.tensor_split((1,), 0)[1], [[6, 5, 4]]),
    (lambda x: x[0].unfold(0, 2, 1), [[3, 1], [1, 2]]),
    (lambda x: x.diagonal(1), [1, 4]),
    (lambda x: x[0].diag(), [[3, 0, 0], [0, 1, 0], [0, 0, 2]]),
    (lambda x: x[:, :2].trace(), 8),
    (lambda x: x.mm(x.T), [[14, 31], [31, 77]]),
    (lambda x: x[None].bmm(x.T[None]), [[[14, 31], [31, 77]]]),
    (lambda x: x.mv(x[0]), [14, 31]),
    (lambda x: x[0].dot(x[1]), 31),
    (lambda x: x.inner(x), [[14, 31], [31, 77]]),
    (lambda x: x[0, :2].outer(x[1, :2]), [[18, 15], [6, 5]]),
    (lambda x: x[:, :2].addmm(x, x.T, beta=2, alpha=-1), [[-8, -29], [-19, -67]]),
    (lambda x: x[None, :, :2].baddbmm(x[None], x.T[None]), [[[17, 32], [37, 82]]]),
    (lambda x: x.kthvalue(2).values, [2, 5]),
    (lambda x: x.median(1).indices, [2, 1]),
    (lambda x: tensor([1.0, nan, 2.0]).median(), nan),
    (lambda x: x.quantile(0.25), 2.25),
    (lambda x: x.quantile(tensor([0.0, 0.5, 1.0]), dim=1), [[1, 4], [2, 5], [3, 6]]),
    (lambda x: tensor([1.0, nan, 2.0]).nansum(), 3),
    (lambda x: tensor([1.0, nan, 2.0]).nanmean(), 1.5),
    (lambda x: x.cumprod(1), [[3, 3, 6], [6, 30, 120]]),
    (lambda x: x.cummax(1).values, [[3, 3, 3], [6, 6, 6]]),
    (lambda x: x.cummin(1).indices, [[0, 1, 1], [0, 1, 2]]),
    (lambda x: x.diff(), [[-2, 1], [-1, -1]]),
    (lambda x: x.dist(x + 1), math.sqrt(6)),
    (lambda x: (x > 3).nonzero(), [[1, 0], [1, 1], [1, 2]]),
    (lambda x: x.masked_select(x > 3), [6, 5, 4]),
    (lambda x: x.take(tensor([0, 5])), [3, 4]),
    (lambda x: tensor([2, 1, 2]).unique(), [1, 2]),
    (lambda x: tensor([2, 1, 2]).unique(return_inverse=True)[1], [1, 0, 1]),
    (lambda x: tensor([2, 1, 2]).bincount(minlength=4), [0, 1, 2, 0]),
    (lambda x: x.scatter(1, tensor([[2], [0]]), 9), [[3, 1, 9], [9, 5, 4]]),
    (lambda x: x.scatter(1, tensor([[1, 1], [0, 0]]), x), [[3, 1, 2], [5, 5, 4]]),
    (lambda x: x.scatter_add(0, tensor([[0, 0, 1]]), x[:1]), [[6, 2, 2], [6, 5, 6]]),
    (lambda x: x.index_add(1, tensor([0, 0]), x[:, :2], alpha=2), [[11, 1, 2], [28, 5, 4]]),
    (lambda x: x.index_fill(0, tensor([1]), 7), [[3, 1, 2], [7, 7, 7]]),
    (lambda x: x.index_copy(1, tensor([2]), x[:, :1]), [[3, 1, 3], [6, 5, 6]]),
    (lambda x: tt.where(x[0] > 1)[0], [0, 2]),
    (lambda x: x.sum(axis=0), [9, 6, 6]),
    (lambda x: tt.sum(x, axis=1, keepdim=True), [[6], [15]]),
    (lambda x: tt.max(x, dim=1).values, [3, 6]),
    (lambda x: x.var(unbiased=False), 35 / 12),
    (lambda x: x.var(0, False), [2.25, 4, 1]),
    (lambda x: x.softmax(axis=0).sum(axis=0), [1, 1, 1]),
    (lambda x: x.clone().clamp_(2, 5).neg_(), [[-3, -2, -2], [-5, -5, -4]]),
    (lambda x: x.clone().masked_fill_(x > 2, 0), [[0, 1, 2], [0, 0, 0]]),
    (lambda x: x.clone().index_add_(0, tensor([0]), x[1:]), [[9, 6, 6], [6, 5, 4]]),
    (lambda x: x.clone().fill_diagonal_(0), [[0, 1, 2], [6, 0, 4]]),
    (lambda x: tt.zeros(2, 2).bernoulli_(1.0), [[1, 1], [1, 1]]),
    (lambda x: tt.zeros(2).random_(1), [0, 0]),
    (lambda x: tensor([0.0, 1.0]).bernoulli(), [0, 1]),
    (lambda x: tensor([0.0, 2.0, 0.0]).multinomial(3, replacement=True), [1, 1, 1]),
    (lambda x: F.one_hot(tensor([1]), 3), [[0, 1, 0]]),
]


@pytest.mark.parametrize("case", range(len(VALUES)))
def test_known_values(case: int) -> None:
    call, expected = VALUES[case]
    found = call(tensor(X))
    np.testing.assert_allclose(found if isinstance(found, list) else found.tolist(), expected, rtol=1e-6)


ERRORS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda x: x.cuda(), DeviceError, "there is only the CPU, got 'cuda'"),
    (lambda x: tt.zeros(2, device="cuda"), DeviceError, "there is only the CPU, got 'cuda'"),
    (lambda x: tt.tensor([1.0], device="mps"), DeviceError, "use 'cpu', or leave the device out"),
    (lambda x: tt.device("cuda:0"), DeviceError, "got 'cuda:0'"),
    (lambda x: nn.Linear(1, 1).to("cuda"), DeviceError, "got 'cuda'"),
    (lambda x: x.to(colour="red"), DTypeError, "to: colour is not one of its arguments"),
    (lambda x: tt.sum(x, colour=1), DTypeError, "sum: colour is not one of its arguments"),
    (lambda x: tt.mul(x, x, alpha=2), DTypeError, "mul: alpha is not one of its arguments"),
    (lambda x: x.div(2, rounding_mode="up"), ArgumentError, "rounding_mode is None, 'floor' or 'trunc', got 'up'"),
    (lambda x: x.isclose(x.double()), DTypeError, "isclose: needs one dtype"),
    (lambda x: x[None].t(), ShapeError, "t: needs at most two dimensions"),
    (lambda x: x.movedim((0, 1), 0), ShapeError, "movedim: 2 dimensions cannot move to 1 places"),
    (lambda x: x.movedim(5, 0), OutOfRangeError, "movedim: "),
    (lambda x: x.mm(x[0]), ShapeError, r"mm: needs a tensor of 2 dimensions, got shape \(3,\)"),
    (lambda x: x.diag_embed().diag(), ShapeError, "diag: needs a vector or a matrix"),
    (lambda x: x.unfold(0, 5, 1), ShapeError, "unfold: windows of 5"),
    (lambda x: x.kthvalue(4), ShapeError, "kthvalue: k is 4, dimension -1 has 3"),
    (lambda x: tt.zeros(0).median(), ShapeError, "median: dimension 0 has no elements"),
    (lambda x: x.quantile(2), ArgumentError, "quantile: q is between 0 and 1"),
    (
        lambda x: x.scatter(1, tensor([[-1]]), 1),
        OutOfRangeError,
        "scatter: index goes from -1 to -1, dimension 1 has 3",
    ),
    (lambda x: x.scatter_add(1, tensor([[3]]), x), OutOfRangeError, "scatter_add: index goes from 3 to 3"),
    (lambda x: x.scatter_add(1, tensor([[0], [0], [0]]), x), ShapeError, r"index .* is larger than src"),
    (lambda x: tensor([-1]).bincount(), ShapeError, "bincount: needs integers of at least 0"),
    (lambda x: tensor([0.0, 1.0]).multinomial(2), ShapeError, "cannot draw 2 of 1 without replacement"),
    (lambda x: tensor([0.0]).multinomial(1), ShapeError, "must be finite, at least 0, and not all 0"),
    (lambda x: tt.meshgrid(x[0], indexing="yx"), ArgumentError, "meshgrid: indexing is 'ij' or 'xy'"),
    (lambda x: tt.topk("text", 1), DTypeError, "topk: holds numbers or booleans"),
    (lambda x: x.long().exp_(), DTypeError, "exp_: "),
    (lambda x: F.one_hot(tensor([3]), 3), OutOfRangeError, "one_hot: class index 3 is out of range for 3 classes"),
    (lambda x: F.one_hot(x), DTypeError, "one_hot: class indices are integers, got float32"),
    (lambda x: F.glu(x), ShapeError, "glu: dimension -1 must have an even size"),
    (lambda x: F.layer_norm(x, (4,)), ShapeError, r"layer_norm: input \(2, 3\) does not end in \(4,\)"),
    (lambda x: F.huber_loss(x, x, "most"), ArgumentError, "huber_loss: reduction is one of"),
    (lambda x: nn.ELU(colour=1), DTypeError, "ELU: .*colour.*; it takes alpha"),
    (lambda x: nn.Linear(1, 1).get_submodule("a.b"), OutOfRangeError, "has no layer 'a.b'"),
    (lambda x: nn.NoSuchLayer, AttributeError, "tt_core.nn has no NoSuchLayer"),
    (lambda x: nn.Linear(1, 1, dtype=tt.int64), DTypeError, "Linear.to: takes a dtype of floats"),
    (lambda x: nn.Linear(1, 1, device="cuda"), DeviceError, "there is only the CPU, got 'cuda'"),
    (lambda x: tt.autocast("cuda"), DeviceError, "autocast: .*; pass enabled=False, or leave it out"),
    (lambda x: tt.cuda.amp.GradScaler(), DeviceError, "GradScaler: .*; pass enabled=False, or leave it out"),
    (lambda x: tt.cuda.set_device(0), DeviceError, "there is only the CPU, got 'cuda:0'"),
    (lambda x: tt.cuda.get_device_name(0), AttributeError, "cuda has no get_device_name: there is only the CPU"),
    (lambda x: tt.zeros_like(x, memory_format="channels_last"), TinyTorchError, "zeros_like: memory_format is"),
    (lambda x: tt.testing.assert_close(x, x + 1), AssertionError, "assert_close: 6 of 6 elements differ, by up to 1"),
    (lambda x: tt.testing.assert_close(x, x[0]), AssertionError, "assert_close: the shapes are"),
    (lambda x: tt.testing.assert_close([x], [x.long()]), AssertionError, "assert_close: the dtypes are"),
    (lambda x: nn.utils.vector_to_parameters(x, [x]), ShapeError, "vector_to_parameters: vec has shape"),
    (lambda x: nn.utils.rnn.pad_sequence([x], padding_side="top"), ShapeError, "pad_sequence: padding_side is"),
    (lambda x: tt.trapezoid(x, dim=2), OutOfRangeError, "trapezoid|narrow|size"),
    (lambda x: tt.no_such_name, AttributeError, "tt_core has no no_such_name"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors_are_one_line(case: int) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message) as caught:
        call(tensor(X))
    assert "\n" not in str(caught.value)


def test_gradients_are_announced_by_act_one() -> None:
    if hasattr(tt.tensor(1.0), "requires_grad_"):
        pytest.skip("Act II is imported")
    for create in (lambda: tt.tensor([1.0], requires_grad=True), lambda: tt.zeros(2, requires_grad=True)):
        with pytest.raises(TinyTorchError, match=r"requires_grad needs .*import tt_learn"):
            create()
    with pytest.raises(TinyTorchError, match="import tt_learn"):
        nn.Linear(1, 1).requires_grad_()


def test_device_of_a_tensor_and_of_a_model() -> None:
    x = tensor(X)
    assert x.device == tt.device("cpu") == "cpu"
    assert x.to("cpu") is x
    assert x.to("cpu", tt.float64).dtype == np.float64
    assert x.to(tensor([1])).dtype == np.int64
    assert not x.is_cuda
    model = nn.Linear(2, 1)
    assert model.to("cpu") is model
    assert model.to(tt.device("cpu"), tt.float64).weight.dtype == np.float64
    assert not tt.cuda.is_available()


def test_a_generator_of_its_own_does_not_move_the_framework_s() -> None:
    before = tt.get_rng_state()
    first = tt.randn(3, generator=tt.Generator().manual_seed(1))
    again = tt.Generator().manual_seed(1)
    assert first.equal(tt.randn(3, generator=again))
    state = again.get_state()
    drawn = tt.randint(0, 9, (5,), generator=again)
    again.set_state(state)
    assert drawn.equal(tt.randint(0, 9, (5,), generator=again))
    assert tt.get_rng_state() == before


def test_multinomial_draws_in_proportion() -> None:
    g = tt.Generator().manual_seed(0)
    drawn = tensor([[1.0, 3.0], [1.0, 0.0]]).multinomial(4000, replacement=True, generator=g)
    assert abs(drawn[0].float().mean().item() - 0.75) < 0.03
    assert drawn[1].sum().item() == 0
    without = tt.ones(5).multinomial(5, generator=g)
    assert sorted(without.tolist()) == [0, 1, 2, 3, 4]


def test_random_in_place() -> None:
    x = tt.zeros(4000)
    assert 0.45 < x.uniform_(0, 1).mean().item() < 0.55
    assert abs(x.normal_(3, 0.5).mean().item() - 3) < 0.1
    assert 0.4 < x.exponential_(2.0).mean().item() < 0.6
    assert set(tt.zeros(100).long().random_(2, 4).tolist()) == {2, 3}


def test_hooks_see_and_change_inputs_and_outputs() -> None:
    layer = nn.Linear(2, 2)
    seen: list[str] = []
    first = layer.register_forward_pre_hook(lambda layer, inputs: seen.append("before"))
    second = layer.register_forward_pre_hook(lambda layer, inputs: inputs[0] * 0)
    third = layer.register_forward_hook(lambda layer, inputs, output: output * 0 + 7)
    assert layer(tt.ones(1, 2)).tolist() == [[7, 7]]
    third.remove()
    third.remove()
    assert layer(tt.ones(1, 2)).data.tolist() == [layer.bias.data.tolist()]
    first.remove()
    second.remove()
    assert seen == ["before", "before"]
    assert copy.deepcopy(layer)(tt.ones(1, 2)).shape == (1, 2)


def test_containers() -> None:
    heads = nn.LayerDict({"a": nn.Linear(1, 1)})
    heads["b"] = nn.PReLU(3)
    assert [name for name, _ in heads.named_parameters()] == ["a.weight", "a.bias", "b.weight"]
    assert "a" in heads
    assert len(heads) == 2
    del heads["a"]
    assert list(heads.keys()) == ["b"]
    assert dict(heads.items()) == {"b": heads["b"]}
    assert [type(layer) for layer in heads.values()] == [nn.PReLU]
    weights = nn.ParameterList([tt.ones(2)])
    weights.append(nn.Parameter(tt.zeros(3)))
    assert [name for name, _ in weights.named_parameters()] == ["0", "1"]
    assert weights[1].shape == (3,)
    assert len(list(weights)) == 2


def test_layers_show_and_keep_their_arguments() -> None:
    assert repr(nn.ELU(0.5, inplace=True)) == "ELU(alpha=0.5)"
    assert repr(nn.Hardtanh(-2, max_val=2)) == "Hardtanh(min_val=-2, max_val=2)"
    layer = nn.Threshold(1, 5)
    layer.value = 6
    assert layer(tensor([0.0, 2.0])).tolist() == [6, 2]
    assert nn.Module is tt.Layer
    assert nn.ModuleList is tt.LayerList


def test_layers_are_found_under_pytorchs_walks() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(inplace=True), nn.Dropout(0.1, inplace=True))
    assert len(list(model.modules())) == 4
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2"]
    assert model.get_submodule("0") is model[0]
    assert model.get_parameter("0.weight") is model[0].weight
    assert model.half().get_parameter("0.bias").dtype == np.float16
    assert model.cpu() is model
    assert [name for name, _ in model[0].named_parameters("a")] == ["a.weight", "a.bias"]
    assert list(model.parameters(recurse=False)) == []
    assert tt.linalg.norm(tensor([3.0, 4.0])).item() == 5


def test_gumbel_softmax_is_a_choice() -> None:
    assert F.gumbel_softmax(tensor([[0.0, 100.0]]), hard=True).tolist() == [[0, 1]]
    assert abs(F.gumbel_softmax(tt.zeros(3, 4), dim=0).sum().item() - 4) < 1e-5


def test_every_name_is_exported_and_described() -> None:
    for name in tt.torch_names.functions.__all__:
        assert hasattr(tt, name), name
    classes = (tt.torch_names.methods.TorchMethods, tt.torch_names.elements.ElementMethods)
    methods = [m for each in classes for name, m in vars(each).items() if not name.startswith("_") and callable(m)]
    assert len(methods) > 150


DISTRIBUTION_ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: D.Normal(0.0, 0.0), ArgumentError, "Normal: scale must be positive, got 0.0"),
    (lambda: D.Uniform(1.0, 1.0), ArgumentError, "Uniform: high must be above low"),
    (lambda: D.Categorical(), ArgumentError, "Categorical: takes either probs or logits"),
    (lambda: D.Categorical(tensor([0.0, 0.0])), ArgumentError, "Categorical: probs must be at least 0, and not all 0"),
    (lambda: D.Bernoulli(2.0), ArgumentError, "Bernoulli: probs must be between 0 and 1"),
    (lambda: D.Bernoulli(0.5).rsample(), TinyTorchError, "Bernoulli: has no reparameterized sample"),
    (lambda: D.kl_divergence(D.Normal(0, 1), D.Bernoulli(0.5)), TinyTorchError, "takes two distributions of one kind"),
]


@pytest.mark.parametrize("case", range(len(DISTRIBUTION_ERRORS)))
def test_distributions_name_what_does_not_fit(case: int) -> None:
    call, kind, message = DISTRIBUTION_ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_samples_follow_their_distribution() -> None:
    tt.manual_seed(0)
    normal = D.Normal(tensor([0.0, 10.0]), 2.0).sample((4000,))
    assert normal.shape == (4000, 2)
    np.testing.assert_allclose(normal.mean(0).tolist(), [0, 10], atol=0.15)
    np.testing.assert_allclose(normal.std(0).tolist(), [2, 2], atol=0.15)
    chosen = D.Categorical(tensor([[1.0, 3.0], [1.0, 0.0]])).sample((4000,))
    np.testing.assert_allclose(chosen.float().mean(0).tolist(), [0.75, 0], atol=0.03)
    assert abs(D.Bernoulli(0.25).sample((4000,)).mean().item() - 0.25) < 0.03
    uniform = D.Uniform(2.0, 4.0).sample((4000,))
    assert abs(uniform.mean().item() - 3) < 0.05
    assert uniform.min() >= 2
    assert uniform.max() < 4


def test_layers_are_made_in_a_dtype_on_the_cpu() -> None:
    layer = nn.Linear(2, 3, bias=False, device="cpu", dtype=tt.float64)
    assert layer.weight.dtype == np.float64
    assert layer(tt.ones(1, 2, dtype=tt.float64)).dtype == np.float64
    assert nn.LayerNorm(4, dtype=tt.float16).bias.dtype == np.float16
    assert nn.PReLU(dtype="float64").weight.dtype == np.float64
    assert nn.Linear(2, 3, device=tt.device("cpu")).weight.dtype == np.float32


def test_mixed_precision_that_is_switched_off_changes_nothing() -> None:
    @tt.cuda.amp.autocast(enabled=False)
    def twice(x: Any) -> Any:
        with tt.autocast(device_type="cpu", dtype=tt.float16, enabled=False):
            return x + x

    assert twice(tensor([1.0])).tolist() == [2.0]
    scaler = tt.amp.GradScaler("cpu", enabled=False)
    stepped: list[int] = []

    class Steps:
        def step(self) -> None:
            stepped.append(1)

    scaler.unscale_(Steps())
    scaler.step(Steps())
    scaler.update()
    scaler.load_state_dict(scaler.state_dict())
    assert stepped == [1]
    assert (scaler.is_enabled(), scaler.get_scale()) == (False, 1.0)


def test_tensors_that_are_close_pass() -> None:
    tt.testing.assert_close(tensor([1.0, nan]), tensor([1.000001, nan]), equal_nan=True)
    tt.testing.assert_close((tensor([1, 2]), 3.0), (tensor([1, 2]), 3.1), atol=0.2, rtol=0)
    with pytest.raises(AssertionError):
        tt.testing.assert_close(tensor([nan]), tensor([nan]))


def test_utils_have_what_later_acts_bring() -> None:
    with pytest.raises(AttributeError, match=r"tt_core.utils.data has no NoSuchSet"):
        tt.utils.data.NoSuchSet  # noqa: B018


def test_a_child_may_be_called_layers() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.ModuleList([nn.Dropout(0.5)])])
            self.num_parameters = 3

        def forward(self, x: Any) -> Any:
            return self.layers[0](x)

    model = nn.Sequential(Block())  # holds what hides the method layers()
    model.add_module("layers", Block())
    assert [name for name, _ in model.named_modules()][:3] == ["", "0", "0.layers"]
    assert not any(module.training for module in model.eval().modules())
    assert next(iter(model.state_dict())) == "0.layers.0.weight"
    assert [type(module).__name__ for module in model.layers.modules()].count("Linear") == 1
    assert "(layers): LayerList" in repr(model)
    model.load_state_dict(copy.deepcopy(model).state_dict())
    assert len(list(model.parameters())) == 4


def test_a_dictionary_may_have_a_layer_called_layers() -> None:
    parts = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1)]), "head": nn.Linear(1, 1)})
    assert len(parts["layers"]) == 1
    assert len(list(parts.parameters())) == 4


def test_completion_lists_what_users_write() -> None:
    for module, there in ((tt, "softmax"), (nn, "Linear"), (F, "gelu")):
        listed = dir(module)
        assert there in listed
        assert not {"absent", "annotations", "Any", "Callable", "TYPE_CHECKING", "did_you_mean", "np"} & set(listed)
        for name in listed:
            getattr(module, name)
