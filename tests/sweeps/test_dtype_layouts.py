"""Every public function, called with tensors of each dtype in each memory layout.

The valid calls are those of `valid_calls.py`. A call gives the same numbers in the same dtype in every layout, or an
error of ours in every layout; a big-endian array is taken like a tensor of this machine's byte order. It gives no NumPy
warning and leaves its inputs unchanged. float16 stays float16, near the result of float64.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import valid_calls as calls

import tt_core
import tt_learn
from tt_core.engine.errors import TinyTorchError

DTYPES = ("float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
LAYOUTS: dict[str, Callable[[Any], Any]] = {"plain": lambda array: array, **calls.LAYOUTS}
FILES = re.compile(r"load|save|read|picture|heat_map")
LEFT = {
    "distillation_loss": "calls methods of its arguments",
    "use": "plugs something in",
    "view": "gives an error where a layout allows no view",
}
NAMES = [
    name
    for name, thing in calls.ALL.items()
    if name not in LEFT and not isinstance(thing, type) and not re.search(r"\.(?<!functional\.)", name)
    if not (calls.KEPT.match(name) or calls.HEAVY.match(name) or FILES.match(name))
]
IN_FLOAT32 = re.compile(
    r"Parameter$|as_tensor|cast|choose_qparams|dequantize|eye|full$|int8_|linspace|logspace|ones$|quantized_"
    r"|randn?$|tensor$|zeros$|batch_norm_training"
)
"""What is made of numbers or of integers, not of a float16 tensor; statistics, which are accumulated in float32."""
ROUNDED = re.compile(r"int8_|quantize|fake_quantize|randn?_like")
"""What rounds to steps, where float16 may fall on another one; and what draws other numbers for another dtype."""


def _changed(value: Any, change: Callable[[Any], Any], as_array: bool) -> Any:
    if isinstance(value, tt_core.Tensor):
        array = change(value.data)
        if as_array:
            return array
        made = tt_learn.tensor(0.0)
        made.data = array
        return made
    if isinstance(value, np.ndarray):
        return change(value)
    return (
        type(value)(_changed(part, change, as_array) for part in value) if isinstance(value, (list, tuple)) else value
    )


def _outcome(name: str, dtype: str, layout: str) -> list[Any] | TinyTorchError:
    """The arrays that a call gives with its floats three times as large and in `dtype`, or its error."""
    tt_core.manual_seed(0)
    bound, _ = calls.bound_call(name)

    def change(array: Any) -> Any:
        if array.dtype.kind == "f":
            array = array * 3 > 0 if dtype == "bool" else (array * 3).astype(dtype)
        return LAYOUTS[layout](array)

    for argument, value in list(bound.arguments.items()):
        bound.arguments[argument] = _changed(value, change, layout == "big-endian")
    before = calls.snapshot(bound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"\w+: ", UserWarning)  # ours
        try:
            result = calls.called(name, bound)
        except TinyTorchError as error:
            return error
    assert all(calls.same(array, copied) for array, copied in before), f"{name} changed its input"
    return [np.array(array) for array in calls.arrays(result if isinstance(result, (list, tuple)) else [result])]


def _differ(name: str, expected: Any, given: Any, tolerance: float, same_dtype: bool = True) -> str | None:
    if isinstance(expected, TinyTorchError) or isinstance(given, TinyTorchError):
        return None if type(expected) is type(given) else f"{name}: {expected!r}, {given!r}"
    for a, b in zip(expected, given):
        if a.shape != b.shape or (same_dtype and a.dtype != b.dtype):
            return f"{name}: {a.dtype} {a.shape}, {b.dtype} {b.shape}"
        if not np.allclose(a.astype(np.float64), b.astype(np.float64), tolerance, tolerance, equal_nan=True):
            return f"{name}: {a.ravel()[:4]}, {b.ravel()[:4]}"
    return None


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calls, "folders", [tmp_path])


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_of_every_dtype_give_the_same(dtype: str) -> None:
    found = []
    for name in NAMES:
        try:
            plain = _outcome(name, dtype, "plain")
            for layout in list(LAYOUTS)[1:]:
                tolerance = 1e-2 if dtype == "float16" else 1e-5
                fault = _differ(name, plain, _outcome(name, dtype, layout), tolerance)
                found += [f"{layout}: {fault}"] if fault else []
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
    assert not found, "\n".join(found)


def test_float16_stays_float16_and_is_near_float64() -> None:
    found = []
    for name in NAMES:
        half, double = _outcome(name, "float16", "plain"), _outcome(name, "float64", "plain")
        found += [] if ROUNDED.match(name) else [_differ(name, double, half, 2e-2, same_dtype=False)]
        if isinstance(half, list) and isinstance(double, list) and not IN_FLOAT32.match(name):
            wide = [b for a, b in zip(double, half) if a.dtype == np.float64 and b.dtype != np.float16]
            found += [f"{name}: {b.dtype} of float16" for b in wide]
    found = [fault for fault in found if fault]
    assert not found, "\n".join(map(str, found))
