"""What the engine promises: the chain rule at any depth, errors instead of silence, and memory that is let go."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core.engine.dispatch import op, registry
from tt_core.tensor import elementwise as E
from tt_learn import (
    Function,
    GradcheckError,
    GradientError,
    checkpoint,
    enable_grad,
    grad,
    gradcheck,
    gradgradcheck,
    is_grad_enabled,
    no_grad,
)
from tt_learn.autograd import Tensor, forget_rule, gradient, non_differentiable, rule_of

LABELS = tt_core.tensor([0, 1, 2])


def leaf(*values: float, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


def random_leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


# --- the walk


def test_gradients_of_both_ways_are_added() -> None:
    x = leaf(1.0)
    y = 3 * x
    a, b = 2 * y, 5 * y
    (a + b).backward()
    assert x.grad.tolist() == [21.0]


def test_a_chain_of_100_000_ops_runs_backward_and_is_freed() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad.tolist() == [100_001.0]
    del y


def test_a_diamond_of_depth_60_is_visited_once_a_node() -> None:
    x = y = leaf(1.0)
    for _ in range(60):
        y = y * 0.5 + y * 0.5  # 2^60 paths
    y.backward()
    assert x.grad.tolist() == pytest.approx([1.0])


def test_gradients_accumulate_over_backwards_and_zero_grad_forgets_them() -> None:
    x = leaf(2.0)
    (x * x).backward()
    (x * 3).backward()
    assert x.grad.tolist() == [7.0]
    x.zero_grad()
    assert x.grad is None


def test_a_second_backward_needs_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()
    z = x * x
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.tolist() == [12.0]


def test_a_part_shared_by_two_losses_is_released_with_the_first() -> None:
    x = leaf(2.0)
    shared = x * x
    a, b = shared * 2, shared * 3
    a.backward()
    with pytest.raises(GradientError, match="behind mul was released"):
        b.backward()


def test_backward_of_many_elements_needs_a_gradient_of_that_shape() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GradientError, match=r"shape \(2,\) needs a gradient"):
        (x * 2).backward()
    with pytest.raises(GradientError, match=r"gradient has shape \(3,\)"):
        (x * 2).backward(Tensor([1.0, 1.0, 1.0]))
    (x * 2).backward(Tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]


def test_backward_without_history_is_an_error() -> None:
    with pytest.raises(GradientError, match="no history"):
        Tensor([1.0]).backward()


def test_a_leaf_is_its_own_gradients_end() -> None:
    x = leaf(3.0)
    x.backward()
    assert x.grad.tolist() == [1.0]


def test_an_op_without_a_rule_is_named_when_a_gradient_would_need_it() -> None:
    @op
    def unruled(x: Any, /) -> Any:
        return x * 2

    try:
        assert unruled(Tensor([1.0])).tolist() == [2.0]
        with pytest.raises(GradientError, match="unruled has no gradient rule"):
            unruled(leaf(1.0))
        with no_grad():
            assert unruled(leaf(1.0)).tolist() == [2.0]
    finally:
        del registry["unruled"]


def test_a_rule_of_the_wrong_shape_is_named() -> None:
    rule = rule_of(E.exp)
    forget_rule(E.exp)
    gradient(E.exp, lambda out, x: (lambda g: g.expand(3, 2)[:, :1],))
    try:
        with pytest.raises(GradientError, match="rule of exp is wrong"):
            leaf(1.0, 2.0).exp().sum().backward()
    finally:
        forget_rule(E.exp)
        gradient(E.exp, rule)


@pytest.mark.parametrize("functions", [(lambda g: g,), lambda g: (g,)])
def test_a_rule_that_forgets_an_input_is_named(functions: Any) -> None:
    rule = rule_of(E.mul)
    forget_rule(E.mul)
    gradient(E.mul, lambda out, a, b: functions)
    try:
        with pytest.raises(GradientError, match=r"rule of mul is wrong \(it gives 1 gradients for 2 inputs"):
            (leaf(1.0) * leaf(2.0)).backward()
    finally:
        forget_rule(E.mul)
        gradient(E.mul, rule)


def test_a_tensor_in_a_list_or_an_attribute_does_not_lose_its_gradient_in_silence() -> None:
    x, t = leaf(1.0, 2.0), Tensor(np.array(3.0), requires_grad=True)
    for lossy in (lambda: E.add(x, [t, t]), lambda: E.add(x.detach(), [t, t]), lambda: E.where(x > 1, x, (t, t))):
        with pytest.raises(GradientError, match="a list contains a tensor that requires a gradient"):
            lossy()
    for lossy in (lambda: tt_core.pad(x, (1, 1), value=t), lambda: tt_core.layer_norm(x, eps=t)):
        with pytest.raises(GradientError, match=r"(pad: value|layer_norm: eps) contains a tensor"):
            lossy()
    filled = tt_core.zeros(2, dtype="float64")
    with pytest.raises(GradientError, match="assignment: a list contains"):
        filled[:] = [t, t]
    assert filled.tolist() == [0.0, 0.0]
    with no_grad():
        assert E.add(x, [t, t]).tolist() == [4.0, 5.0]


def test_numpy_takes_no_tensor_out_of_its_history_in_silence() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    for lossy in (lambda: np.asarray(y), lambda: np.concatenate([y, y]), lambda: E.add(x, [y, y])):
        with pytest.raises(GradientError, match="a result of mul, and NumPy would lose its history; detach"):
            lossy()
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.asarray(y.detach()).tolist() == [2.0, 4.0]
    with no_grad():
        assert np.asarray(y).tolist() == [2.0, 4.0]


def test_a_list_of_indices_may_change_after_its_use() -> None:
    x, chosen = leaf(1.0, 2.0, 3.0), [0, 1]
    y = x[chosen].sum()
    chosen[0] = 2
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


def test_float16_gradients_of_what_was_broadcast_do_not_stop_at_2048() -> None:
    scale = leaf(1.0, 1.0, dtype=np.float16)
    (tt_core.ones(4096, 1, dtype="float16") * scale.reshape(1, 2)).sum().backward()
    assert scale.grad.tolist() == [4096.0, 4096.0]


def test_erf_and_its_gradient_stay_in_float16() -> None:
    x = leaf(0.5, dtype=np.float16)
    y = E.erf(x)
    y.backward()
    assert (y.dtype, x.grad.dtype) == (np.float16, np.float16)
    assert y.item() == pytest.approx(0.5205, abs=1e-3)


def test_one_rule_an_op() -> None:
    with pytest.raises(GradientError, match="has a gradient rule already"):
        gradient(E.exp, lambda out, x: (lambda g: g,))
    with pytest.raises(GradientError, match="exp has a gradient rule already"):
        non_differentiable(E.eq, E.exp)
    x = leaf(0.0)
    E.exp(x).backward()
    assert x.grad.item() == 1.0
    non_differentiable(E.eq)  # which it is already


# --- changes in place


def test_a_saved_tensor_changed_afterwards_is_noticed() -> None:
    x, w = leaf(1.0), Tensor(np.array([2.0]))
    y = x * w
    w += 1
    with pytest.raises(GradientError, match="mul kept for its gradient was changed"):
        y.backward()


def test_a_saved_output_changed_afterwards_is_noticed() -> None:
    x = leaf(1.0)
    y = x.exp()
    y.detach().zero_()
    with pytest.raises(GradientError, match="exp kept"):
        y.backward()


def test_a_view_of_a_saved_tensor_changed_afterwards_is_noticed() -> None:
    x, w = leaf(1.0, 1.0), Tensor(np.array([2.0, 3.0]))
    y = (x * w).sum()
    w[1:].zero_()
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_an_index_changed_afterwards_is_noticed() -> None:
    x, index = leaf(1.0, 2.0), tt_core.tensor([0, 0])
    y = x[index].sum()
    index += 1
    with pytest.raises(GradientError, match="getitem kept"):
        y.backward()


def test_a_change_of_what_nobody_saved_is_no_error() -> None:
    x, w = leaf(1.0), Tensor(np.array([2.0]))
    y = x + w
    w += 1
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_an_optimizer_step_between_forward_and_backward_is_noticed() -> None:
    x, w = leaf(1.0), leaf(2.0)
    y = x * w
    with no_grad():
        w -= 0.1
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize(
    "change",
    [lambda x: x.__setitem__(0, 1.0), lambda x: x.__iadd__(1), lambda x: x.zero_(), lambda x: x.copy_(Tensor([0.0]))],
)
def test_a_tensor_with_history_cannot_be_changed_in_place(change: Callable[[Tensor], Any]) -> None:
    with pytest.raises(GradientError, match="leaf that requires a gradient"):
        change(leaf(1.0))
    with pytest.raises(GradientError, match="has history"):
        change(leaf(1.0) * 2)
    x = leaf(1.0)
    with no_grad():
        change(x)
    assert x.requires_grad


def test_a_value_with_history_cannot_be_assigned() -> None:
    x = Tensor(np.zeros(2))
    with pytest.raises(GradientError, match="the value has history"):
        x[0] = leaf(1.0) * 2
    with pytest.raises(GradientError, match="the value is a leaf"):
        x += leaf(1.0)
    assert x.tolist() == [0.0, 0.0]


# --- memory of gradients


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, b: (a + b).sum(),
        lambda a, b: (a + b).reshape(-1).sum(),
        lambda a, b: tt_core.cat([a, b]).sum(),
        lambda a, b: (a - b + a).sum(),
        lambda a, b: tt_core.stack([a, b]).exp().sum(),
        lambda a, b: a.sum() + b.T.sum(),
    ],
)
def test_each_grad_has_memory_of_its_own(compute: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = random_leaf(3, 3), random_leaf(3, 3, seed=1)
    weight = Tensor(np.ones(()))
    compute(a, b).backward(weight)
    before = b.grad.tolist()
    assert not np.shares_memory(a.grad.data, b.grad.data)
    a.grad.mul_(0.0)
    assert b.grad.tolist() == before
    assert weight.item() == 1.0


def test_a_given_gradient_is_not_taken_over() -> None:
    x, g = leaf(1.0, 2.0), Tensor(np.array([3.0, 4.0]))
    (x + 0).backward(g)
    x.grad.zero_()
    assert g.tolist() == [3.0, 4.0]


def test_what_a_hook_or_retain_grad_has_seen_is_not_taken_over() -> None:
    x, seen = leaf(1.0), []
    y = x + 0
    y.register_hook(seen.append)
    y.retain_grad()
    y.backward()
    x.grad.zero_()
    assert y.grad.tolist() == [1.0]
    assert seen[0].tolist() == [1.0]


def test_what_a_function_returns_is_not_taken_over() -> None:
    class Stored(Function):
        ones = Tensor(np.ones(1))

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return Stored.ones

    x = leaf(1.0)
    Stored.apply(x).backward()
    x.grad.zero_()
    assert Stored.ones.tolist() == [1.0]


def test_accumulation_adds_in_place_and_with_history_does_not() -> None:
    x = leaf(2.0)
    (x * x).backward()
    first = x.grad
    (x * x).backward()
    assert x.grad is first
    assert first.tolist() == [8.0]
    (x**3).backward(create_graph=True)
    assert first.tolist() == [8.0]
    assert x.grad.tolist() == [20.0]


# --- hooks


def test_hooks_see_and_replace_gradients_until_removed() -> None:
    x = leaf(1.0)
    seen: list[float] = []
    first = x.register_hook(lambda g: seen.append(g.item()))
    second = x.register_hook(lambda g: g * 10)
    (x * 2).backward()
    assert seen == [2.0]
    assert x.grad.tolist() == [20.0]
    first.remove()
    second.remove()
    second.remove()
    x.zero_grad()
    (x * 2).backward()
    assert seen == [2.0]
    assert x.grad.tolist() == [2.0]


@pytest.mark.parametrize("hooked", [0, 1])
def test_a_hook_that_changes_its_gradient_in_place_changes_no_other(hooked: int) -> None:
    leaves = [leaf(1.0), leaf(1.0)]
    ways = [x * 1 for x in leaves]
    ways[hooked].register_hook(lambda g: g.mul_(10))
    ((ways[0] + ways[1]) * leaf(2.0)).sum().backward()
    assert [x.grad.item() for x in leaves] == [20.0 if i == hooked else 2.0 for i in range(2)]


def test_a_hook_sees_the_sum_of_all_ways_once() -> None:
    x = leaf(1.0)
    y = x * 2
    seen: list[float] = []
    y.register_hook(lambda g: seen.append(g.item()))
    (y * 3 + y * 4).backward()
    assert seen == [7.0]


def test_hooks_of_the_same_output_removed_by_themselves() -> None:
    x = leaf(1.0)
    handles: list[Any] = []
    seen: list[int] = []
    for i in range(3):
        handles.append(x.register_hook(lambda g, i=i: (seen.append(i), handles[i].remove())[0]))
    (x * 1).backward()
    (x * 1).backward()
    assert seen == [0, 1, 2]


def test_a_hook_that_returns_nonsense_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: 3.0)
    with pytest.raises(GradientError, match="returned float"):
        x.sum().backward()
    y = leaf(1.0, 2.0)
    y.register_hook(lambda g: g.sum())
    with pytest.raises(GradientError, match=r"returned shape \(\)"):
        y.sum().backward()


def test_a_hook_that_computes_in_another_dtype_leaves_the_gradients_its_own() -> None:
    x = leaf(1.0, 2.0, dtype=np.float32)
    x.register_hook(lambda g: g.double() * 2)
    x.sum().backward()
    assert (x.grad.dtype, x.grad.tolist()) == (np.float32, [2.0, 2.0])


def test_a_hook_needs_a_gradient_to_wait_for() -> None:
    with pytest.raises(GradientError, match="register_hook"):
        Tensor([1.0]).register_hook(print)
    with pytest.raises(GradientError, match="retain_grad"):
        Tensor([1.0]).retain_grad()


def test_retain_grad_keeps_once_and_only_where_asked() -> None:
    x = leaf(1.0)
    y = x * 2
    z = y * 3
    y.retain_grad()
    y.retain_grad()
    z.backward()
    assert y.grad.tolist() == [3.0]
    assert z.grad is None
    x.retain_grad()  # of a leaf: kept anyway
    assert x.grad.tolist() == [6.0]


# --- grad()


def test_retain_grad_keeps_what_the_hooks_left_in_memory_of_its_own() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y, given = x * 2, Tensor([1.0, 10.0])
    y.retain_grad()
    z = y + 1
    z.retain_grad()
    y.register_hook(lambda g: g * 3)
    z.backward(given)
    assert y.grad is not None
    assert z.grad is not None
    assert y.grad.tolist() == [3, 30]
    assert z.grad.tolist() == [1, 10]
    z.grad *= 0
    assert given.tolist() == [1, 10]


def test_removing_a_hook_twice_leaves_the_same_function_given_again() -> None:
    seen: list[Any] = []
    x = Tensor([1.0], requires_grad=True)
    first, _ = x.register_hook(seen.append), x.register_hook(seen.append)
    first.remove()
    first.remove()
    (x * 2).backward()
    assert len(seen) == 1


def test_grad_touches_no_leaf() -> None:
    x, w = leaf(2.0), leaf(3.0)
    (gx,) = grad(x * w, x)
    assert gx.tolist() == [3.0]
    assert x.grad is None
    assert w.grad is None


def test_grad_for_what_took_no_part() -> None:
    x, other = leaf(2.0), leaf(1.0)
    with pytest.raises(GradientError, match="do not depend on input 1"):
        grad(x * x, [x, other])
    assert grad(x * x, [x, other], allow_unused=True)[1] is None
    with pytest.raises(GradientError, match="input 0 does not require"):
        grad(x * x, Tensor([1.0]))


def test_grad_for_something_between_and_for_the_same_twice() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y
    gy, gx, again = grad(z, [y, x, x])
    assert (gy.tolist(), gx.tolist(), again.tolist()) == ([8.0], [32.0], [32.0])


def test_grad_visits_only_what_lies_between() -> None:
    x = leaf(2.0)
    visited: list[str] = []
    y = x * x
    y.register_hook(lambda g: visited.append("y"))
    side = (x * 5).exp()
    side.register_hook(lambda g: visited.append("side"))
    z = y * 3 + side
    grad(z, y, retain_graph=True)
    assert visited == ["y"]
    grad(side, x)  # was not released: the walk above never came here
    with pytest.raises(GradientError, match="2 outputs but 1"):
        grad([z, z], x, [None])


def test_grad_of_several_outputs_weighted() -> None:
    x = leaf(2.0)
    (g,) = grad([x * 2, x * x], x, [Tensor(np.array([1.0])), Tensor(np.array([10.0]))])
    assert g.tolist() == [42.0]


@pytest.mark.parametrize(
    ("f", "third"),
    [
        (lambda x: x**4, lambda x: 24 * x),
        (lambda x: x.sin(), lambda x: -np.cos(x)),
        (tt_core.tanh, lambda x: -2 * (1 - np.tanh(x) ** 2) * (1 - 3 * np.tanh(x) ** 2)),
        (tt_core.gelu, None),
        (tt_core.silu, None),
        (lambda x: tt_core.softmax(x), None),
        (lambda x: tt_core.layer_norm(x), None),
    ],
)
def test_third_derivatives(f: Callable[[Any], Any], third: Callable[[Any], Any] | None) -> None:
    x = leaf(0.3, -0.7, 1.2)
    weights = [Tensor(np.array(w)) for w in ([0.3, 1.0, -2.0], [1.0, 0.5, 0.7])]

    def second(x: Tensor) -> Tensor:
        (g,) = grad(f(x), x, weights[0], create_graph=True)
        return grad(g, x, weights[1], create_graph=True)[0]

    gradcheck(second, x, eps=1e-5, atol=1e-7, rtol=1e-5)
    if third is not None:
        ones = Tensor(np.ones(3))
        (g,) = grad(f(x), x, ones, create_graph=True)
        (g,) = grad(g, x, ones, create_graph=True)
        (g,) = grad(g, x, ones)
        np.testing.assert_allclose(g.data, third(x.data), rtol=1e-12)


def test_backward_with_create_graph_leaves_grads_with_history() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (g,) = grad(x.grad, x)
    assert g.tolist() == [12.0]


# --- recording on and off


def test_no_grad_as_block_decorator_and_recursion() -> None:
    x = leaf(1.0)

    @no_grad()
    def countdown(n: int) -> bool:
        return countdown(n - 1) if n else (x * 2).requires_grad or is_grad_enabled()

    assert not countdown(3)
    assert is_grad_enabled()
    with no_grad():
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_no_grad_decorates_without_parentheses_too() -> None:
    @no_grad
    def off(x: Any) -> Any:
        """Keeps its name."""
        return x * 2

    assert off.__name__ == "off"
    assert not off(leaf(1.0)).requires_grad
    with no_grad():
        assert enable_grad(lambda x: x * 2)(leaf(1.0)).requires_grad
    with pytest.raises(TypeError, match="no_grad: decorates a function, got bool"):
        no_grad(True)


def test_assigning_requires_grad_is_checked_as_the_method_is() -> None:
    x = tt_core.tensor([2.0])
    x.requires_grad = True
    y = x * x
    with pytest.raises(GradientError, match="a result of mul has history; use detach"):
        y.requires_grad = False
    y.backward()
    assert x.grad.tolist() == [4.0]
    with pytest.raises(GradientError, match="only floats have gradients, this tensor is int64"):
        tt_core.tensor([1, 2]).requires_grad = True


def test_a_leaf_frozen_after_its_use_gets_no_gradient() -> None:
    x, w = leaf(2.0), leaf(3.0)
    y = x * w
    w.requires_grad_(False)
    y.backward()
    assert x.grad.tolist() == [3.0]
    assert w.grad is None


def test_no_grad_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_a_decorated_generator_runs_without_grad_and_its_reader_with() -> None:
    x = leaf(1.0)

    @no_grad()
    def doubled() -> Iterator[Any]:
        yield x * 2
        yield x * 2

    for y in doubled():
        assert not y.requires_grad
        assert is_grad_enabled()


def test_a_decorated_generator_is_sent_values_and_returns_one() -> None:
    @no_grad()
    def running_sum() -> Any:
        total = 0
        while (sent := (yield total)) is not None:
            total += sent
        return total

    steps = running_sum()
    assert [next(steps), steps.send(2), steps.send(3)] == [0, 2, 5]
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == 5


def test_a_decorated_function_called_by_threads_keeps_their_modes_apart() -> None:
    barrier = threading.Barrier(2)
    modes: dict[bool, bool] = {}

    @no_grad()
    def meet() -> None:
        barrier.wait()
        barrier.wait()

    def run(outside: bool) -> None:
        with enable_grad() if outside else no_grad():
            meet()
            modes[outside] = is_grad_enabled()

    threads = [threading.Thread(target=run, args=(outside,)) for outside in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert modes == {True: True, False: False}


def test_no_grad_in_one_thread_is_not_seen_by_another() -> None:
    found: list[bool] = []
    with no_grad():
        thread = threading.Thread(target=lambda: found.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_threads_that_reach_one_leaf_lose_nothing() -> None:
    x = random_leaf(50)

    def run() -> None:
        for _ in range(100):
            (x * 1.0).sum().backward()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert x.grad.tolist() == [400.0] * 50


# --- tensors


def test_detach_shares_memory_and_no_history() -> None:
    x = leaf(1.0)
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.grad_fn is None
    assert np.shares_memory(x.detach().data, x.data)


def test_only_floats_have_gradients() -> None:
    with pytest.raises(GradientError, match="int64"):
        Tensor([1, 2], requires_grad=True)
    with pytest.raises(GradientError, match="use detach"):
        (leaf(1.0) * 2).requires_grad_(False)
    assert not (leaf(1.0) > 0).requires_grad
    assert not leaf(1.0).long().requires_grad


def test_a_gradient_has_the_dtype_of_its_tensor() -> None:
    x, w = leaf(2.0, dtype=np.float32), leaf(3.0, dtype=np.float64)
    y = x * w
    assert y.dtype == np.float64
    y.backward()
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)
    h = leaf(2.0, dtype=np.float16)
    (h.float() * 2).backward(Tensor(np.array([1.0])))
    assert h.grad.dtype == np.float16


def test_deepcopy_of_leaves_and_models() -> None:
    x = leaf(1.0)
    (x * 2).backward()
    other = copy.deepcopy(x)
    assert other.requires_grad
    assert other.grad.tolist() == [2.0]
    other.grad.zero_()
    assert x.grad.tolist() == [2.0]
    with pytest.raises(GradientError, match="detach"):
        copy.deepcopy(x * 2)
    model = tt_core.Sequential(tt_core.Linear(2, 3), tt_core.Linear(3, 1))
    twin = copy.deepcopy(model)
    twin(tt_core.ones(1, 2)).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_layers_learn_and_shared_parameters_add_up() -> None:
    layer = tt_core.Linear(3, 3)
    x = tt_core.ones(2, 3)
    layer(layer(x)).sum().backward()
    assert layer.weight.grad.shape == (3, 3)
    both = layer.weight.grad.tolist()
    layer.zero_grad()
    inner = layer(x)
    layer(inner.detach()).sum().backward()
    assert layer.weight.grad.tolist() != both


# --- memory that is let go


def test_no_circle_of_references_keeps_an_op_alive() -> None:
    calls: list[Callable[[Tensor], Any]] = [
        lambda x: x.exp(), lambda x: x / 2, lambda x: x**2, tt_core.softmax, tt_core.gelu, tt_core.layer_norm,
        lambda x: x.amax(1), lambda x: x.logsumexp(1), lambda x: tt_core.relu(x), lambda x: x.sum(), lambda x: x.T,
        lambda x: x[0], lambda x: tt_core.cat([x, x]), lambda x: checkpoint(lambda y: y.exp(), x), lambda x: x.var(),
        lambda x: grad(x.exp().sum(), x, create_graph=True)[0], lambda x: tt_core.cross_entropy(x, LABELS),
    ]  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        for call in calls:
            x = random_leaf(3, 3)
            y = call(x)
            y.retain_grad()
            node = weakref.ref(y.grad_fn)
            tensor = weakref.ref(y)
            del y
            assert tensor() is None
            assert node() is None
            loss = call(x).sum()
            loss.backward()
            kept = weakref.ref(x)
            del loss, x
            assert kept() is None
    finally:
        gc.enable()


def test_backward_frees_what_was_kept() -> None:
    x = random_leaf(200, 200)
    inner = x.exp()
    held = weakref.ref(inner)
    loss = (inner * inner).sum()
    del inner
    assert held() is not None
    loss.backward()
    assert held() is None


# --- Function


class Cube(Function):
    """x^3, from a saved input."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    """exp, from the saved output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * y


class MinMax(Function):
    """Two outputs, two inputs, an option."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, scale: float = 1.0) -> Any:
        ctx.first_is_less = a < b
        ctx.scale = scale
        return a.minimum(b) * scale, a.maximum(b) * scale

    @staticmethod
    def backward(ctx: Any, low: Any, high: Any) -> Any:
        for_a = tt_core.where(ctx.first_is_less, low, high) * ctx.scale
        return for_a, tt_core.where(ctx.first_is_less, high, low) * ctx.scale


@pytest.mark.parametrize("function", [Cube, Exp])
def test_functions_of_ones_own_to_the_second_order(function: type[Function]) -> None:
    x = random_leaf(3, 2)
    assert gradcheck(function.apply, x, eps=1e-5, atol=1e-8, rtol=1e-6)
    assert gradgradcheck(function.apply, x, eps=1e-5, atol=1e-8, rtol=1e-6)


def test_a_function_with_several_outputs_and_one_of_them_unused() -> None:
    a, b = random_leaf(4), random_leaf(4, seed=1)
    assert gradcheck(lambda a, b: MinMax.apply(a, b, scale=2.0), [a, b])
    _, high = MinMax.apply(a, b)
    high.sum().backward()
    assert a.grad.tolist() == (a.data > b.data).astype(float).tolist()


def test_a_functions_output_makes_no_circle() -> None:
    gc.disable()
    try:
        y = Exp.apply(random_leaf(2))
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_functions_saved_tensor_changed_afterwards_is_noticed() -> None:
    x = leaf(1.0)
    y = Cube.apply(x)
    with no_grad():
        x += 1
    with pytest.raises(GradientError, match="Cube kept"):
        y.backward()


def test_what_a_function_gets_wrong_is_named() -> None:
    class TooMany(Cube):
        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g, g

    class InPlace(Cube):
        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g.mul_(3)

    class NoTensor(Cube):
        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 1.0

    with pytest.raises(GradientError, match=r"TooMany\.backward returned 2 gradients, forward took 1"):
        TooMany.apply(leaf(1.0)).backward()
    with pytest.raises(GradientError, match=r"InPlace\.backward changed its gradient in place"):
        InPlace.apply(leaf(1.0)).backward()
    with pytest.raises(GradientError, match=r"NoTensor\.backward returned float"):
        NoTensor.apply(leaf(1.0)).backward()
    with pytest.raises(GradientError, match="MinMax: scale contains a tensor that requires a gradient"):
        MinMax.apply(leaf(1.0), leaf(2.0), scale=leaf(1.0))
    with pytest.raises(GradientError, match="MinMax: a list contains a tensor that requires a gradient"):
        MinMax.apply([leaf(1.0)], leaf(2.0))
    with no_grad():  # there is nothing to lose
        assert MinMax.apply(leaf(1.0), leaf(2.0), scale=leaf(3.0))[0].tolist() == [3.0]
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(leaf(1.0))


def test_a_functions_saved_input_that_is_its_output_too_keeps_its_own_history() -> None:
    class Weighted(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    x = leaf(3.0)
    (first,) = grad(Weighted.apply(x).sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x)
    assert (first.tolist(), second.tolist()) == ([3.0], [1.0])


def test_a_checkpoint_whose_function_returns_something_else_when_it_runs_again_is_noticed() -> None:
    x = leaf(1.0, 2.0)
    for second in (lambda x: (x * 2,), lambda x: (x * 2, x.sum())):
        runs = iter([lambda x: (x * 2, x * 3), second])
        y, z = checkpoint(lambda x, runs=runs: next(runs)(x), x)
        with pytest.raises(GradientError, match="checkpoint ran its function again, and it returned other shapes"):
            (y + z).sum().backward()


def test_needs_input_grad_tells_which() -> None:
    asked: list[tuple[bool, ...]] = []

    class Product(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            asked.append(ctx.needs_input_grad)
            a, b = ctx.saved_tensors
            return g * b, g * a

    x = leaf(2.0)
    Product.apply(x, Tensor([3.0])).backward()
    assert asked == [(True, False)]
    assert x.grad.tolist() == [3.0]
    assert Product.apply(Tensor([2.0]), Tensor([3.0])).grad_fn is None


# --- checkpoint


def deep(layers: list[Any], x: Any) -> Any:
    for layer in layers:
        x = tt_core.dropout(tt_core.gelu(layer(x)), p=0.1)
    return x


def test_checkpoint_gives_the_same_bits_with_dropout() -> None:
    layers = [tt_core.Linear(16, 16) for _ in range(4)]
    results = []
    for run in (lambda x: deep(layers, x), lambda x: checkpoint(deep, layers, x)):
        tt_core.manual_seed(3)
        x = Tensor(np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32), requires_grad=True)
        for layer in layers:
            layer.zero_grad()
        y = run(x)
        y.sum().backward()
        drawn = tt_core.rand(1).item()
        results.append([y.data, x.grad.data, *[p.grad.data for layer in layers for p in layer.parameters()], drawn])
    for plain, again in zip(*results):
        assert np.array_equal(plain, again)


def test_checkpoint_keeps_less_memory() -> None:
    layers = [tt_core.Linear(64, 64) for _ in range(12)]
    x = Tensor(np.random.default_rng(0).standard_normal((512, 64)).astype(np.float32), requires_grad=True)

    def in_blocks(x: Any) -> Any:
        for i in range(0, 12, 3):
            x = checkpoint(deep, layers[i : i + 3], x)
        return x

    def peak(run: Callable[[Any], Any]) -> int:
        tracemalloc.start()
        run(x).sum().backward()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    plain, less = peak(lambda x: deep(layers, x)), peak(in_blocks)
    assert less < 0.55 * plain, f"{less:,} of {plain:,} bytes"


def test_checkpoint_without_inputs_that_need_gradients_still_teaches_the_layer() -> None:
    layer = tt_core.Linear(2, 2)
    checkpoint(layer, tt_core.ones(1, 2)).sum().backward()
    assert layer.weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_checkpoint_in_grad_of_what_it_knows_from_elsewhere() -> None:
    x, w = leaf(2.0), leaf(3.0)
    between = w * w
    y = checkpoint(lambda x: x * between, x)
    gx, gw = grad(y, [x, w])
    assert (gx.tolist(), gw.tolist()) == ([9.0], [12.0])


def test_checkpoint_can_be_nested_retained_and_differentiated_again() -> None:
    x = random_leaf(3)

    def nested(x: Any) -> Any:
        return checkpoint(lambda y: checkpoint(lambda z: (z * z).sin(), y).exp(), x)

    assert gradcheck(nested, x)
    assert gradgradcheck(nested, x)
    y = nested(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.data.copy()
    y.backward()
    np.testing.assert_allclose(x.grad.data, 2 * once)


def test_checkpoint_notices_an_input_changed_meanwhile() -> None:
    x, w = leaf(1.0), Tensor(np.array([2.0]))
    y = checkpoint(lambda x, w: x * w, x, w)
    w += 1
    with pytest.raises(GradientError, match="checkpoint kept"):
        y.backward()


@pytest.mark.parametrize("change", ["parameter", "option"])
def test_checkpoint_notices_what_its_function_uses_changed_meanwhile(change: str) -> None:
    x, weight = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    scale = Tensor([5.0, 6.0])
    y = checkpoint(lambda x, scale: x * weight * scale, x, scale=scale)
    with no_grad():
        (weight if change == "parameter" else scale).mul_(2.0)
    with pytest.raises(GradientError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("depth", [2, 3])
def test_a_checkpoint_in_a_checkpoint_notices_a_parameter_changed_meanwhile(depth: int) -> None:
    x, weight = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def nested(x: Any, depth: int) -> Any:
        return checkpoint(lambda y: nested(y, depth - 1), x) if depth else x * weight

    y = nested(x, depth).sum()
    with no_grad():
        weight.mul_(2.0)
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_a_checkpoint_in_a_checkpoint_takes_what_is_written_on_the_way() -> None:
    x = leaf(1.0, 2.0)

    def masked(x: Any) -> Any:
        mask = tt_core.zeros(2, dtype=x.dtype)
        mask[0] = 1.0
        return checkpoint(lambda y: y * y * mask, x)

    y, other = checkpoint(masked, x), tt_core.zeros(1)
    other += 1.0
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0]


def test_checkpoint_does_not_mind_a_change_of_something_else() -> None:
    x, weight, other = (Tensor([2.0], requires_grad=True) for _ in range(3))
    y = checkpoint(lambda x: x * weight, x + other)
    with no_grad():
        other.mul_(2.0)  # which the sum did not keep
    y.sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 4


def test_checkpoint_under_no_grad_and_with_several_outputs() -> None:
    x = leaf(2.0)
    with no_grad():
        assert not checkpoint(lambda x: x * 2, x).requires_grad
    a, b = checkpoint(lambda x: (x * 2, x * x), x)
    (a + b).backward()
    assert x.grad.tolist() == [6.0]
    with pytest.raises(GradientError, match="returns tensors"):
        checkpoint(lambda x: 3.0, x)


# --- gradcheck itself


def test_gradcheck_names_input_and_entry() -> None:
    class Wrong(Cube):
        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            wrong = np.ones(x.shape)
            wrong[1, 0] = 1.1
            return g * 3 * x * x * Tensor(wrong)

    with pytest.raises(GradcheckError, match=r"input 1 at \[1, 0\].*1 of 4 entries"):
        gradcheck(lambda n, x: Wrong.apply(x) * n, [2.0, random_leaf(2, 2)])


def test_gradcheck_finds_a_history_that_was_lost() -> None:
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x * x.detach(), random_leaf(3))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: (x * 2, x.detach() * 3), random_leaf(3))


def test_a_plain_sum_would_hide_what_random_weights_find() -> None:
    class Softmax(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = tt_core.softmax(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return (g - g.mean()) * y  # wrong, and 0 for a constant g, as it should be

    x = random_leaf(4)
    (g,) = grad(Softmax.apply(x).sum(), x)
    np.testing.assert_allclose(g.data, np.zeros(4), atol=1e-12)
    with pytest.raises(GradcheckError):
        gradcheck(Softmax.apply, x)


def test_gradcheck_refuses_what_it_cannot_check() -> None:
    with pytest.raises(GradientError, match="only float64"):
        gradcheck(lambda x: x * 2, leaf(1.0, dtype=np.float32))
    with pytest.raises(GradientError, match="no input requires"):
        gradcheck(lambda x: x * 2, Tensor([1.0]))
    with pytest.raises(GradientError, match="no output depends"):
        gradcheck(lambda x: x.detach(), leaf(1.0))
    with pytest.raises(GradientError, match="share memory"):
        gradcheck(lambda x: x * 2, leaf(1.0).detach().expand(3).requires_grad_())


def test_gradcheck_puts_back_what_it_moved_when_the_function_fails() -> None:
    x = leaf(1.0, 2.0)

    def fails_beyond_2(x: Any) -> Any:
        if (x > 2).any():
            raise ValueError("too large")
        return x * 2

    with pytest.raises(ValueError, match="too large"):
        gradcheck(fails_beyond_2, x)
    assert x.tolist() == [1.0, 2.0]


def test_gradcheck_of_several_outputs_strided_empty_and_repeated_inputs() -> None:
    strided = Tensor(np.random.default_rng(0).standard_normal((4, 6))[::2, ::-2], requires_grad=True)
    before = strided.tolist()
    empty = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert gradcheck(lambda a, b, c, e: (a * b, c.sum(0), e.sum() + a.sum()), [strided, strided, random_leaf(2), empty])
    assert strided.tolist() == before
    assert gradcheck(lambda x: tt_core.dropout(x, p=0.5), random_leaf(10))
    assert tt_learn.gradgradcheck(lambda a, n: (a**n).sum(), [random_leaf(3), 3])


# --- gradients that are set, copies and pickles


def test_only_a_tensor_or_none_is_a_gradient() -> None:
    x = Tensor([1.0], requires_grad=True)
    for given in (np.ones(1), 1.0, "a"):
        with pytest.raises(GradientError, match=r"grad: takes a tensor or None, got \w+; wrap it"):
            x.grad = given
    x.grad = tt_core.Tensor([2.0])
    assert type(x.grad) is Tensor
    x.grad = None
    assert x.grad is None


def test_a_leaf_is_pickled_and_a_tensor_with_history_is_refused() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward(create_graph=True)
    x.register_hook(lambda g: g)
    other = pickle.loads(pickle.dumps(x))
    assert other.tolist() == [1.0, 2.0]
    assert other.requires_grad
    assert other.grad.tolist() == [2.0, 4.0]
    assert other.grad.grad_fn is None
    with pytest.raises(GradientError, match=r"pickle: this tensor has history; detach\(\) it first"):
        pickle.dumps(x * 2)
    assert copy.copy(x * 2).grad_fn is not None


def test_the_history_switches_are_found_where_tensors_are_made() -> None:
    assert tt_core.no_grad is tt_learn.no_grad
    for make in (tt_core.tensor, tt_core.zeros_like):
        x = make([1.0] if make is tt_core.tensor else np.ones(1, "float32"), requires_grad=True)
        assert x.requires_grad
    assert tt_core.randn(2, requires_grad=True).requires_grad
    with pytest.raises(GradientError, match="only floats"):
        tt_core.zeros(2, dtype="int64", requires_grad=True)
