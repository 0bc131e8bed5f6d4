"""A captured step under `jit` has the bits of the step under `jit`, whatever its kernels are fused to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_data
from tt_learn import Adam
from tt_perf.acceleration import JitPlugin, capture, compiled, plain, uncovered
from tt_perf.kernels import products

Step = Callable[..., Any]
Make = Callable[[], tuple[Any, Step]]


@pytest.fixture(params=["plain", "compiled"])
def jit(request: pytest.FixtureRequest) -> Iterator[JitPlugin]:
    if request.param == "compiled":
        pytest.importorskip("numba")
    plugin = JitPlugin(plain if request.param == "plain" else compiled)
    with tt.use(plugin, report=False):
        yield plugin
    uncovered.calls.clear()


def trained(*layers: Callable[[], Any]) -> Make:
    """Makes a network with its training step; `layers` make its parts."""

    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        model = tt.Sequential(*[layer() for layer in layers])
        optimizer = Adam(model.parameters(), lr=0.01)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    return make


def batches(*shape: int, nan: bool = False, count: int = 5) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        x = rng.standard_normal(shape, np.float32)
        if nan and i >= 3:
            x.reshape(-1)[::7] = np.nan
        found.append((tt.tensor(x), tt.tensor(rng.integers(3, size=shape[0]))))
    return found


def both(make: Make, data: list[tuple[Any, Any]]) -> list[Any]:
    """Runs a step with and without `capture`, holds the two equal, and returns the calls of the captured one."""
    (model, step), (twin, other) = make(), make()
    captured = capture(other)
    for batch in data:
        np.testing.assert_array_equal(step(*batch).data, captured(*batch).data)
        for p, q in zip(model.parameters(), twin.parameters()):
            np.testing.assert_array_equal(p.grad.data, q.grad.data)
            np.testing.assert_array_equal(p.data, q.data)
    assert (captured.recorded, captured.replayed) == (2, len(data) - 2)
    return list(next(iter(captured._plans.values()))[0].tape.instructions)


def names(instructions: list[Any]) -> list[str]:
    return [each.op.name for each in instructions if hasattr(each, "op")]


ACTIVATED = (
    lambda: tt.Linear(40, 70),
    lambda: tt.GELU("tanh"),
    lambda: tt.Linear(70, 40),
    lambda: tt.GELU("tanh"),
    lambda: tt.Linear(40, 3),
)


@pytest.mark.parametrize("faster", [False, True], ids=["blas", "tiles"])
def test_a_product_with_gelu(jit: JitPlugin, faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms: by tiles, and by BLAS with the bias added in the loop of GELU."""
    monkeypatch.setattr(products, "FASTER", faster)
    monkeypatch.setattr(products, "SMALL", 1)
    found = both(trained(*ACTIVATED), batches(33, 40))
    assert names(found)[:3] == ["linear", "linear", "linear"]
    assert "gelu" not in names(found)
    assert "gelu" not in names(both(trained(*ACTIVATED), batches(33, 40, nan=True)))


def test_a_product_that_is_shared_out(jit: JitPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", True)
    monkeypatch.setattr(products, "SMALL", 1)
    monkeypatch.setattr(products, "LARGE", 1)
    assert "gelu" not in names(both(trained(*ACTIVATED), batches(33, 40)))


@pytest.mark.parametrize("nan", [False, True])
def test_products_with_relu_and_its_gradient(jit: JitPlugin, nan: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", True)
    monkeypatch.setattr(products, "SMALL", 1)
    layers = lambda: tt.Linear(40, 70), tt.ReLU, lambda: tt.Linear(70, 40), tt.ReLU, lambda: tt.Linear(40, 3)
    found = names(both(trained(*layers), batches(33, 40, nan=nan)))
    assert "relu" not in found
    assert "relu_backward" not in found


def test_relu_of_products_by_blas(jit: JitPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", False)
    both(trained(lambda: tt.Linear(40, 70), tt.ReLU, lambda: tt.Linear(70, 3)), batches(33, 40))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_what_is_left_to_the_two_kernels(jit: JitPlugin, approximate: str) -> None:
    """Another form of GELU, a product without bias, and float64."""
    layers = lambda: tt.Linear(5, 7, bias=False), lambda: tt.GELU(approximate), lambda: tt.Linear(7, 3)
    assert "gelu" not in names(both(trained(*layers), batches(4, 5)))
    wide = [lambda make=make: make().to("float64") for make in layers]
    data = [(x.to("float64"), y) for x, y in batches(4, 5)]
    assert "gelu" not in names(both(trained(*wide), data))


STAGES = (
    lambda: tt_data.Conv2d(2, 3, 3, padding=1),
    tt.ReLU,
    lambda: tt_data.MaxPool2d(2),
    lambda: tt_data.Conv2d(3, 4, 3),
    tt.ReLU,
    lambda: tt_data.MaxPool2d(2),
    tt_data.Flatten,
    lambda: tt.Linear(16, 3),
)


@pytest.mark.parametrize("nan", [False, True])
def test_a_stage_of_a_convolutional_network(jit: JitPlugin, nan: bool) -> None:
    found = both(trained(*STAGES), batches(4, 2, 12, 12, nan=nan))
    assert names(found)[:3] == ["conv2d", "conv2d", "reshape"]


@pytest.mark.parametrize(
    ("conv", "pool", "features"),
    [({"stride": 2}, {}, 27), ({}, {"kernel_size": 3}, 27), ({"groups": 2}, {}, 100), ({"bias": False}, {}, 75)],
    ids=str,
)
def test_other_stages(jit: JitPlugin, conv: dict[str, Any], pool: dict[str, Any], features: int) -> None:
    """They are computed by the three kernels where the loop does not cover them."""
    layers = (
        lambda: tt_data.Conv2d(2, 4 if "groups" in conv else 3, 3, **conv),
        tt.ReLU,
        lambda: tt_data.MaxPool2d(**{"kernel_size": 2, **pool}),
        tt_data.Flatten,
        lambda: tt.Linear(features, 3),
    )
    size = 14 if conv.get("stride") else 12
    both(trained(*layers), batches(4, 2, size, size))


def test_a_stage_whose_parts_are_read_by_others(jit: JitPlugin) -> None:
    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        conv, last = tt_data.Conv2d(2, 3, 3), tt.Linear(75, 3)
        model = tt.Sequential(conv, last)
        optimizer = Adam(model.parameters(), lr=0.01)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            convolved = conv(x)
            pooled = tt_data.MaxPool2d(2)(tt.relu(convolved)).flatten(1)
            loss = tt.cross_entropy(last(pooled), y) + convolved.mean()
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    found = both(make, batches(4, 2, 12, 12))
    assert names(found)[:3] == ["conv2d", "max_pool2d", "relu"]
