"""PyTorch's own sample inputs (OpInfo) through every op that PyTorch and we call by one name.

A sample counts as the same, as refused (one of our errors), or as different: another value, shape or kind of dtype.
None may differ but for those in `KNOWN`, each of which is a row of docs/deviations.md. The short test takes the first
samples of each op, the long one (marker `fuzz`) all of them.
"""

from __future__ import annotations

import functools
import itertools
import sys
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import tt_core
import tt_data
import tt_language
from tt_core.engine.errors import TinyTorchError

torch = pytest.importorskip("torch")

DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64, "bool": torch.bool}
FIRST = 4

SKIPPED = {
    *("empty", "empty_like", "new_empty", "empty_strided", "empty_permuted"),  # memory as it is found
    *("dropout", "dropout2d", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm"),
    *("normal", "multinomial", "bernoulli", "uniform", "exponential"),
    "item",  # Python numbers on both sides
    "gradient",  # another thing by this name
}

KNOWN = {
    "__rand__": "`&`, `|`, `~`",
    "__ror__": "`&`, `|`, `~`",
    "clamp": "promotion",
}
"""Ops with samples that differ on purpose, and the row of docs/deviations.md that says so."""


@functools.cache
def op_db() -> list[Any]:
    """PyTorch's table; it imports `expecttest`, which its samples do not use, so a stand-in will do."""
    if "expecttest" not in sys.modules:
        stand_in: Any = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        sys.modules["expecttest"] = stand_in
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def forms(name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What we call by this name: a method, a function, or both."""
    plain = name.removeprefix("nn.functional.")
    if "." in plain or plain in SKIPPED:
        return
    method = getattr(tt_core.Tensor, plain, None)
    if callable(method) and plain == name:
        yield f"Tensor.{plain}", lambda x, *more, **options: getattr(x, plain)(*more, **options)
    for module in (tt_core,) if plain == name else (tt_core, tt_data, tt_language):
        function = getattr(module, plain, None)
        if callable(function) and not isinstance(function, type):
            yield f"{module.__name__}.{plain}", function
            return


def ours(value: Any) -> Any:
    """PyTorch's tensors, dtypes and sizes as ours."""
    if isinstance(value, torch.Tensor):
        return tt_core.tensor(value.detach().numpy())
    if isinstance(value, torch.dtype):
        return torch.empty(0, dtype=value).numpy().dtype
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(ours, value)) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {key: ours(part) for key, part in value.items()}
    return value


FOREIGN = ("device", "layout", "pin_memory", "requires_grad", "memory_format", "out")
"""Options about storage that have no meaning here."""


def parts(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [part for each in value for part in parts(each)]
    return [value]


def pointed_at(x: np.ndarray, indices: np.ndarray, dim: int) -> np.ndarray:
    """What indices point at: equal elements may come in any order."""
    return np.take_along_axis(x, indices, dim) if indices.ndim else indices


def difference(mine: Any, theirs: Any) -> str:
    """Why the two are not the same; empty where they are."""
    left, right = parts(mine), parts(theirs)
    if len(left) != len(right):
        return f"{len(left)} results, PyTorch has {len(right)}"
    for a, b in zip(left, right):
        if not isinstance(b, torch.Tensor):
            if a != b and not (a != a and b != b):
                return f"{a!r}, PyTorch has {b!r}"
            continue
        if not isinstance(a, tt_core.Tensor):
            return f"a {type(a).__name__}, PyTorch has a tensor"
        x, y = a.data, b.detach().resolve_conj().resolve_neg().numpy()
        if x.shape != y.shape:
            return f"shape {x.shape}, PyTorch has {y.shape}"
        if x.dtype.kind != y.dtype.kind or (x.dtype.kind == "f" and x.dtype != y.dtype):
            return f"{x.dtype}, PyTorch has {y.dtype}"
        tolerance = 1e-4 if y.dtype == np.float32 else 1e-9
        if not np.allclose(x.astype(float), y.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"values {x.reshape(-1)[:5]}, PyTorch has {y.reshape(-1)[:5]}"
    return ""


class Found(NamedTuple):
    counts: Counter[str]
    differing: list[str]


def compare(dtype: str, first: int | None) -> Found:
    counts: Counter[str] = Counter()
    differing = []
    for info in op_db():
        named = list(forms(info.name))
        if not named or DTYPES[dtype] not in info.supported_dtypes("cpu"):
            continue
        torch.manual_seed(0)
        samples = info.sample_inputs("cpu", DTYPES[dtype], requires_grad=False)
        for sample in itertools.islice(samples, first):
            try:
                theirs = info.op(sample.input, *sample.args, **sample.kwargs)
            except Exception:
                continue  # PyTorch refuses it too
            inputs = (ours(sample.input), *map(ours, sample.args))
            options = {key: ours(value) for key, value in sample.kwargs.items() if key not in FOREIGN}
            if options.get("dropout_p"):
                continue  # random
            if info.name == "where":  # called with the condition in the second place
                inputs = (inputs[1], inputs[0], *inputs[2:])
            for form, call in named:
                verdict = outcome(info.name, call, inputs, options, theirs)
                kind = verdict if verdict in ("same", "refused") else "different"
                if kind == "different" and info.name in KNOWN:
                    kind = "known"
                elif kind == "different":
                    given = ", ".join([*map(shown, inputs), *(f"{k}={shown(v)}" for k, v in options.items())])
                    differing.append(f"{form}({given}) [{info.variant_test_name}]: {verdict}")
                counts[kind] += 1
    return Found(counts, differing)


ORDERED = {"sort": 1, "topk": 2, "argsort": 1}
"""Ops that order elements, and the place of `dim` among their arguments."""


def outcome(name: str, call: Callable[..., Any], inputs: Any, options: Any, theirs: Any) -> str:
    try:
        mine = call(*inputs, **options)
    except TinyTorchError:
        return "refused"
    except TypeError as error:  # Python's word for an argument that a function does not have
        return "refused" if "argument" in str(error) else f"raised {error!r}"
    except Exception as error:
        return f"raised {error!r}"
    if name in ("sort", "topk", "argsort"):
        x, dim = inputs[0].data, options.get("dim", inputs[ORDERED[name]] if len(inputs) > ORDERED[name] else -1)
        mine, theirs = parts(mine), parts(theirs)
        places = [pointed_at(x, np.asarray(part), dim) for part in (mine[-1], theirs[-1])]
        if not np.array_equal(*places, equal_nan=x.dtype.kind == "f"):
            return f"indices of {places[0].reshape(-1)[:5]}, PyTorch has those of {places[1].reshape(-1)[:5]}"
        mine, theirs = mine[:-1], theirs[:-1]
    if name in ("kthvalue", "median", "nanmedian", "mode"):
        mine, theirs = parts(mine)[:1], parts(theirs)[:1]  # which of equal elements is named differs
    return difference(mine, theirs) or "same"


def shown(value: Any) -> str:
    if isinstance(value, tt_core.Tensor):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)[:60]


def check(dtype: str, first: int | None) -> None:
    found = compare(dtype, first)
    print(f"{dtype}: {dict(found.counts)}")
    assert found.counts["same"] > 100
    assert not found.differing, "\n".join([f"{len(found.differing)} samples differ", *found.differing])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_samples_agree(dtype: str) -> None:
    check(dtype, FIRST)


@pytest.mark.fuzz
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_samples_agree(dtype: str) -> None:
    check(dtype, None)
