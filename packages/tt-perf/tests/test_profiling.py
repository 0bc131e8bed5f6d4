"""Module 14: the profiler counts what ran, adds up, and leaves nothing behind."""

from __future__ import annotations

import sys
import threading
import time

import pytest

import tt_core
import tt_data
import tt_learn
from tt_core.engine.dispatch import registry
from tt_language.attention import scaled_dot_product_attention
from tt_perf import Profiler


def by_name(profiler: Profiler) -> dict[tuple[str, str], object]:
    return {(entry.kind, entry.name): entry for entry in profiler.entries()}


def test_counts_calls_bytes_and_flops() -> None:
    layer = tt_core.Linear(5, 3)
    with Profiler() as profiler:
        for _ in range(4):
            layer(tt_core.ones(2, 5))
    entry = by_name(profiler)["op", "linear"]
    assert (entry.calls, entry.output_bytes, entry.flops) == (4, 4 * 2 * 3 * 4, 4 * 2 * 2 * 3 * 5)
    assert by_name(profiler)["layer", "Linear"].calls == 4


def test_self_times_add_up_to_the_outermost_call() -> None:
    class Sleeper(tt_core.Layer):
        def forward(self, x: tt_core.Tensor) -> tt_core.Tensor:
            time.sleep(0.01)
            return x + 1

    model = tt_core.Sequential(Sleeper(), Sleeper())
    with Profiler() as profiler:
        model(tt_core.ones(2))
    entries = by_name(profiler)
    outermost = entries["layer", "Sequential"].seconds
    assert sum(entry.self_seconds for entry in entries.values()) == pytest.approx(outermost, rel=1e-6)
    assert entries["layer", "Sleeper"].self_seconds >= 0.02
    assert entries["layer", "Sequential"].self_seconds < outermost - 0.02


def test_backward_ops_are_measured_too() -> None:
    x = tt_learn.Tensor([[1.0, 2.0]], requires_grad=True)
    layer = tt_core.Linear(2, 2)
    with Profiler() as profiler:
        layer(x).sum().backward()
    assert {("op", "matmul"), ("op", "rows_product")} <= set(by_name(profiler))


def test_flops_of_attention_count_both_products_forward_and_backward() -> None:
    q = tt_learn.Tensor(tt_core.ones(1, 3, 5, 4).data, requires_grad=True)
    k, v = tt_core.ones(2, 3, 7, 4), tt_core.ones(2, 3, 7, 6)  # the batch of the queries is repeated
    with Profiler() as profiler:
        scaled_dot_product_attention(q, k, v).sum().backward()
    products = 2 * (2 * 3 * 5 * 7) * (4 + 6)
    assert by_name(profiler)["op", "scaled_dot_product_attention"].flops == products
    assert by_name(profiler)["op", "scaled_dot_product_attention_backward"].flops == 2 * products


def test_weights_that_are_computed_again_count_again() -> None:
    q = tt_learn.Tensor(tt_core.ones(1, 1, 300, 2).data, requires_grad=True)
    with Profiler() as profiler:
        scaled_dot_product_attention(q, q, q).sum().backward()
    assert by_name(profiler)["op", "scaled_dot_product_attention_backward"].flops == 2 * 300 * 300 * 5 * 2


def test_flops_of_a_convolution_are_the_same_in_each_direction() -> None:
    x = tt_learn.Tensor(tt_core.ones(2, 4, 9, 9).data, requires_grad=True)
    with Profiler() as profiler:
        tt_data.Conv2d(4, 6, 3, groups=2)(x).sum().backward()
    for name in ("conv2d", "conv2d_input", "conv2d_weight"):
        assert by_name(profiler)["op", name].flops == 2 * (2 * 6 * 7 * 7) * (2 * 3 * 3)


def test_a_layer_inside_one_of_its_type_takes_no_time_twice() -> None:
    class Sleeper(tt_core.Layer):
        def forward(self, x: tt_core.Tensor) -> tt_core.Tensor:
            time.sleep(0.01)
            return x

    with Profiler() as profiler:
        start = time.perf_counter()
        tt_core.Sequential(tt_core.Sequential(tt_core.Sequential(Sleeper())))(tt_core.ones(1))
        passed = time.perf_counter() - start
    entry = by_name(profiler)["layer", "Sequential"]
    assert entry.calls == 3
    assert 0.01 <= entry.seconds <= passed


def test_threads_lose_nothing() -> None:
    def work() -> None:
        for _ in range(3000):
            tt_core.matmul(a, a)

    a, interval = tt_core.ones(2, 2), sys.getswitchinterval()
    threads = [threading.Thread(target=work) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        with Profiler() as profiler:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    entry = by_name(profiler)["op", "matmul"]
    assert (entry.calls, entry.flops, entry.output_bytes) == (12000, 12000 * 16, 12000 * 16)


def test_results_and_gradients_are_untouched() -> None:
    x = tt_learn.Tensor([1.0, 2.0], requires_grad=True)
    plain = (x * x).sum()
    with tt_core.use("profiler"):
        measured = (x * x).sum()
    measured.backward()
    assert measured.item() == plain.item()
    assert x.grad.tolist() == [2.0, 4.0]


def test_an_error_inside_leaves_the_clock_right() -> None:
    with Profiler() as profiler:
        with pytest.raises(tt_core.TinyTorchError):
            tt_core.ones(2) + tt_core.ones(3)
        tt_core.ones(2) + 1
    assert by_name(profiler)["op", "add"].calls == 1
    assert profiler._stack.inside[1:] == []


def test_leaves_the_chains_as_they_were() -> None:
    before = {name: op.chain for name, op in registry.items()}
    with Profiler():
        assert all(op.chain is not before[name] for name, op in registry.items())
    assert all(op.chain is before[name] for name, op in registry.items())


def test_one_profiler_in_nested_and_overlapping_blocks() -> None:
    profiler = Profiler()
    with profiler:
        with profiler:
            tt_core.ones(1) + 1
        tt_core.ones(1) + 1
    tt_core.ones(1) + 1
    assert by_name(profiler)["op", "add"].calls == 2


def test_columns_stand_below_each_other() -> None:
    q = tt_learn.Tensor(tt_core.ones(1, 1, 3, 2).data, requires_grad=True)
    with Profiler() as profiler:
        scaled_dot_product_attention(q, q, q).sum().backward()  # the name of its backward is the longest
    header, *rows = str(profiler).splitlines()
    assert {row.index("%") for row in rows} == {header.index("share") + len("share") - 1}


def test_report_names_what_ran() -> None:
    with Profiler() as profiler:
        tt_core.Linear(2, 2)(tt_core.ones(1, 2))
    assert "linear" in profiler.tt_report()
    profiler.reset()
    assert profiler.tt_report() is None


def test_a_notebook_shows_a_row_for_each_entry() -> None:
    with Profiler() as profiler:
        tt_core.Linear(5, 3)(tt_core.ones(2, 5))
    shown = profiler._repr_html_()
    assert shown.count("<tr>") == 1 + len(profiler.entries())
    assert "<td>linear</td>" in shown
