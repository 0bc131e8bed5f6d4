"""The profiler beside PyTorch's: what a schedule says, when a trace is ready, the columns of the table, FLOPs."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")

import tt_core  # noqa: E402
import tt_perf  # noqa: E402
from tt_data import Conv2d  # noqa: E402

THEIRS = torch.profiler


def quiet(run: Any) -> Any:
    """What `run` returns; PyTorch warns of an empty cycle and of what its C++ library lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run()


@pytest.mark.parametrize("skip_first", [0, 2])
@pytest.mark.parametrize("repeat", [0, 1, 2])
@pytest.mark.parametrize(("wait", "warmup", "active"), [*itertools.product([0, 2], [0, 1], [1, 3])])
def test_schedules_say_the_same(wait: int, warmup: int, active: int, repeat: int, skip_first: int) -> None:
    options = {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat, "skip_first": skip_first}
    ours, theirs = tt_perf.schedule(**options), quiet(lambda: THEIRS.schedule(**options))
    assert [ours(step).name for step in range(20)] == [theirs(step).name for step in range(20)]


def steps_seen(module: Any, options: dict[str, int], steps: int) -> list[int]:
    """How many steps are in each trace that is ready."""
    seen: list[int] = []

    def ready(profile: Any) -> None:
        rows = {row.key: row.count for row in profile.key_averages()}
        seen.append(rows["ProfilerStep*"])

    activities = [module.ProfilerActivity.CPU]
    with module.profile(activities=activities, schedule=module.schedule(**options), on_trace_ready=ready) as profile:
        for _ in range(steps):
            (tt_core.ones(1) + 1, torch.ones(1) + 1)
            profile.step()
    return seen


@pytest.mark.parametrize("steps", [0, 4, 5, 9, 10])
def test_traces_are_ready_at_the_same_steps(steps: int) -> None:
    options = {"wait": 1, "warmup": 1, "active": 2, "repeat": 2}
    assert steps_seen(tt_perf, options, steps) == quiet(lambda: steps_seen(THEIRS, options, steps))


def test_tables_have_the_same_columns() -> None:
    with tt_perf.profile(record_shapes=True) as ours:
        tt_core.ones(2, 2) + 1
    with THEIRS.profile(activities=[THEIRS.ProfilerActivity.CPU], record_shapes=True) as theirs:
        torch.ones(2, 2) + 1

    def columns(profile: Any) -> list[str]:
        lines = profile.key_averages(group_by_input_shape=True).table(sort_by="self_cpu_time_total").splitlines()
        header = next(line for line in lines if "Self CPU %" in line)
        return [name for name in re.split(r"\s{2,}", header.strip()) if name]

    assert columns(ours) == columns(theirs)


def test_rows_count_the_same_calls() -> None:
    def calls(module: Any, one: Any) -> Any:
        with module.profile(activities=[module.ProfilerActivity.CPU]) as profile:
            for _ in range(3):
                with module.record_function("block"):
                    one.exp()
        return next(row.count for row in profile.key_averages() if row.key == "block")

    assert calls(tt_perf, tt_core.ones(2)) == calls(THEIRS, torch.ones(2)) == 3


def test_flops_of_products_and_convolutions_are_the_same() -> None:
    with tt_perf.profile(with_flops=True) as ours:
        tt_core.ones(3, 4, 5) @ tt_core.ones(3, 5, 6)
        Conv2d(4, 8, 3, padding=1, bias=False)(tt_core.ones(2, 4, 9, 9))
    with THEIRS.profile(activities=[THEIRS.ProfilerActivity.CPU], with_flops=True) as theirs:
        torch.ones(3, 4, 5) @ torch.ones(3, 5, 6)
        torch.nn.Conv2d(4, 8, 3, padding=1, bias=False)(torch.ones(2, 4, 9, 9))
    found = {row.key: row.flops for row in ours.key_averages()}
    wanted = {row.key: row.flops for row in theirs.key_averages()}
    assert (found["matmul"], found["conv2d"]) == (wanted["aten::bmm"], wanted["aten::conv2d"])
