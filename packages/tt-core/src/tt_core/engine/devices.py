"""The CPU, the only device, under PyTorch's names, so that a script written for several devices runs unchanged.

Arrays are in the memory of the CPU. "cpu" is accepted wherever PyTorch takes a device, and any other name is an error.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import HasArray
from tt_core.engine.errors import ArgumentError, DTypeError, TinyTorchError, shown
from tt_core.engine.later import AbsentError

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike


class DeviceError(TinyTorchError, RuntimeError):
    """A device other than the CPU."""


class device(str):
    """The CPU under PyTorch's name; raises `DeviceError` for any other device.

    >>> device("cpu").type, device("cpu") == "cpu"
    ('cpu', True)
    """

    __slots__ = ()

    def __new__(cls, type: object = "cpu", index: object = None) -> device:
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


def dtype_of(
    name: str, *given: Any, dtype: DTypeLike | None = None, device: DeviceLike | None = None, **ignored: Any
) -> Any:
    """The dtype that PyTorch's arguments of `to` name, None for none: a device, a dtype, both, or a tensor.

    Raises `DeviceError` for a device other than the CPU, `DTypeError` for a value that is neither device nor dtype.

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


def check(name: DeviceLike | None) -> None:
    """Raise `DeviceError` unless `name` is None or the CPU.

    >>> check("cpu")
    """
    if name is not None and name is not CPU:
        device(name)


preserve_format, contiguous_format = "preserve_format", "contiguous_format"
"""PyTorch's names for rows in order, the only memory format here."""


def check_memory_format(who: str, memory_format: object) -> None:
    """Raise `ArgumentError` for a format in which rows are not in order.

    >>> check_memory_format("zeros_like", preserve_format)
    """
    if memory_format not in (None, preserve_format, contiguous_format):
        given = f"memory_format is preserve_format or contiguous_format, got {shown(memory_format)}"
        raise ArgumentError(f"{who}: {given}; rows are always in order here")


class autocast(ContextDecorator):
    """PyTorch's block of mixed precision, for code that switches it off: a block or decorator that changes nothing.

    Every op computes in the dtype of its inputs, so `enabled=True`, the default, raises `DeviceError`.

    >>> with autocast("cpu", enabled=False):
    ...     pass
    """

    @checked
    def __init__(
        self,
        device_type: str = "cuda",
        dtype: DTypeLike | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        _refuse_mixed_precision("autocast", enabled)
        dtype_of("autocast", dtype=dtype)

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class GradScaler:
    """PyTorch's scaling of losses for float16, for code that switches it off: `scale` and `step` pass everything on.

    `enabled=True`, the default, raises `DeviceError`, as for `autocast`.

    >>> GradScaler(enabled=False).scale(2.0)
    2.0
    """

    @checked
    def __init__(self, device: str = "cuda", *, enabled: bool = True, **options: Any) -> None:
        _refuse_mixed_precision("GradScaler", enabled)

    def scale(self, outputs: Any) -> Any:
        """The loss as it is."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing: gradients are not scaled."""

    def step(self, optimizer: Any, *arguments: Any, **options: Any) -> Any:
        """Same as `optimizer.step()`."""
        return optimizer.step(*arguments, **options)

    def update(self, new_scale: Any = None) -> None:
        """Nothing: there is no scale."""

    def is_enabled(self) -> bool:
        """False."""
        return False

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """Empty, as PyTorch's where it is switched off."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: there is no state."""


def _refuse_mixed_precision(who: str, enabled: bool) -> None:
    if enabled:
        raise DeviceError(f"{who}: every op computes in the dtype of its inputs; pass enabled=False, or leave it out")


class _NoGPU(SimpleNamespace):
    """Answers what can be said without a GPU; the rest of PyTorch's `torch.cuda` is one error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(name)
        raise AbsentError(f"cuda has no {name}: there is only the CPU; ask cuda.is_available() first")


amp = SimpleNamespace(autocast=autocast, GradScaler=GradScaler)
cuda = _NoGPU(
    is_available=lambda: False,
    is_bf16_supported=lambda: False,
    device_count=lambda: 0,
    empty_cache=lambda: None,
    synchronize=lambda device=None: None,
    set_device=lambda device: check(f"cuda:{device}" if isinstance(device, int) else device),
    manual_seed=lambda seed: None,
    manual_seed_all=lambda seed: None,
    amp=SimpleNamespace(autocast=partial(autocast, "cuda", None), GradScaler=partial(GradScaler, "cuda")),
)
"""PyTorch's questions about GPUs, answered: there are none."""

backends = SimpleNamespace(
    mps=SimpleNamespace(is_available=lambda: False, is_built=lambda: False),
    cudnn=SimpleNamespace(deterministic=True, benchmark=False, enabled=False, is_available=lambda: False),
)
"""Settings of backends, which scripts may set without effect."""
