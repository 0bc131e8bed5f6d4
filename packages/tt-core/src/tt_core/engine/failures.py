"""What happens when a kernel raises: the user gets one line that names the op, the fact and what was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tt_core.engine.blame import described
from tt_core.engine.errors import DTypeError, PluginError, TinyTorchError, kind_of, shown
from tt_core.engine.plugins import manager
from tt_core.engine.protocols import HasArray
from tt_core.engine.quiet import is_entered, quietly
from tt_core.engine.wording import plain

if TYPE_CHECKING:
    from tt_core.engine.protocols import Call, Op


def numeric(x: object) -> Any:
    """Returns `x` in this machine's byte order; raises `DTypeError` if it holds anything but numbers and booleans."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"needs a tensor, an array or a number, got {shown(x)}")
    return x if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def rescue(op: Op, kernel: Call, inputs: tuple[Any, ...], attributes: dict[str, Any], error: Exception) -> Any:
    """The kernel's result if only its context was taken, because it runs already. Raises any other error."""
    _check_data(op, inputs)
    arrays = [x.data if isinstance(x, HasArray) else x for x in inputs]
    if is_entered(error):
        try:
            return quietly(kernel, *arrays, **attributes)
        except Exception as other:
            error = other
    if isinstance(error, PluginError):  # of an op that the kernel called, or of what this kernel returned
        raise error
    if kernel is not op.kernel and isinstance(error, RecursionError):
        raise PluginError(
            f"plugin {manager.who_answers('tt_kernel', op=op)}: its kernel of {op.name} recurses without end; "
            f"a kernel calls {op.name}.kernel on arrays, and no op on tensors"
        ) from None
    if kernel is not op.kernel and not isinstance(error, (TinyTorchError, MemoryError)):
        error = _judged(op, arrays, attributes, error)
    _explain(op, inputs, error)


def _check_data(op: Op, inputs: tuple[Any, ...]) -> None:
    """Raises `DTypeError` for a tensor whose `data` is not a NumPy array, because the user has assigned to it."""
    for name, x in zip(op.inputs, inputs):
        if isinstance(x, HasArray) and not isinstance(x.data, (np.ndarray, np.generic)):
            raise DTypeError(
                f"{op.name}: the data of {name} is {shown(x.data)}, expected a NumPy array; assign an array to x.data, "
                f"or write x.copy_(y) under no_grad()"
            ) from None


def _judged(op: Op, arrays: list[Any], attributes: dict[str, Any], error: Exception) -> Exception:
    """The error of the op's own kernel on the inputs for which a plugin's kernel raised `error`.

    Raises `PluginError` if the op's own kernel raises none.
    """
    try:
        if op.check is not None:
            op.check(*arrays, **attributes)
        quietly(op.kernel, *arrays, **attributes)
    except Exception as own:
        return own
    plugin = manager.who_answers("tt_kernel", op=op)
    raise PluginError(f"plugin {plugin}: its kernel of {op.name} raises {described(error)}") from error


def _explain(op: Op, inputs: tuple[Any, ...], error: Exception) -> NoReturn:
    """Raises a kernel's error again with the op's name and what it was given; other errors pass unchanged."""
    names = op.inputs if not op.variadic else [f"{op.inputs[-1]}[{i}]" for i in range(len(inputs))]
    required = len(names) if op.variadic else op.required
    present = [(name, x) for i, (name, x) in enumerate(zip(names, inputs)) if x is not None or i < required]
    given = ", ".join(f"{name} {_shape_of(x)}" for name, x in present)
    others = [name for name, x in present if not hasattr(x, "shape")]
    if others and isinstance(error, AttributeError):
        raise DTypeError(f"{op.name}: {' and '.join(others)} must be a tensor or an array ({given})") from None
    if isinstance(error, AttributeError) and isinstance(error.obj, HasArray):  # inputs reach kernels as arrays
        raise DTypeError(
            f"{op.name}: an attribute cannot be a tensor, got one of shape {error.obj.data.shape}; use its item()"
        ) from None
    ours = kind_of(error)
    if ours is None:
        raise error
    fact = plain(error)
    if others and "did not contain a loop" in fact:  # NumPy's words for an input that is not a number
        fact = f"does not work on {' and '.join(str(getattr(x, 'dtype', type(x).__name__)) for _, x in present)}"
    raise ours(f"{op.name}: {fact} ({given})") from None


def _shape_of(x: Any) -> str:
    shape = getattr(x.data if isinstance(x, HasArray) else x, "shape", None)
    return type(x).__name__ if shape is None else str(shape)
