"""Module 12: the fused op against its formula, its gradients against finite differences, and the layer around it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError
from tt_language import MultiHeadAttention, attention_weights, heat_map, scaled_dot_product_attention
from tt_language.attention import join_heads, split_heads
from tt_language.kernels import attention as blocks
from tt_learn import GradientError, Tensor, gradcheck, gradgradcheck, no_grad


def leaf(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return Tensor(scale * np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def inputs(batch: int, heads: int, queries: int, keys: int, shared: int | None = None) -> tuple[Tensor, ...]:
    shared = heads if shared is None else shared
    return leaf(batch, heads, queries, 3), leaf(batch, shared, keys, 3, seed=1), leaf(batch, shared, keys, 2, seed=2)


def by_formula(q: Any, k: Any, v: Any, mask: Any = None, **options: Any) -> Any:
    groups = q.shape[-3] // k.shape[-3] if options.get("enable_gqa") else 1
    weights = attention_weights(q, k, mask, **options)
    return weights @ (v.repeat_interleave(groups, -3) if groups > 1 else v)


BOOLEAN = np.random.default_rng(5).random((4, 6)) > 0.4
BOOLEAN[2] = False  # a query that may see nothing
BOOLEAN[:2, 0] = True
OPTIONS = {
    "plain": ((2, 2, 4, 6), None, {}),
    "causal": ((2, 2, 5, 5), None, {"is_causal": True}),
    "causal, fewer queries": ((1, 2, 3, 6), None, {"is_causal": True}),
    "causal, fewer keys": ((1, 2, 6, 3), None, {"is_causal": True}),
    "causal, counted from the end": ((1, 2, 3, 6), None, {"is_causal": True, "causal_offset": 3}),
    "causal, first queries see nothing": ((1, 2, 5, 4), None, {"is_causal": True, "causal_offset": -2}),
    "scale": ((1, 2, 4, 6), None, {"scale": 0.3}),
    "boolean mask": ((2, 2, 4, 6), BOOLEAN, {}),
    "mask a row": ((2, 2, 4, 6), np.random.default_rng(6).random((2, 1, 1, 6)) > 0.3, {}),
    "added mask": ((2, 2, 4, 6), np.random.default_rng(7).standard_normal((4, 6)), {}),
    "added mask a head, and causal": (
        (2, 2, 4, 4),
        np.random.default_rng(8).standard_normal((2, 4, 4)),
        {"is_causal": True},
    ),
    "groups": ((2, 4, 3, 5, 2), None, {"enable_gqa": True}),
    "groups, mask a head": ((2, 4, 3, 5, 2), np.random.default_rng(9).random((4, 3, 5)) > 0.3, {"enable_gqa": True}),
    "one query": ((2, 2, 1, 6), None, {}),
}


@pytest.fixture(params=["one block", "kept blocks", "blocks computed again"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run in one block, and in blocks of one row and two queries, with and without keeping their weights."""
    monkeypatch.setattr(blocks, "_FEW", 0)
    if request.param != "one block":
        monkeypatch.setattr(blocks, "_ONE", -1)
        monkeypatch.setattr(blocks, "_TILE", 1)
        monkeypatch.setattr(blocks, "_STEP", (2, 2))
    if request.param == "blocks computed again":
        monkeypatch.setattr(blocks, "KEPT", -1)
    return str(request.param)


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("size", [1.0, 40.0])  # 40: exponentials overflow unless the peak is subtracted
def test_agrees_with_the_formula(case: str, size: float, path: str) -> None:
    shape, mask, options = OPTIONS[case]
    q, k, v = inputs(*shape)
    q, k = q * size, k * size
    mask = None if mask is None else tt_core.tensor(mask)
    found = scaled_dot_product_attention(q, k, v, mask, **options)
    assert np.allclose(found.numpy(), by_formula(q, k, v, mask, **options).numpy(), atol=1e-12)


@pytest.mark.parametrize("case", OPTIONS)
def test_gradients(case: str, path: str) -> None:
    shape, mask, options = OPTIONS[case]
    mask = None if mask is None else tt_core.tensor(mask)
    assert gradcheck(lambda *x: scaled_dot_product_attention(*x, mask, **options), inputs(*shape), atol=1e-7)


@pytest.mark.parametrize("case", OPTIONS)
def test_second_derivatives(case: str) -> None:
    shape, mask, options = OPTIONS[case]
    mask = None if mask is None else tt_core.tensor(mask)
    assert gradgradcheck(lambda *x: scaled_dot_product_attention(*x, mask, **options), inputs(*shape))


@pytest.mark.parametrize("shape", [(4, 6), (1, 6), (2, 1, 4, 6), (2, 2, 1, 6)])
def test_an_added_mask_has_a_gradient_of_its_own_shape(shape: tuple[int, ...], path: str) -> None:
    q, k, v = inputs(2, 2, 4, 6)
    assert gradcheck(lambda m: scaled_dot_product_attention(q, k, v, m), [leaf(*shape, seed=3)])
    assert gradgradcheck(lambda m, q: scaled_dot_product_attention(q, k, v, m), [leaf(*shape, seed=3), q])


LEADING = [
    ((3, 4), (5, 4), (5, 4)),
    ((2, 3, 4), (1, 5, 4), (2, 5, 4)),
    ((2, 1, 2, 3, 4), (3, 2, 5, 4), (5, 4)),
]


@pytest.mark.parametrize("shapes", LEADING)
def test_leading_dimensions_are_any_and_broadcast(shapes: Any) -> None:
    x = [leaf(*shape, seed=i) for i, shape in enumerate(shapes)]
    found = scaled_dot_product_attention(*x)
    expected = by_formula(*x)
    assert found.shape == expected.shape
    assert np.allclose(found.numpy(), expected.numpy())
    assert gradcheck(scaled_dot_product_attention, x)


def test_a_query_that_sees_nothing_gets_zeros_and_no_gradient() -> None:
    q, k, v = inputs(1, 1, 2, 3)
    mask = tt_core.tensor(np.array([[False] * 3, [True] * 3]))
    out = scaled_dot_product_attention(q, k, v, mask)
    assert not out.numpy()[0, 0, 0].any()
    out.sum().backward()
    assert not q.grad.numpy()[0, 0, 0].any()
    assert np.isfinite(k.grad.numpy()).all()


@pytest.mark.parametrize("empty", [(0, 2, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)])
def test_empty_inputs(empty: tuple[int, ...]) -> None:
    q, k, v = inputs(*empty)
    out = scaled_dot_product_attention(q, k, v)
    assert out.shape == (*empty[:3], 2)
    assert not out.numpy().any()
    out.sum().backward()
    assert q.grad.shape == q.shape
    assert k.grad.shape == k.shape


def test_dropout_drops_the_same_weights_forward_and_backward(path: str) -> None:
    x = inputs(2, 2, 6, 7)
    tt_core.manual_seed(3)
    assert gradcheck(lambda *x: scaled_dot_product_attention(*x, dropout_p=0.4), x)
    with pytest.raises(GradientError, match="set dropout_p to 0"):
        gradgradcheck(lambda *x: scaled_dot_product_attention(*x, dropout_p=0.4), x)


def test_dropout_keeps_the_mean() -> None:
    q, k = tt_core.zeros(1, 1, 200, 4), tt_core.zeros(1, 1, 50, 4)
    tt_core.manual_seed(0)
    out = scaled_dot_product_attention(q, k, tt_core.ones(1, 1, 50, 1), dropout_p=0.25).numpy()
    assert out.mean() == pytest.approx(1, abs=0.02)
    assert out.std() > 0.02
    assert not scaled_dot_product_attention(q, k, tt_core.ones(1, 1, 50, 1), dropout_p=1.0).numpy().any()


def test_long_texts_never_hold_the_whole_matrix() -> None:
    """2,048 tokens, 4 heads: the matrix would be 67 MB, twice in backward."""
    import tracemalloc

    x = [Tensor(np.ones((1, 4, 2048, 8), np.float32), requires_grad=True) for _ in range(3)]
    tracemalloc.start()
    scaled_dot_product_attention(*x, is_causal=True).sum().backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24e6


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 3, 4), (2, 3, 5), (2, 3, 5)), {}, "query has 4 features, key 5"),
        (((2, 3, 4), (2, 3, 4), (2, 2, 4)), {}, "3 keys but 2 values"),
        (((3, 3, 4), (2, 3, 4), (2, 3, 4)), {"enable_gqa": True}, "3 query heads cannot share 2 key"),
        (((4,), (3, 4), (3, 4)), {}, "must be \\(..., length, features\\)"),
    ],
)
def test_what_does_not_fit_is_said(shapes: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        scaled_dot_product_attention(*[tt_core.ones(*shape) for shape in shapes], **options)


def test_masks_that_do_not_fit_are_refused() -> None:
    x = [tt_core.ones(2, 3, 4)] * 3
    with pytest.raises(ShapeError, match="does not broadcast"):
        scaled_dot_product_attention(*x, tt_core.ones(2, 3))
    with pytest.raises(DTypeError, match="boolean"):
        scaled_dot_product_attention(*x, tt_core.ones(3, 3, dtype=np.int64))
    with pytest.raises(DTypeError, match="floats of one dtype"):
        scaled_dot_product_attention(tt_core.ones(2, 3, 4, dtype=np.int64), *x[1:])


# --- heads


def test_joining_undoes_splitting() -> None:
    x = leaf(2, 5, 12)
    parts = split_heads(x, heads=(2, 1, 1))
    assert [part.shape for part in parts] == [(2, 2, 5, 3), (2, 1, 5, 3), (2, 1, 5, 3)]
    assert np.array_equal(join_heads(*parts).numpy(), x.numpy())
    assert gradcheck(lambda x: split_heads(x, heads=(2, 1, 1)), [x])
    assert gradgradcheck(lambda x: join_heads(*split_heads(x * x, heads=(2, 2))), [x])
    with pytest.raises(ShapeError, match="do not divide into 2 \\+ 3 heads"):
        split_heads(x, heads=(2, 3))


def test_a_part_without_gradient_counts_as_zero() -> None:
    x = leaf(1, 2, 4)
    split_heads(x, heads=(1, 1))[1].sum().backward()
    assert np.array_equal(x.grad.numpy(), [[[0, 0, 1, 1], [0, 0, 1, 1]]])


# --- the layer


def double(layer: Any) -> Any:
    for parameter in layer.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return layer


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"num_kv_heads": 2}, {"num_kv_heads": 1, "bias": False}])
def test_weights_on_request_belong_to_the_same_result(options: dict[str, Any]) -> None:
    layer, x = double(MultiHeadAttention(8, 4, **options)), leaf(2, 5, 8)
    out, weights = layer(x, need_weights=True)
    assert weights.shape == (2, 4, 5, 5)
    assert np.allclose(weights.numpy().sum(-1), 1)
    assert np.allclose(out.numpy(), layer(x).numpy(), atol=1e-12)
    assert gradcheck(layer, [x])


def test_cross_attention_looks_at_the_memory() -> None:
    layer = double(MultiHeadAttention(8, 4, num_kv_heads=2))
    x, memory = leaf(2, 3, 8), leaf(2, 5, 8, seed=1)
    assert layer(x, memory).shape == (2, 3, 8)
    assert gradcheck(layer, [x, memory])
    assert np.allclose(layer(x, x).numpy(), layer(x).numpy())


def test_causal_attention_does_not_see_the_future() -> None:
    layer, x = MultiHeadAttention(8, 2, causal=True), tt_core.randn(1, 6, 8)
    changed = x.clone()
    with no_grad():
        changed[:, 4:] = 9.0
        assert np.allclose(layer(x).numpy()[:, :4], layer(changed).numpy()[:, :4], atol=1e-6)


def test_dropout_only_while_training() -> None:
    layer, x = MultiHeadAttention(8, 2, dropout=0.5), tt_core.randn(1, 6, 8)
    assert not np.allclose(layer(x).numpy(), layer(x).numpy())
    layer.eval()
    assert np.array_equal(layer(x).numpy(), layer(x).numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3), "8 does not divide into 3 heads"),
        ((8, 4, 0.0, True), "share 3"),
    ],
)
def test_sizes_that_do_not_divide(arguments: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        MultiHeadAttention(*arguments, num_kv_heads=3 if len(arguments) > 2 else None)


def test_inputs_of_the_wrong_width() -> None:
    with pytest.raises(ShapeError, match=r"expected \(batch, length, 8\), got \(5, 8\)"):
        MultiHeadAttention(8, 2)(tt_core.ones(5, 8))


def test_the_heat_map_is_svg_with_a_cell_a_weight(tmp_path: Path) -> None:
    heat_map(np.eye(3)[None].repeat(2, 0), tmp_path / "heads.svg", ["a", "<", "\n"], ["x", "y", "z"], "who & where")
    root = ET.parse(tmp_path / "heads.svg").getroot()
    cells = [e.get("fill") for e in root.iter() if e.tag.endswith("rect")][1:]
    assert len(cells) == 2 * 9
    assert cells[0] == "rgb(0,0,255)"
    assert cells[1] == "rgb(255,255,255)"
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert texts == [
        "who & where",
        *["head 0", "a", "<", r"\n", "x", "y", "z"],
        *["head 1", "a", "<", r"\n", "x", "y", "z"],
    ]
    with pytest.raises(ShapeError, match="a label for each"):
        heat_map(np.eye(3), tmp_path / "heads.svg", ["a"])


def test_weights_that_are_asked_for_while_training_are_dropped_out_as_those_that_are_not() -> None:
    layer = MultiHeadAttention(8, num_heads=2, dropout=0.5)
    x = leaf(2, 6, 8, scale=0.1).float()
    out, weights = layer(x, need_weights=True)
    assert 0.2 < (weights.data == 0).mean() < 0.8
    assert not np.allclose(out.data, layer.eval()(x).data)
    assert np.allclose(layer(x, need_weights=True)[0].data, layer(x).data, atol=1e-6)


@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 3, 3), (2, 0, 3), (2, 3, 0), (2, 0, 0)])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_of_nothing(batch: int, queries: int, keys: int, need_weights: bool) -> None:
    layer = MultiHeadAttention(8, num_heads=2)
    out = layer(leaf(batch, queries, 8).float(), leaf(batch, keys, 8).float(), need_weights=need_weights)
    out = out[0] if need_weights else out
    assert out.shape == (batch, queries, 8)
    assert np.array_equal(out.data, np.broadcast_to(layer.out_proj.bias.data, out.shape) if not keys else out.data)
    out.sum().backward()


def test_a_mask_of_whole_numbers_is_refused_with_weights_too() -> None:
    with pytest.raises(DTypeError, match="boolean"):
        MultiHeadAttention(8, num_heads=2)(leaf(1, 3, 8).float(), attn_mask=np.tri(3, dtype=int), need_weights=True)


def test_options_that_are_not_shapes() -> None:
    x = tt_core.ones(2, 3, 4)
    with pytest.raises(ArgumentError, match="dropout is a probability"):
        MultiHeadAttention(8, num_heads=2, dropout=1.5)
    with pytest.raises(ArgumentError, match="num_heads is 0"):
        MultiHeadAttention(8, num_heads=0)
    with pytest.raises(ArgumentError, match=r"dropout_p is a probability, got 1\.5"):
        scaled_dot_product_attention(x, x, x, dropout_p=1.5)


# --- what a second look found


@pytest.mark.parametrize("keys", [400, 1000, 5000])
def test_float16_sums_do_not_end_at_its_largest_number(keys: int) -> None:
    """exp(5) 1,000 times is more than float16 holds, and a sum of ones in float16 ends at 2048."""
    query, key = (np.full((1, 1, n, 16), 1.1, np.float16) for n in (2, keys))
    value = np.random.default_rng(0).standard_normal((1, 1, keys, 3)).astype(np.float16)
    leaves = [Tensor(x, requires_grad=True) for x in (query, key, value)]
    wide = [Tensor(x.astype(np.float32), requires_grad=True) for x in (query, key, value)]
    for arrays in (leaves, wide):
        (scaled_dot_product_attention(*arrays) * np.arange(6.0, dtype=arrays[0].dtype).reshape(2, 3)).sum().backward()
    assert scaled_dot_product_attention(*leaves).dtype == np.float16
    for narrow, exact in zip(leaves, wide):
        assert narrow.grad.dtype == np.float16
        assert np.allclose(narrow.grad.numpy(), exact.grad.numpy(), rtol=2e-3, atol=5e-5)


def test_a_memory_without_a_batch_is_an_error() -> None:
    """(2, 8) would be one memory of two vectors, which both rows look at."""
    with pytest.raises(ShapeError, match=r"memory is \(batch, length, features\), got \(2, 8\)"):
        MultiHeadAttention(8, 2)(tt_core.ones(2, 3, 8), tt_core.ones(2, 8))


def test_all_initial_values_are_drawn_again() -> None:
    tt_core.manual_seed(0)
    layer = MultiHeadAttention(8, 2)
    before = {name: p.numpy().copy() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    for name, p in layer.named_parameters():
        assert np.array_equal(p.numpy(), before[name]) == name.endswith("bias")


def test_weights_that_are_no_numbers_are_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be finite"):
        heat_map(np.array([[np.nan, 1.0]]), tmp_path / "a.svg")


@pytest.mark.parametrize("queries", [1, 4, 5])
def test_few_queries_have_the_results_and_gradients_of_many(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    q, k, v = (draw.standard_normal((2, 3, n, 4)).astype(np.float32) for n in (queries, 9, 9))
    results = []
    for few in (4, 0):
        monkeypatch.setattr(blocks, "_FEW", few)
        inputs = [tt_core.tensor(x, requires_grad=True) for x in (q, k, v)]
        out = scaled_dot_product_attention(*inputs, is_causal=True, causal_offset=9 - queries)
        (out * out).sum().backward()
        results.append([out.data, *[x.grad.data for x in inputs]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_joining_copies_nothing_where_heads_lie_side_by_side() -> None:
    whole = np.arange(2 * 5 * 12, dtype=np.float32).reshape(2, 5, 12)
    parts = split_heads.kernel(whole, heads=(2, 1, 1))
    assert np.shares_memory(join_heads.kernel(*parts), whole)
    np.testing.assert_array_equal(join_heads.kernel(*parts), whole)
    others = [
        parts[::-1],  # in another order
        parts[:2],  # not all
        (parts[0], parts[2], parts[2]),  # one twice
        tuple(part[:1] for part in parts),  # of a part of the batch
        tuple(part.copy() for part in parts),
        tuple(part[:, :, ::-1] for part in parts),
        split_heads.kernel(whole[:, :, :8], heads=(1, 1)),  # of a part of the features
    ]
    for given in others:
        joined = join_heads.kernel(*given)
        assert not np.shares_memory(joined, whole)
        np.testing.assert_array_equal(joined, join_heads.formula(*given))
