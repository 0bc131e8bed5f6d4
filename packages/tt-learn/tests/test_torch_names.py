"""PyTorch's names in Act II: modes of recording, saved files, namespaces, and gradients through compositions."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core.engine.devices import DeviceError
from tt_learn import CheckpointError, GradientError, is_grad_enabled, optim, tensor
from tt_learn.optim.lr_scheduler import StepLR


def test_set_grad_enabled_is_a_switch_a_block_and_a_decorator() -> None:
    with tt_learn.set_grad_enabled(False):
        assert not is_grad_enabled()
        with tt_learn.set_grad_enabled(True):
            assert is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()
    tt_learn.set_grad_enabled(False)
    try:
        assert not is_grad_enabled()
    finally:
        tt_learn.set_grad_enabled(True)

    @tt_learn.set_grad_enabled(False)
    def inside() -> bool:
        return is_grad_enabled()

    assert is_grad_enabled()
    assert not inside()
    assert is_grad_enabled()


def test_inference_mode_records_nothing_and_can_be_left_out() -> None:
    x = tensor([1.0], requires_grad=True)
    with tt_learn.inference_mode():
        assert not (x * 2).requires_grad
    with tt_learn.inference_mode(False):
        assert (x * 2).requires_grad
    with tt_learn.no_grad(), tt_learn.inference_mode(False):
        assert not (x * 2).requires_grad

    @tt_learn.inference_mode
    def bare() -> bool:
        return is_grad_enabled()

    @tt_learn.inference_mode()
    def called() -> bool:
        return is_grad_enabled()

    assert not bare()
    assert not called()


def test_detach_in_place_makes_a_leaf() -> None:
    x = tensor([2.0], requires_grad=True)
    y = (x * 3).detach_()
    assert y.is_leaf
    assert not y.requires_grad
    y.mul_(2)
    assert y.item() == 12


def test_creation_functions_ask_for_gradients() -> None:
    for made in (
        tt_core.zeros(2, requires_grad=True),
        tt_core.tensor([1.0], requires_grad=True),
        tt_core.randn(2, requires_grad=True),
        tt_core.full((2,), 1.0, requires_grad=True),
        tt_core.zeros(2).new_ones(3, requires_grad=True),
    ):
        assert made.requires_grad
    with pytest.raises(GradientError, match="only floats have gradients"):
        tt_core.arange(3, requires_grad=True)


def test_in_place_methods_are_refused_where_a_gradient_would_be_lost() -> None:
    w = tensor([1.0, 2.0], requires_grad=True)
    index = tt_core.tensor([0])
    calls = (
        lambda: w.clamp_(0, 1),
        lambda: w.normal_(),
        lambda: w.scatter_(0, index, 1.0),
        lambda: tt_core.zeros(2).index_add_(0, index, w[:1]),
        lambda: tt_core.zeros(2).lerp_(w, 0.5),
    )
    for call in calls:
        with pytest.raises(GradientError, match="change in place"):
            call()
    with tt_learn.no_grad():
        assert w.clamp_(0, 1).tolist() == [1, 1]


def test_gradients_flow_through_scatter_and_order_statistics() -> None:
    x = tensor([3.0, 1.0, 2.0], requires_grad=True)
    source = tensor([5.0, 7.0], requires_grad=True)
    out = x.scatter(0, tt_core.tensor([1, 1]), source)
    assert out.tolist() == [3, 7, 2]
    (out * tt_core.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [1, 0, 100]
    assert source.grad.tolist() == [0, 10]
    x.grad = None
    (x.median() + x.cummax(0).values.sum() + x.cumprod(0)[1]).backward()
    assert x.grad.tolist() == [4, 3, 1]


def test_cumprod_has_a_gradient_at_zeros() -> None:
    x = tensor([2.0, 0.0, 3.0], requires_grad=True)
    x.cumprod(0).sum().backward()
    assert x.grad.tolist() == [1, 8, 0]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model = tt_core.Linear(2, 1)
    opt = tt_learn.Adam(model.parameters())
    model(tt_core.ones(1, 2)).sum().backward()
    opt.step()
    tt_learn.save({"model": model.state_dict(), "optimizer": opt.state_dict(), "epoch": 3, "path": "p"}, path)
    found = tt_learn.load(path, map_location=tt_core.device("cpu"), weights_only=True)
    assert found["epoch"] == 3
    other = tt_core.Linear(2, 1)
    other.load_state_dict(found["model"])
    assert other.weight.data.tolist() == model.weight.data.tolist()
    assert isinstance(found["model"]["weight"], tt_learn.Tensor)
    again = tt_learn.Adam(other.parameters())
    again.load_state_dict(found["optimizer"])
    tt_learn.save(tt_core.arange(3), str(path))
    assert tt_learn.load(str(path)).tolist() == [0, 1, 2]
    tt_learn.save_tensors(path, {"w": np.ones(2, np.float32)})
    assert tt_learn.load(path)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("call", [lambda f: tt_learn.save(tt_core.Linear(1, 1), f), lambda f: tt_learn.load(f)])
def test_what_no_file_holds_is_named(call: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state_dict\(\)|there is no such file"):
        call(tmp_path / "model.pt")
    with pytest.raises((CheckpointError, DeviceError)):
        call(3)


def test_namespaces_of_pytorch() -> None:
    assert optim.Adam is tt_learn.Adam
    assert optim.lr_scheduler.StepLR is StepLR is tt_learn.StepLR
    assert tt_core.no_grad is tt_learn.no_grad
    assert tt_core.nn.utils.clip_grad_norm_ is tt_learn.clip_grad_norm_
    with pytest.raises(AttributeError, match=r"tt_learn.optim has no Adamant"):
        optim.Adamant  # noqa: B018
    with pytest.raises(AttributeError, match=r"lr_scheduler has no Adam"):
        optim.lr_scheduler.Adam  # noqa: B018


def test_a_model_is_frozen_and_thawed() -> None:
    model = tt_core.Linear(2, 1).requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(tt_core.ones(1, 2)).requires_grad
    assert model.requires_grad_().weight.requires_grad


def test_a_file_of_torch_save_is_named(tmp_path: Path) -> None:
    zipped, old = tmp_path / "model.pt", tmp_path / "old.pt"
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("model/data.pkl", pickle.dumps({}, protocol=2))
    old.write_bytes(pickle.dumps({}, protocol=2))
    for path in (zipped, old):
        with pytest.raises(CheckpointError, match=r"file of torch.save, .* write it in PyTorch with safetensors.torch"):
            tt_core.load(path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("text", "x")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        tt_core.load(other)
