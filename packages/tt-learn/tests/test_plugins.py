"""What Act II adds to plugins: the phase of a call, and gradient rules that a notebook defines twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import tt_core
import tt_learn
from tt_core import hookimpl
from tt_core.engine.dispatch import Op, registry
from tt_core.engine.redefinition import _noticed
from tt_learn import GradientError, Tensor, checkpoint, formula, gradient
from tt_learn.autograd import forget_rule


class Phases:
    """Notes the phase of each call, as a wrap and as an observer."""

    def __init__(self) -> None:
        self.wrapped: list[tuple[str, str]] = []
        self.observed: list[tuple[str, str]] = []

    @hookimpl
    def tt_wrap_op(self, op: Op, call: Any) -> Any:
        def noted(*inputs: Any, **attributes: Any) -> Any:
            self.wrapped.append((op.name, tt_core.phase()))
            return call(*inputs, **attributes)

        return noted

    @hookimpl
    def tt_observe_op(self, op: Op) -> Any:
        return lambda op, *call: self.observed.append((op.name, tt_core.phase()))


def test_wraps_and_observers_see_the_phase() -> None:
    x = Tensor([0.5], requires_grad=True)
    with tt_core.use(Phases()) as phases:
        y = checkpoint(lambda x: x.exp(), x * 2).sum()
        y.backward()
        x.sin()
    assert phases.wrapped == phases.observed
    assert phases.wrapped[:3] == [("mul", "forward"), ("exp", "forward"), ("sum", "forward")]
    assert phases.wrapped[-1] == ("sin", "forward")
    assert phases.wrapped.count(("exp", "recomputation")) == 1
    between = phases.wrapped[3:-1]
    assert {phase for name, phase in between if name != "exp"} == {"backward"}


def test_the_phase_is_forward_again_after_an_error_in_backward() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradientError):
        (x * 2).backward()
    assert tt_core.phase() == "forward"


def test_a_plugin_wraps_a_backward_pass_and_each_visit() -> None:
    class Walks:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @hookimpl
        def tt_wrap_backward(self, call: Any) -> Any:
            def walk(backward: Any, roots: Any) -> None:
                visit = backward.visit
                backward.visit = lambda node, gradients: (self.seen.append(node.name), visit(node, gradients))
                call(backward, roots)
                self.seen.append("done")

            return walk

    x = Tensor([0.5], requires_grad=True)
    with tt_core.use(Walks()) as walks:
        (x * 2).sin().sum().backward()
        tt_learn.grad(x.exp().sum(), x)
    (x * 2).sum().backward()
    assert walks.seen == ["sum", "sin", "mul", "done", "sum", "exp", "done"]


def test_a_plugin_wraps_a_step_of_a_trainer() -> None:
    class Counts:
        losses: ClassVar[list[float]] = []

        @hookimpl
        def tt_wrap_train_step(self, call: Any) -> Any:
            def step(trainer: Any, batches: Any) -> float:
                self.losses.append(call(trainer, batches))
                return self.losses[-1]

            return step

    model = tt_core.Linear(1, 1)
    trainer = tt_learn.Trainer(model, tt_learn.SGD(model.parameters()), lambda out, y: ((out - y) ** 2).mean())
    data = [(tt_core.ones(2, 1), tt_core.ones(2, 1))]
    with tt_core.use(Counts()) as counts:
        trainer.fit(data, steps=2)
        assert counts.losses[-1] == trainer.loss
    trainer.fit(data, steps=3)
    assert len(counts.losses) == 2


@pytest.fixture
def tripled() -> Iterator[Op]:
    @tt_core.op
    def tripled(x: Any, /) -> Any:
        return x * 3

    yield tripled
    forget_rule(tripled)
    del registry["tripled"]


def slope(value: float) -> Any:
    """A rule that `__main__` has defined, as a cell would."""

    def rule(out: Any, x: Any) -> Any:
        return (lambda g: g * value,)

    rule.__module__, rule.__qualname__ = "__main__", "rule"
    return rule


def test_a_rule_that_main_defines_again_replaces_the_old_one_with_one_warning(tripled: Op) -> None:
    _noticed.discard("the gradient rule of tripled")
    gradient(tripled, slope(2.0))
    with pytest.warns(UserWarning, match="the gradient rule of tripled is defined again in __main__"):
        gradient(tripled, slope(3.0))
    gradient(tripled, slope(4.0))
    x = Tensor([1.0], requires_grad=True)
    tripled(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [4]
    with pytest.raises(GradientError, match="tripled has a gradient rule already"):
        gradient(tripled, lambda out, x: (lambda g: g,))


def test_a_formula_is_replaced_in_the_same_way(tripled: Op) -> None:
    _noticed.add("the gradient rule of tripled")

    def composition(x: Any) -> Any:
        return x + x + x

    composition.__module__, composition.__qualname__ = "__main__", "composition"
    formula(tripled, composition)
    formula(tripled, composition)
    composition.__module__ = __name__
    with pytest.raises(GradientError, match="tripled has a gradient rule already"):
        formula(tripled, composition)


def test_an_op_of_tt_learn_declares_that_it_returns_views() -> None:
    assert registry["sum_to"].view
