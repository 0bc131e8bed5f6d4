"""float16 and integers through every op, layer and loss of the six packages.

float16: results and gradients are those of float64, rounded once, whatever is added up and along whichever dimension.
Integers and booleans: each op follows one of six rules, PyTorch's. The inputs of an op that is in none of the tables
below come from its signature; where that is not possible, the test fails: the op needs a line here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygpt  # noqa: F401 - registers its ops
import tt_core as tt
import tt_data
import tt_language
import tt_learn
import tt_perf  # noqa: F401
from tt_core.engine.dispatch import Op, registry
from tt_core.engine.errors import DTypeError, TinyTorchError

LONG = 2500
"""More terms than float16 can count."""
SHAPES = ((LONG, 3), (3, LONG))

Inputs = list[Any]  # arrays of float64 become float16, and get gradients
Made = tuple[Inputs, dict[str, Any]]


def random(name: str, seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), seed])


def positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers around 1, equal in float16 and float64, whose sums and products do not cancel."""
    return rng.uniform(0.5, 1.5, shape).astype(np.float16).astype(np.float64)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(0.1, 0.9, shape).astype(np.float16).astype(np.float64)


P, U = positive, unit
Table = dict[str, Callable[[np.random.Generator], list[Made]]]


def along(make: Callable[..., np.ndarray] = positive, **attributes: Any) -> Callable[[np.random.Generator], list[Made]]:
    """Each long dimension, and all of them."""
    return lambda r: [([make(r, *s)], {**attributes, "dim": d}) for s in SHAPES for d in (0, 1)]


CASES: Table = {
    "adaptive_avg_pool2d": lambda r: [([P(r, 2, 3, 60, 50)], {"output_size": 1})],
    "argsort": along(stable=True),
    "avg_pool2d": lambda r: [([P(r, 2, 3, 60, 50)], {"kernel_size": 50})],
    "batch_norm_training": lambda r: [([P(r, LONG, 3), P(r, 3), P(r, 3)], {})],
    "batch_norm_inference": lambda r: [([P(r, LONG, 3), *(P(r, 3) for _ in range(4))], {})],
    "binary_cross_entropy": lambda r: [([U(r, *s), U(r, *s)], {}) for s in SHAPES],
    "cat": lambda r: [([P(r, 2, 3), P(r, 4, 3)], {"dim": 0})],
    "clip": lambda r: [([P(r, 40, 30), 0.75, 1.25], {}), ([P(r, LONG, 3), P(r, 3), 1.25], {})],
    "conv2d": lambda r: [([P(r, 2, 300, 6, 6), P(r, 2, 300, 3, 3), P(r, 2)], {"padding": 1}),
                         ([P(r, 300, 2, 6, 6), P(r, 2, 2, 3, 3), P(r, 2)], {})],
    "conv2d_input": lambda r: [([P(r, 2, 300, 4, 4), P(r, 300, 2, 3, 3)], {"size": (6, 6)})],
    "conv2d_weight": lambda r: [([P(r, 300, 2, 4, 4), P(r, 300, 2, 6, 6)], {"kernel_size": (3, 3)})],
    "cross_entropy": lambda r: [([P(r, *s), r.integers(0, 3, s[0]), None], {"reduction": k})
                                for s in SHAPES for k in ("mean", "sum", "none")],
    "cumsum": along(),
    "div": lambda r: [([P(r, LONG, 3), P(r, 3)], {}), ([P(r, 3, LONG), P(r, 3, 1)], {})],
    "einsum": lambda r: [([P(r, LONG, 3)], {"equation": e}) for e in ("ij->j", "ij->i", "ij->")]
    + [([P(r, 3, LONG), P(r, LONG, 2)], {"equation": "ij,jk->ik"})],
    "embedding": lambda r: [([r.integers(0, 3, LONG), P(r, 3, n)], {}) for n in (4, 300)],
    "expand": lambda r: [([P(r, 1, 3)], {"shape": (LONG, 3)}), ([P(r, 3, 1)], {"shape": (3, LONG)})],
    "adaptive_max_pool2d_with_indices": lambda r: [([P(r, 2, 3, 12, 12)], {"output_size": (3, 2)})],
    "flip": lambda r: [([P(r, 40, 30)], {"dims": (0,)})],
    "fold": lambda r: [([P(r, 2, 50 * 50, 9)], {"output_size": (52, 52), "kernel_size": 50})],
    "add_at": lambda r: [([P(r, LONG, 4)], {"index": r.integers(0, 3, LONG), "shape": (3, 4)})],
    "getitem": lambda r: [([P(r, 3, 4)], {"index": r.integers(0, 3, LONG)}), ([P(r, 3, 4)], {"index": (1, slice(2))})],
    "index_select": lambda r: [([P(r, 3, 4), r.integers(0, 3, LONG)], {"dim": d}) for d in (0, 1)],
    "join_heads": lambda r: [([P(r, 2, 3, 4, 5)], {})],
    "layer_norm": lambda r: [([P(r, *s), P(r, s[1]), P(r, s[1])], {}) for s in SHAPES],
    "linear": lambda r: [([P(r, 3, LONG), P(r, 2, LONG), P(r, 2)], {}), ([P(r, LONG, 3), P(r, 2, 3), P(r, 2)], {}),
                         ([P(r, 3, LONG), P(r, LONG), None], {})],
    "log_softmax": along(),
    "masked_fill": lambda r: [([P(r, 40, 30), r.random((40, 30)) < 0.5, 2.0], {})],
    "matmul": lambda r: [([P(r, 3, LONG), P(r, LONG, 2)], {}), ([P(r, 5, 500, 3), P(r, 3, 2)], {}),
                         ([P(r, LONG), P(r, LONG)], {}), ([P(r, LONG, 2), P(r, 2)], {})],
    "max_pool2d": lambda r: [([P(r, 2, 3, 12, 12)], {"kernel_size": 3, "stride": 1})],
    "max_pool2d_with_indices": lambda r: [([P(r, 2, 3, 12, 12)], {"kernel_size": 3, "stride": 1})],
    "pad": lambda r: [([P(r, 3, 4)], {"pad": (LONG, 0), "mode": m}) for m in ("constant", "replicate")],
    "permute": lambda r: [([P(r, 40, 30)], {"dims": (1, 0)})],
    "prod": lambda r: [([P(r, *s)], {"dim": d}) for s in ((40, 3), (3, 40)) for d in (0, 1)],
    # not longer, for products of float16 numbers leave its range
    "put_at_indices": lambda r: [([P(r, 2, 3, 4), r.permutation(24).reshape(2, 3, 4) % 12], {"output_size": (3, 4)})],
    "repeat_interleave": lambda r: [([P(r, 2, 3)], {"repeats": LONG, "dim": d}) for d in (0, 1)],
    "reshape": lambda r: [([P(r, 40, 30)], {"shape": (30, 40)})],
    "rms_norm": lambda r: [([P(r, *s), P(r, s[1])], {}) for s in SHAPES],
    "roll": lambda r: [([P(r, 40, 30)], {"shifts": 3})],
    "rotary": lambda r: [([P(r, 4, 3, 8), P(r, 3, 4), P(r, 3, 4)], {})],
    "rows_product": lambda r: [([P(r, LONG, 3), P(r, LONG, 2)], {})],
    "running_extreme": lambda r: [([P(r, 40, 30)], {"dim": d}) for d in (0, 1)],
    "attention_weights": lambda r: [([P(r, 1, 2, 5, 8), P(r, 1, 2, LONG, 8), None], {})],
    "scaled_dot_product_attention": lambda r: [
        ([P(r, 1, 2, 5, 8) * s, P(r, 1, 2, n, 8) * s, P(r, 1, 2, n, 8), None], {}) for s, n in ((1, LONG), (4, 16))],
    "softmax": along(),
    "split_heads": lambda r: [([P(r, 2, 3, 8)], {"heads": (2,)})],
    "squeeze": lambda r: [([P(r, 40, 1)], {})],
    "stack": lambda r: [([P(r, 2, 3), P(r, 2, 3)], {"dim": 1})],
    "sum_to": lambda r: [([P(r, LONG, 3)], {"shape": s}) for s in ((3,), (LONG, 1), ())],
    "take_along_dim": lambda r: [([P(r, 3, 4), r.integers(0, 3, (LONG, 4))], {"dim": 0})],
    "topk_indices": lambda r: [([r.permutation(1200).astype(float).reshape(40, 30)], {"k": 3})],
    "transpose": lambda r: [([P(r, 40, 30)], {"dim0": 0, "dim1": 1})],
    "unsqueeze": lambda r: [([P(r, 40, 30)], {"dim": 1})],
    "unfold": lambda r: [([P(r, 1, 2, 60, 60)], {"kernel_size": 50})],
    "resample": lambda r: [([P(r, 1, 2, 4, 4)], {"size": (60, 60), "mode": m}) for m in ("nearest", "bilinear")],
    "view": lambda r: [([P(r, 40, 30)], {"shape": (30, 40)})],
    "where": lambda r: [([r.random((LONG, 3)) < 0.5, P(r, 3), P(r, LONG, 1)], {})],
}  # fmt: skip
"""Inputs and attributes of ops that their signature does not tell."""

SKIPPED = {
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"), "takes integers alone"),
    **dict.fromkeys(
        ("quantize_affine", "dequantize_affine", "fake_quantize", "integer_product", "quantized_embedding",
         "quantized_linear", "quantized_linear_input", "int8_conv2d", "int8_linear_dynamic", "int8_linear_static"),
        "computes with integers of 4 or 8 bits; packages/tt-perf/tests/test_quantization.py holds it exact",
    ),
    "cast": "is asked for another dtype",
    "dropout": "is random", "dropout2d": "is random",
    "max_pool2d_index": "adds nothing up",
    "max_pool2d_select": "is a gradient",
    "rotary": "gets its angles in float32",
}  # fmt: skip


def from_signature(op: Op, rng: np.random.Generator) -> list[Made]:
    if op.variadic or op.required > 2:
        return []
    if op.required == 2:
        return [([P(rng, LONG, 3), P(rng, 3)], {}), ([P(rng, 3, LONG), P(rng, 3, 1)], {})]
    if not op.defaulted:
        return along()(rng) if set(op.attributes) <= {"dim", "keepdim"} else []
    cases = [([P(rng, *shape)], {"dim": d} if "dim" in op.attributes else {}) for shape in SHAPES for d in (0, 1)]
    return cases if "dim" in op.attributes else cases[::2]


def cases_of(op: Op, seed: int = 0) -> list[Made]:
    rng = random(op.name, seed)
    made = CASES[op.name](rng) if op.name in CASES else from_signature(op, rng)
    return [(inputs + [None] * (len(op.inputs) - len(inputs)) if not op.variadic else inputs, a) for inputs, a in made]


OPS = [op for name, op in sorted(registry.items()) if not name.endswith("_backward") and name not in SKIPPED]


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def run(function: Callable[..., Any], inputs: Inputs, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Results, and gradients of the inputs for gradients of the results that are the same in each dtype."""
    given = [tt_learn.Tensor(x.astype(dtype), requires_grad=True) if is_float(x) else x for x in inputs]
    results = function(*given)
    results = [x for x in (results if isinstance(results, tuple) else (results,)) if isinstance(x, tt.Tensor)]
    first = results[0]
    if first.requires_grad:
        g = positive(np.random.default_rng(1), *first.shape)
        first.backward(g.astype(dtype))
    grads = [x.grad.data for x in given if isinstance(x, tt_learn.Tensor) and x.grad is not None]
    return [x.data for x in results], grads


def close(found: np.ndarray, exact: np.ndarray, what: str) -> None:
    assert found.shape == exact.shape, what
    if exact.dtype.kind != "f":
        return np.testing.assert_array_equal(found, exact, err_msg=what)
    with np.errstate(over="ignore"):
        exact = exact.astype(np.float16).astype(np.float64)  # what does not fit is infinite in both
    size = np.abs(exact[np.isfinite(exact)]).max(initial=0)
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=3e-3, atol=2e-3 * size, err_msg=what)


def check_float16(function: Callable[..., Any], inputs: Inputs, what: str) -> None:
    results, grads = run(function, inputs, "float16")
    exact_results, exact_grads = run(function, inputs, "float64")
    assert len(grads) == len(exact_grads), what
    assert all(x.dtype == np.float16 for x in grads), what
    assert all(x.dtype == np.float16 for x, y in zip(results[:1], exact_results) if y.dtype.kind == "f"), what
    for i, (found, exact) in enumerate(zip(results[:1], exact_results)):
        close(found, exact, f"{what}: result {i}")
    for i, (found, exact) in enumerate(zip(grads, exact_grads)):
        close(found, exact, f"{what}: gradient {i}")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_float16_is_float64_rounded(op: Op) -> None:
    check_op(op, seed=0)


@pytest.mark.fuzz
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_float16_is_float64_rounded_for_many_inputs(op: Op) -> None:
    for seed in range(1, 20):
        check_op(op, seed)


def check_op(op: Op, seed: int) -> None:
    for inputs, attributes in cases_of(op, seed):
        shapes = [x.shape if isinstance(x, np.ndarray) else x for x in inputs]
        check_float16(lambda *given, a=attributes: op.call(*given, **a), inputs, f"{op.name} {shapes} {attributes}")


def test_every_op_has_inputs() -> None:
    missing = [op.name for op in OPS if not cases_of(op)]
    assert not missing, "each of these needs inputs in CASES, or a reason in SKIPPED"


# --- layers and losses

LAYERS: dict[str, Callable[[], tuple[Any, tuple[int, ...]]]] = {
    "Linear": lambda: (tt.Linear(LONG, 2), (3, LONG)),
    "Linear of many rows": lambda: (tt.Linear(3, 2), (LONG, 3)),
    "LayerNorm": lambda: (tt.LayerNorm(LONG), (3, LONG)),
    "RMSNorm": lambda: (tt_language.RMSNorm(LONG), (3, LONG)),
    "Conv2d": lambda: (tt_data.Conv2d(200, 2, 3), (2, 200, 6, 6)),
    "BatchNorm2d": lambda: (tt_data.BatchNorm2d(2), (50, 2, 8, 8)),
    "MultiHeadAttention": lambda: (tt_language.MultiHeadAttention(8, 2), (2, 60, 8)),
    "FeedForward": lambda: (tt_language.FeedForward(8, 600), (2, 5, 8)),
    "SwiGLU": lambda: (tt_language.SwiGLU(8, 600), (2, 5, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_float16_layers_are_float64_rounded(name: str) -> None:
    tt.manual_seed(0)
    layer, shape = LAYERS[name]()
    parameters = {key: p.data.astype(np.float16) for key, p in layer.named_parameters()}
    x = positive(random(name), *shape)

    def compute(dtype: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        for key, p in layer.named_parameters():
            p.data, p.grad = parameters[key].astype(dtype), None
        given = tt_learn.Tensor(x.astype(dtype), requires_grad=True)
        out = layer(given)
        out.backward(positive(np.random.default_rng(1), *out.shape).astype(dtype))
        return out.data, {"input": given.grad.data, **{k: p.grad.data for k, p in layer.named_parameters()}}

    out, grads = compute("float16")
    exact, exact_grads = compute("float64")
    assert out.dtype == np.float16
    size = np.abs(exact).max()
    np.testing.assert_allclose(out.astype(float), exact, rtol=5e-3, atol=5e-3 * size)
    for key, found in grads.items():
        assert found.dtype == np.float16
        wanted = exact_grads[key]
        # several layers, each of which rounds
        scale = max(np.abs(wanted).max(), 1e-6)
        np.testing.assert_allclose(found.astype(float), wanted, rtol=1e-2, atol=1e-2 * scale, err_msg=key)


LOSSES: dict[str, Callable[[np.random.Generator], Inputs]] = {
    "mse_loss": lambda r: [P(r, LONG, 3) * 100, P(r, LONG, 3)],
    "l1_loss": lambda r: [P(r, LONG, 3) * 100, P(r, LONG, 3)],
    "smooth_l1_loss": lambda r: [P(r, LONG, 3) * 100, P(r, LONG, 3)],
    "kl_div": lambda r: [-P(r, LONG, 3), P(r, LONG, 3)],
    "nll_loss": lambda r: [-P(r, LONG, 3), r.integers(0, 3, LONG)],
    "cross_entropy": lambda r: [P(r, LONG, 3), r.integers(0, 3, LONG)],
    "binary_cross_entropy": lambda r: [U(r, LONG, 3), U(r, LONG, 3)],
    "binary_cross_entropy_with_logits": lambda r: [P(r, LONG, 3), U(r, LONG, 3)],
    "contrastive_loss": lambda r: [P(r, 3, LONG), 3 - P(r, 3, LONG), np.array([0, 1, 0])],
    "info_nce_loss": lambda r: [P(r, 3, LONG), P(r, 3, LONG)],
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_float16_losses_are_float64_rounded(name: str, reduction: str) -> None:
    inputs = LOSSES[name](random(name))
    check_float16(lambda *given: getattr(tt, name)(*given, reduction=reduction), inputs, f"{name} {reduction}")


# --- integers and booleans

FLOAT32 = {"exp", "log", "log1p", "expm1", "sqrt", "norm", "sin", "cos", "erf", "sigmoid", "tanh", "silu", "gelu",
           "softplus", "leaky_relu", "logsumexp", "div"}  # fmt: skip
INT64 = {"sum", "prod", "cumsum", "argmax", "argmin", "argsort"}
BOOL = {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "isnan", "isfinite", "all",
        "any"}  # fmt: skip
SAME = {"add", "mul", "sub", "floor_divide", "remainder", "pow", "maximum", "minimum", "abs", "neg", "sign", "floor",
        "ceil", "round", "relu", "matmul", "linear", "amax", "amin", "cat", "stack", "flip", "roll", "permute", "view",
        "reshape", "expand", "tril", "triu", "transpose", "squeeze", "unsqueeze", "clone", "contiguous"}  # fmt: skip
FLOATS_ONLY = {
    "mean",
    "var",
    "std",
    "softmax",
    "log_softmax",
    "cross_entropy",
    "layer_norm",
    "rms_norm",
    "batch_norm_training",
}
NOT_OF_BOOLEANS = {"sub", "neg", "sign", "floor", "ceil", "round", "floor_divide", "remainder", "pow", "relu"}
"""What PyTorch refuses, or computes in another type: ours refuses or keeps to NumPy's."""


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
@pytest.mark.parametrize("name", sorted(FLOAT32 | INT64 | BOOL | SAME | FLOATS_ONLY))
def test_integers_follow_their_rule(name: str, dtype: str) -> None:
    if dtype == "bool" and name in NOT_OF_BOOLEANS:
        pytest.skip("not of booleans")
    op, rng = registry[name], random(name)
    for inputs, attributes in cases_of(op):
        whole = [rng.integers(1, 3, x.shape) if is_float(x) else x for x in inputs]
        given = [x.astype(dtype) if is_float(old) else x for x, old in zip(whole, inputs)]
        wide = [x.astype(dtype).astype(np.int64) if is_float(old) else x for x, old in zip(whole, inputs)]
        if name in FLOATS_ONLY:
            with pytest.raises(DTypeError):
                op.call(*given, **attributes)
            continue
        found = op.call(*given, **attributes).data
        if name in FLOAT32:
            exact = op.call(
                *[x.astype(np.float64) if is_float(old) else x for x, old in zip(wide, inputs)], **attributes
            )
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, exact.data, rtol=1e-5, atol=1e-6)
            continue
        exact = op.call(*wide, **attributes).data
        rule = np.int64 if name in INT64 else np.bool_ if name in BOOL else np.dtype(dtype)
        assert found.dtype == rule
        np.testing.assert_array_equal(found, exact.astype(rule))  # small integers wrap, as PyTorch's do


def test_every_rule_is_of_an_op() -> None:
    assert (FLOAT32 | INT64 | BOOL | SAME | FLOATS_ONLY | set(SKIPPED)) <= set(registry)
    assert issubclass(DTypeError, TinyTorchError)
