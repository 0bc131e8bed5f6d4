"""What Python reads and writes in a captured step: wherever it is kept, a replay computes the same."""

from __future__ import annotations

import collections
import contextvars
import ctypes
import datetime
import enum
import functools
import logging
import multiprocessing
import operator
import os
import pathlib
import queue
import threading
import time
import types
import warnings
import weakref
from array import array
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_learn import SGD, Adam
from tt_perf import prune_
from tt_perf.acceleration.capture import Captured, CaptureWarning, capture

Read = Callable[[], float]
Write = Callable[[float], None]


@dataclass(eq=False)
class Options:
    scale: float = 1.0


class AsMapping(dict[str, float]):
    scale = 1.0


class AsSequence(list[float]):
    scale = 1.0


class AsNumber(float):
    scale = 1.0


class Hidden:
    __slots__ = ("__scale",)

    def __init__(self) -> None:
        self.__scale = 1.0

    def read(self) -> float:
        return self.__scale

    def write(self, value: float) -> None:
        self.__scale = value


class Phase(enum.Enum):
    WARM = Options()


current = Options()


class Made:
    def __init__(self) -> None:
        self.factor = current.scale


class Maker(type):
    def __call__(cls) -> float:  # type: ignore[override]
        return current.scale


class Called(metaclass=Maker): ...


def attribute(thing: Any) -> tuple[Read, Write]:
    thing.scale = 1.0
    return lambda: thing.scale, lambda value: setattr(thing, "scale", value)


def of_function() -> tuple[Read, Write]:
    def read() -> float:
        scale: float = read.scale  # type: ignore[attr-defined]
        return scale

    return attribute(read)[0] and read, attribute(read)[1]


def of_context() -> tuple[Read, Write]:
    variable = contextvars.ContextVar("scale", default=1.0)
    return lambda: variable.get(), lambda value: [variable.set(value), None][1]


def of_weak_reference() -> tuple[Read, Write]:
    thing = Options()
    reference, write = weakref.ref(thing), functools.partial(setattr, thing, "scale")
    return lambda: reference().scale, write  # type: ignore[union-attr]


def of_getter(getter: Any) -> tuple[Read, Write]:
    thing = Options()
    return lambda: float(getter(thing)), lambda value: setattr(thing, "scale", value)


def of_method_caller() -> tuple[Read, Write]:
    thing, read = Hidden(), operator.methodcaller("read")
    return lambda: read(thing), thing.write


def of_pattern() -> tuple[Read, Write]:
    thing = Options()

    def read() -> float:
        match thing:
            case Options(scale=found):
                return found
        raise AssertionError

    return read, lambda value: setattr(thing, "scale", value)


def of_buffer(data: Any) -> tuple[Read, Write]:
    view = memoryview(data).cast("B").cast("d")

    def write(value: float) -> None:
        view[0] = value

    write(1.0)
    return (
        (lambda: data.value, write)
        if hasattr(data, "value")
        else (lambda: memoryview(data).cast("B").cast("d")[0], write)
    )


def of_shared_number() -> tuple[Read, Write]:
    shared = multiprocessing.Value("d", 1.0)
    return lambda: shared.value, lambda value: setattr(shared, "value", value)


def of_event() -> tuple[Read, Write]:
    event = threading.Event()
    return lambda: 0.5 if event.is_set() else 1.0, lambda value: event.set()


def of_queue() -> tuple[Read, Write]:
    numbers: queue.Queue[float] = queue.Queue()
    return lambda: 0.5 if numbers.empty() else 1.0, lambda value: numbers.put(value)


def of_shape() -> tuple[Read, Write]:
    data = np.zeros((2, 2))

    def write(value: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # NumPy 2.5 would rather make a view
            data.shape = (4,)

    return lambda: float(data.ndim), write


def of_code() -> tuple[Read, Write]:
    def read() -> float:
        return 1.0

    def other() -> float:
        return 0.5

    return read, lambda value: setattr(read, "__code__", other.__code__)


def of_defaults() -> tuple[Read, Write]:
    def read(scale: float = 1.0) -> float:
        return scale

    return read, lambda value: setattr(read, "__defaults__", (value,))


def of_library() -> tuple[Read, Write]:
    library = types.ModuleType("tt_perf.made_for_a_test")
    library.scale = lambda: 1.0  # type: ignore[attr-defined]
    return lambda: library.scale(), lambda value: setattr(library, "scale", lambda: value)


def of_creation(made: Callable[[], float]) -> tuple[Read, Write]:
    current.scale = 1.0
    return made, lambda value: setattr(current, "scale", value)


def of_rate() -> tuple[Read, Write]:
    optimizer = SGD(tt.Linear(1, 1).parameters(), lr=1.0)
    return lambda: optimizer.param_groups[0]["lr"], lambda value: optimizer.param_groups[0].update(lr=value)


PLACES: dict[str, Callable[[], tuple[Read, Write]]] = {
    "an attribute of a function": of_function,
    "an attribute of a dict": lambda: attribute(AsMapping()),
    "an attribute of a list": lambda: attribute(AsSequence([1.0])),
    "an attribute of a number": lambda: attribute(AsNumber(1.0)),
    "an attribute of a parameter": lambda: attribute(tt.Linear(1, 1).weight),
    "a counter": lambda: (lambda c=collections.Counter(a=1.0): (lambda: c["a"], lambda v: c.update(a=v)))(),
    "a member of an enumeration": lambda: attribute(Phase.WARM),
    "the value of a member": lambda: (
        lambda: Phase.WARM.value.scale,
        lambda value: setattr(Phase.WARM.value, "scale", value),
    ),
    "a variable of a context": of_context,
    "a weak reference": of_weak_reference,
    "attrgetter": lambda: of_getter(operator.attrgetter("scale")),
    "methodcaller": of_method_caller,
    "astuple": lambda: of_getter(lambda thing: astuple(thing)[0]),
    "a pattern": of_pattern,
    "a slot with a private name": lambda: (lambda hidden: (lambda: hidden.read(), hidden.write))(Hidden()),
    "a number of ctypes": lambda: of_buffer(ctypes.c_double(1.0)),
    "a view of memory": lambda: of_buffer(memoryview(bytearray(8))),
    "an array of numbers": lambda: of_buffer(array("d", [1.0])),
    "a number shared with processes": of_shared_number,
    "an event": of_event,
    "a queue": of_queue,
    "the shape of an array": of_shape,
    "the code of a function": of_code,
    "the defaults of a function": of_defaults,
    "a function of a library": of_library,
    "what a class reads when it is called": lambda: of_creation(lambda: Made().factor),
    "what a metaclass reads": lambda: of_creation(lambda: Called()),  # type: ignore[arg-type, return-value]
    "a learning rate": of_rate,
}


@pytest.mark.filterwarnings("ignore::tt_perf.acceleration.capture.CaptureWarning")
@pytest.mark.parametrize("place", PLACES)
def test_a_number_is_read_wherever_it_is_kept(place: str) -> None:
    read, write = PLACES[place]()
    step, x = capture(lambda x: x * read()), tt.tensor([3.0])
    for _ in range(4):
        assert step(x).item() == pytest.approx(3.0 * read())
    before = read()
    write(0.5)
    assert read() != before
    for _ in range(4):
        assert step(x).item() == pytest.approx(3.0 * read())


def trained(step_of: Callable[[Any, Any], Callable[..., Any]], captured: bool) -> tuple[list[float], Any]:
    """The losses of twelve calls of a step, and the step."""
    tt.manual_seed(0)
    layer, rng = tt.Linear(4, 2), np.random.default_rng(0)
    step = step_of(layer, Adam(layer.parameters(), lr=0.1))
    step = capture(step) if captured else step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        return [step(tt.tensor(rng.standard_normal((3, 4), np.float32))).item() for _ in range(12)], step


def loss_of(layer: Any, optimizer: Any, x: Any) -> Any:
    optimizer.zero_grad()
    loss = (layer(x) ** 2).mean()
    loss.backward()
    return loss


def with_its_own_rate(layer: Any, optimizer: Any) -> Callable[..., Any]:
    def step(x: Any) -> Any:
        loss = loss_of(layer, optimizer, x)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        return loss

    return step


def with_a_rate_before(layer: Any, optimizer: Any) -> Callable[..., Any]:
    def slower(given: Any) -> None:
        given.param_groups[0].update(lr=given.param_groups[0]["lr"] * 0.9)

    def step(x: Any) -> Any:
        slower(optimizer)
        loss = loss_of(layer, optimizer, x)
        optimizer.step()
        return loss

    return step


def with_a_rate_until(layer: Any, optimizer: Any) -> Callable[..., Any]:
    def step(x: Any) -> Any:
        loss = loss_of(layer, optimizer, x)
        optimizer.step()
        if optimizer.param_groups[0]["lr"] > 0.05:
            optimizer.param_groups[0]["lr"] -= 0.01
        return loss

    return step


def with_a_counter(layer: Any, optimizer: Any) -> Callable[..., Any]:
    def step(x: Any) -> Any:
        step.calls += 1  # type: ignore[attr-defined]
        loss = loss_of(layer, optimizer, x) / (1 + step.calls // 4)  # type: ignore[attr-defined]
        optimizer.step()
        return loss.detach()

    step.calls = 0  # type: ignore[attr-defined]
    return step


@pytest.mark.parametrize("step_of", [with_its_own_rate, with_a_rate_before, with_a_rate_until, with_a_counter])
def test_a_step_that_changes_what_it_reads(step_of: Any) -> None:
    assert trained(step_of, True)[0] == trained(step_of, False)[0]


def test_a_rate_that_nobody_reads_is_no_reason_to_record_again() -> None:
    layer = tt.Linear(4, 2)
    optimizer = Adam(layer.parameters(), lr=0.1)

    def plain(x: Any) -> Any:
        loss = loss_of(layer, optimizer, x)
        optimizer.step()
        return loss

    step = capture(plain)
    for i in range(6):
        step(tt.full((3, 4), i))
        optimizer.param_groups[0]["lr"] *= 0.9
    assert (step.recorded, step.replayed) == (2, 4)


@pytest.mark.filterwarnings("ignore::tt_perf.acceleration.capture.CaptureWarning")
def test_what_a_step_leaves_at_a_tensor_is_left_each_time() -> None:
    layer = tt.Linear(4, 2)

    def plain(x: Any) -> Any:
        layer.weight.seen = x.sum()
        return x * 2

    step = capture(plain)
    for i in range(9):
        step(tt.full((3, 4), i))
        assert layer.weight.seen.item() == 12 * i
    assert step.replayed == 0


@pytest.mark.filterwarnings("ignore::tt_perf.acceleration.capture.CaptureWarning")
def test_changed_arguments_run_as_usual() -> None:
    @capture
    def into_a_dict(batch: dict[str, Any]) -> Any:
        batch["double"] = batch["x"] * 2
        return batch["double"].sum()

    @capture
    def into_a_list(x: Any, log: list[int]) -> Any:
        log.append(1)
        return x * 2

    @capture
    def at_a_tensor(x: Any) -> Any:
        x.double = x * 2
        return x.double.sum()

    for i in range(4):
        batch, log, x = {"x": tt.full((2,), i)}, [0], tt.full((2,), i)
        into_a_dict(batch), into_a_list(x, log), at_a_tensor(x)
        assert (batch["double"].tolist(), log, x.double.tolist()) == ([2 * i] * 2, [0, 1], [2 * i] * 2)
    reasons = {step.reason for step in (into_a_dict, into_a_list, at_a_tensor)}
    assert reasons == {"it changes an argument"}


@pytest.mark.filterwarnings("ignore::tt_perf.acceleration.capture.CaptureWarning")
def test_an_attribute_of_an_argument_is_read() -> None:
    step = capture(lambda x: x * x.scale)
    for scale in (1.0, 1.0, 1.0, 0.5):
        x = tt.ones(2)
        x.scale = scale
        assert step(x).tolist() == [scale] * 2
    assert step.reason == "an argument has attributes of its own"


@pytest.mark.parametrize(
    "look",
    [
        lambda: time.perf_counter(),
        lambda: np.random.default_rng().random(),
        lambda: os.path.exists("stop"),
        lambda: pathlib.Path("stop").exists(),
        lambda: datetime.datetime.now().hour,
        lambda: eval("1"),  # noqa: S307
        lambda: os.environ.get("SCALE"),
    ],
)
def test_what_no_variable_decides_runs_as_usual(look: Any) -> None:
    step = capture(lambda x: x * (2.0 if look() is None else 3.0))
    with pytest.warns(CaptureWarning, match="cannot be watched"):
        step(tt.ones(1))


class WithTime(tt.Layer):
    """Its attributes have the names of functions that read the world outside."""

    def __init__(self) -> None:
        super().__init__()
        self.time = tt.Linear(2, 2)
        self.open = 3.0

    def forward(self, x: Any) -> Any:
        return self.time(x) * self.open


def test_names_of_attributes_are_not_those_of_functions() -> None:
    model, log = WithTime().eval(), logging.getLogger("captured")

    def plain(x: Any) -> Any:
        model.eval()
        log.debug("a step")
        return model(x).detach()

    step = capture(plain)
    for i in range(4):
        step(tt.full((1, 2), i))
    assert (step.recorded, step.replayed) == (2, 2)


def test_a_pruned_model_is_captured_under_its_masks() -> None:
    def weights_after(wrap: Callable[[Any], Any]) -> Any:
        tt.manual_seed(0)
        model = tt.Sequential(tt.Linear(4, 8), tt.ReLU(), tt.Linear(8, 2))
        prune_(model, 0.5)
        optimizer = Adam(model.parameters(), lr=0.1)

        def plain(x: Any) -> Any:
            loss = loss_of(model, optimizer, x)
            optimizer.step()
            return loss

        step = wrap(plain)
        for i in range(6):
            step(tt.full((3, 4), i))
        assert not isinstance(step, Captured) or step.replayed == 4
        assert (model[0].weight.numpy() == 0).sum() + (model[2].weight.numpy() == 0).sum() >= 24
        return np.concatenate([p.numpy().reshape(-1) for p in model.parameters()])

    np.testing.assert_array_equal(weights_after(capture), weights_after(lambda step: step))
