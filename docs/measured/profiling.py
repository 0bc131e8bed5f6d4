"""Numbers and pictures of lesson 14, profiling."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import tt_core
from measured import fastest, number, picture
from tt_language import GPT, GPTConfig, next_token_loss
from tt_learn import AdamW
from tt_learn.svg import circle, framed, line, text
from tt_perf.profiling import Machine, Profiler, measure_machine


@functools.cache
def machine() -> Machine:
    """The limits of the machine that builds the site."""
    return measure_machine()


class Step:
    """One training step of a small GPT."""

    def __init__(self) -> None:
        tt_core.manual_seed(0)
        config = GPTConfig(vocab_size=64, block_size=64, n_layer=2, n_head=4, n_embd=64, mlp="gelu")
        self.model = GPT(config)
        self.optimizer = AdamW(self.model.parameters())
        self.ids = tt_core.from_numpy(np.random.default_rng(0).integers(0, 64, (8, 64)))

    def __call__(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        next_token_loss(self.model(self.ids), self.ids).backward()
        self.optimizer.step()


@functools.cache
def profiled() -> Profiler:
    """Five training steps under the profiler, after one to warm up."""
    step = Step()
    step()
    with Profiler() as profiler:
        for _ in range(5):
            step()
    return profiler


PRODUCTS = ("linear", "matmul", "rows_product", "scaled_dot_product_attention")


@functools.cache
def share_of_products() -> tuple[float, float]:
    """The share of matrix products in the FLOPs and in the time of a training step."""
    ops = [entry for entry in profiled().entries() if entry.kind == "op"]
    products = [entry for entry in ops if entry.name.startswith(PRODUCTS)]
    flops = sum(x.flops for x in products) / sum(x.flops for x in ops)
    return flops, sum(x.self_seconds for x in products) / profiled().seconds


@number(70, 99.9, ".0f")
def percent_of_flops_in_products() -> float:
    """Percent of a training step's FLOPs that are matrix products."""
    return 100 * share_of_products()[0]


@number(5, 90, ".0f")
def percent_of_time_in_products() -> float:
    """Percent of a training step's time that is spent in matrix products."""
    return 100 * share_of_products()[1]


@number(0.5, 20000, ".3g")
def peak_gflops() -> float:
    """The FLOPs a second of a large matrix product, in thousand millions."""
    return machine().flops_per_second / 1e9


@number(0.5, 2000, ".3g")
def memory_gigabytes() -> float:
    """Gigabytes a second that a copy in memory moves."""
    return machine().bytes_per_second / 1e9


@number(0.2, 1000, ".1f")
def ridge() -> float:
    """FLOPs a byte from which on an op is bound by computation."""
    return machine().ridge


@number(0.05, 100, ".1f")
def call_microseconds() -> float:
    """Microseconds that an op takes on one number."""
    return machine().seconds_per_call * 1e6


@number(0.083, 0.084, ".3f")
def intensity_of_add() -> float:
    """FLOPs a byte of an addition of two large float32 arrays: one for 12 bytes."""
    return intensity("add")


@number(170, 171, ".0f")
def intensity_of_product() -> float:
    """FLOPs a byte of a product of two (1024, 1024) matrices: 2 n^3 for 12 n^2 bytes."""
    return intensity("matmul")


@functools.cache
def intensity(name: str) -> float:
    """FLOPs a byte of an op on two (1024, 1024) matrices, as the profiler counts them."""
    a, b = tt_core.ones(1024, 1024), tt_core.ones(1024, 1024)
    with Profiler() as profiler:
        _ = a + b if name == "add" else a @ b
    return next(each.intensity for each in profiler.verdicts(machine()) if each.name == name)


@number(0.7, 20, ".1f")
def profiled_times_plain() -> float:
    """How many times as long a training step takes under the profiler."""
    step = Step()
    step()

    def under_the_profiler() -> None:
        with Profiler():
            step()

    plain, watched = fastest(step, under_the_profiler)
    return watched / plain


@picture
def roofline_of_this_machine() -> str:
    """The roofline of the machine that built this page, with an addition and products of three sizes on it."""
    found: dict[str, tuple[float, float]] = {}
    for name, n in (("add, n = 1024", 0), ("n = 8", 8), ("n = 64", 64), ("n = 1024", 1024)):
        a, b = tt_core.ones(n or 1024, n or 1024), tt_core.ones(n or 1024, n or 1024)
        flops = 2 * n**3 if n else 1024**2
        (time,) = fastest((lambda a=a, b=b: a @ b) if n else (lambda a=a, b=b: a + b))
        found[name] = (flops / (3 * 4 * (n or 1024) ** 2), flops / time / 1e9)
    peak = max(machine().flops_per_second / 1e9, *(y for _, y in found.values()))
    bandwidth = machine().bytes_per_second / 1e9
    bounds = [(x, min(peak, x * bandwidth)) for x in (0.05, peak / bandwidth, 1000.0)]

    def drawn(x_at: Any, y_at: Any) -> list[str]:
        parts = [line([(x_at(x), y_at(y)) for x, y in bounds], "#3b6fb6")]
        for name, (x, y) in found.items():
            parts.append(circle(x_at(x), y_at(y), 5, "#d1495b"))
            parts.append(text(x_at(x) + 9, y_at(y) + 4, name, halo=True))
        return parts

    every = [*bounds, *found.values()]
    return framed(every, drawn, "Roofline", "FLOPs a byte", "GFLOP/s", logarithmic=True)


@picture
def flame_graph_of_a_step() -> str:
    """A flame graph of five training steps of a small GPT: width is time, and what stands on top was called inside."""
    return profiled().flame_graph()
