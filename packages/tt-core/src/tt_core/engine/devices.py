"""The CPU, the only device, under PyTorch's names, so that a script written for several devices runs unchanged.

Arrays are in the memory of the CPU. "cpu" is accepted wherever PyTorch takes a device, and any other name is an error.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tt_core.engine.dispatch import HasArray
from tt_core.engine.errors import DTypeError, TinyTorchError


class DeviceError(TinyTorchError, RuntimeError):
    """A device other than the CPU."""


class device(str):
    """The CPU under PyTorch's name; raises `DeviceError` for any other device.

    >>> device("cpu").type, device("cpu") == "cpu"
    ('cpu', True)
    """

    __slots__ = ()

    def __new__(cls, type: Any = "cpu", index: Any = None) -> device:
        name = str(type)
        if name not in ("cpu", "cpu:0") or not (index is None or (isinstance(index, int) and index == 0)):
            given = name if index is None else f"{name}:{index}"
            raise DeviceError(f"device: there is only the CPU, got {given!r}; use 'cpu', or leave the device out")
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        """The kind of device: "cpu"."""
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


CPU = device("cpu")


def dtype_of(name: str, *given: Any, dtype: Any = None, device: Any = None, **ignored: Any) -> Any:
    """The dtype that PyTorch's arguments of `to` name, None for none: a device, a dtype, both, or a tensor.

    Raises `DeviceError` for a device other than the CPU, `DTypeError` for what is neither device nor dtype.

    >>> dtype_of("to", "cpu", "float64"), dtype_of("to", device="cpu")
    (dtype('float64'), None)
    """
    unknown = ignored.keys() - {"non_blocking", "copy", "memory_format"}
    if unknown:
        raise DTypeError(f"{name}: {', '.join(sorted(unknown))} is not one of its arguments (dtype, device)")
    if device is not None:
        check(device)
    found = dtype
    for each in given:
        if isinstance(each, HasArray):
            found = each.data.dtype
        elif isinstance(each, str) and each.partition(":")[0] in ("cpu", "cuda", "mps", "xpu", "meta"):
            check(each)
        elif not isinstance(each, bool):  # non_blocking
            found = each
    if found is None:
        return None
    try:
        known = np.dtype(found)
    except (TypeError, ValueError):
        known = None
    if known is None or known.kind not in "fiub":
        raise DTypeError(f"{name}: takes a NumPy dtype such as 'float32' or np.int64, or 'cpu', got {found!r}")
    return known.newbyteorder("=")  # in this machine's byte order


def check(name: Any) -> None:
    """Raise `DeviceError` unless `name` is None or the CPU.

    >>> check("cpu")
    """
    if name is not None and name is not CPU:
        device(name)


cuda = SimpleNamespace(
    is_available=lambda: False,
    device_count=lambda: 0,
    empty_cache=lambda: None,
    manual_seed=lambda seed: None,
    manual_seed_all=lambda seed: None,
)
"""PyTorch's questions about GPUs, answered: there are none."""

backends = SimpleNamespace(
    mps=SimpleNamespace(is_available=lambda: False, is_built=lambda: False),
    cudnn=SimpleNamespace(deterministic=True, benchmark=False, enabled=False, is_available=lambda: False),
)
"""Settings of backends, which scripts may set without effect."""
