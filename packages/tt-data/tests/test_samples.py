"""The samples that `tt plugins check` tries ops of Act III with run, and reach the kernels of backward."""

from __future__ import annotations

import pytest

from tt_core.checking import compare
from tt_core.dispatch import registry
from tt_core.plugins import manager
from tt_data.cli import Act
from tt_data.samples import SAMPLES

BACKWARD = ["max_pool2d_backward", "avg_pool2d_backward", "conv2d_weight"]


@pytest.mark.parametrize("name", [*SAMPLES, *BACKWARD])
def test_an_op_agrees_with_itself_and_not_with_another_result(name: str) -> None:
    kernel = registry[name].kernel
    plugin = Act()
    added = not manager.has_plugin("act-data")
    if added:
        manager.register(plugin, "act-data")
    try:
        (right,) = compare({name: kernel})
        (wrong,) = compare({name: lambda *inputs, **attributes: 0})
    finally:
        if added:
            manager.unregister(plugin)
    assert right.calls > 10
    assert right.difference == ""
    assert wrong.difference != ""
