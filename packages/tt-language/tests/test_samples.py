"""The samples that `tt plugins check` tries ops of Act IV with run, and reach the kernels of backward."""

from __future__ import annotations

import pytest

from tt_core.command.checking import compare, misdeclared
from tt_core.engine.dispatch import registry
from tt_core.engine.plugins import manager
from tt_core.samples import SAMPLES as CORE_SAMPLES
from tt_language.command.cli import Act
from tt_language.samples import SAMPLES
from tt_learn.autograd.record import AutogradPlugin

BACKWARD = ["embedding_backward", "rms_norm_backward", "scaled_dot_product_attention_backward"]


@pytest.mark.parametrize("name", [*SAMPLES, *BACKWARD])
def test_an_op_agrees_with_itself_and_not_with_another_result(name: str) -> None:
    kernel = registry[name].kernel
    plugin = Act()
    added = not manager.has_plugin("act-language")
    if added:
        manager.register(plugin, "act-language")
    try:
        (right,) = compare({name: kernel})
        (wrong,) = compare({name: lambda *inputs, **attributes: 0})
    finally:
        if added:
            manager.unregister(plugin)
    assert right.calls > 10
    assert right.difference == ""
    assert wrong.difference != ""


def test_ops_are_random_and_views_as_they_declare() -> None:
    ours = [name for name, op in registry.items() if op.kernel.__module__.startswith(("tt_language.", "tt_learn."))]
    assert misdeclared(ours, {**CORE_SAMPLES, **SAMPLES, **AutogradPlugin().tt_samples()}) == {}
