"""Every tuned kernel of Act IV computes what the op's formula computes: values, dtypes, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.command.checking import compare
from tt_core.engine.dispatch import registry
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import manager
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_language.command.cli import Act
from tt_learn import AdamW, Tensor

OPS = [
    op.name
    for op in registry.values()
    if op.kernel is not op.formula and op.formula.__module__.startswith("tt_language.")
]


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Each formula beside the kernel: seven dtypes in four memory layouts, empty arrays, nan and infinities."""
    plugin = Act()
    added = not manager.has_plugin("act-language")
    if added:
        manager.register(plugin, "act-language")
    try:
        return {row.op: row for row in compare({name: registry[name].formula for name in OPS}, timed=False)}
    finally:
        if added:
            manager.unregister(plugin)


@pytest.mark.parametrize("name", OPS)
def test_the_formula_and_the_kernel_agree(name: str, rows: dict[str, Any]) -> None:
    assert not rows[name].difference, str(rows[name])
    assert rows[name].calls >= 8  # at least float32 and float64 in four layouts


X = np.ones((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("scaled_dot_product_attention", (X, X[..., :2], X), {}),
        ("scaled_dot_product_attention", (X, X, X[:, :2]), {}),
        ("scaled_dot_product_attention", (X, X, X), {"dropout_p": 1.5}),
        ("scaled_dot_product_attention", (X, X[:0], X[:0]), {"enable_gqa": True}),
        ("scaled_dot_product_attention", (X[0], X[0], X[0]), {"enable_gqa": True}),
        ("scaled_dot_product_attention", (X, X, X.astype(float)), {}),
        ("scaled_dot_product_attention", (X, X, X, X[0, :, :2]), {}),
        ("scaled_dot_product_attention", (X, X, X, np.ones((3, 3), int)), {}),
        ("rms_norm", (X.astype(int),), {}),
        ("rms_norm", (X, X[0]), {}),
        ("rms_norm", (X[0, 0, 0],), {}),
        ("rotary", (X, X, X), {}),
    ],
)
def test_both_forms_raise_the_same_error(name: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    with pytest.raises(TinyTorchError) as tuned:
        registry[name](*inputs, **attributes)
    with tt_core.use("formula"), pytest.raises(TinyTorchError) as formula:
        registry[name](*inputs, **attributes)
    assert type(formula.value) is type(tuned.value)
    assert str(formula.value) == str(tuned.value)


FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"dropout": 0.1},
    "llama": {"position": "rotary", "norm": "rms", "mlp": "swiglu", "n_kv_head": 1},
}


def losses_and_text(family: str) -> tuple[list[float], list[int]]:
    """Five steps of a small GPT on one batch, and the text that it writes then."""
    tt_core.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, block_size=12, n_layer=2, n_head=2, n_embd=16, **FAMILIES[family]))
    optimizer = AdamW(model.parameters(), lr=0.01)
    ids = np.random.default_rng(0).integers(0, 11, (3, 13))
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = next_token_loss(model(Tensor(ids[:, :-1])), Tensor(ids[:, 1:]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, generate(model, ids[0, :4], 6, temperature=0)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_generation_on_formulas_give_the_same(family: str) -> None:
    losses, text = losses_and_text(family)
    with tt_core.use("formula"):
        by_formula = losses_and_text(family)
    np.testing.assert_allclose(by_formula[0], losses, rtol=0, atol=1e-4)
    assert by_formula[1] == text
