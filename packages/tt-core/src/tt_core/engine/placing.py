"""Puts the arguments of a call in their places: a chain sees inputs by position and all attributes by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.errors import DTypeError
from tt_core.engine.protocols import HasArray
from tt_core.engine.wrapping import tensor_type, wrap

if TYPE_CHECKING:
    from tt_core.engine.protocols import Call, Op

EMPTY = inspect.Parameter.empty


def arrange(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Moves positional attributes and named inputs to their places, and fills in defaults.

    Raises `DTypeError` for an argument that is missing, unknown or given twice.
    """
    if not attributes and op.defaulted and len(inputs) == len(op.inputs):
        return inputs, op.attributes  # the usual call; the chain's ** makes the copy
    names = tuple(op.attributes) if op.variadic else (*op.inputs, *op.attributes)
    given = {} if op.variadic else dict(zip(names, inputs))
    if not op.variadic and len(inputs) > len(names):
        raise DTypeError(f"{op.name}: takes {len(names)} arguments ({', '.join(names)}), got {len(inputs)}")
    for name, value in attributes.items():
        if name in given or name not in names:
            what = "was given twice" if name in given else f"is not one of its arguments ({', '.join(names)})"
            raise DTypeError(f"{op.name}: {name} {what}")
        given[name] = value
    complete = {name: given.get(name, default) for name, default in op.attributes.items()}
    needed = (*op.inputs[: op.required], *(name for name, value in complete.items() if value is EMPTY))
    missing = [name for name in needed if name not in given]
    if missing:
        raise DTypeError(f"{op.name}: {' and '.join(missing)} must be given")
    return (inputs if op.variadic else tuple([given.get(name) for name in op.inputs])), complete


def call_method(op: Op, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Calls the tensor's method of this name, which takes what PyTorch's function takes and the op does not.

    Such as `axis`, `dtype`, `alpha` and `unbiased`. Raises `DTypeError` for what neither takes.
    """
    if "input" in options and not inputs:
        inputs, options = (options["input"],), {name: value for name, value in options.items() if name != "input"}
    given, options = options, of_numpy(options)
    if given is not options and options.keys() <= {*op.inputs, *op.attributes}:
        return op(*inputs, **options)
    method: Any = getattr(tensor_type(), op.name, None)
    first = [x if isinstance(x, HasArray) else wrap(np.asarray(x)) for x in inputs[:1]]
    arguments = (*first, *inputs[1:])
    if method is None or not _accepts(method, arguments, options):
        arrange(op, inputs, given)  # raises
    return method(*arguments, **options)


def of_numpy(options: dict[str, Any]) -> dict[str, Any]:
    """The options with PyTorch's names for NumPy's: `dim` for `axis`, `keepdim` for `keepdims`; itself without these.

    >>> of_numpy({"axis": 1})
    {'dim': 1}
    """
    if options.keys().isdisjoint(_NUMPY):
        return options
    return {_NUMPY.get(name, name): value for name, value in options.items()}


_NUMPY = {"axis": "dim", "keepdims": "keepdim"}


def _accepts(function: Call, inputs: tuple[Any, ...], options: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*inputs, **options)
    except TypeError:
        return False
    return True


def parameters_of(function: Call) -> str:
    """The parameters of a function and their defaults, as text.

    >>> parameters_of(lambda x, /, dim=-1: x)
    '(x, /, dim=-1)'
    """
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([p.replace(annotation=EMPTY) for p in parameters]))


def of_tensors(signature: inspect.Signature, residuals: bool) -> inspect.Signature:
    """A kernel's signature as `help` shows it for the op: tensors for arrays, and without residuals."""

    def shown(annotation: Any) -> Any:
        return annotation.replace("Array", "Tensor") if isinstance(annotation, str) else annotation

    parameters = [p.replace(annotation=shown(p.annotation)) for p in signature.parameters.values()]
    result = "Tensor" if residuals else shown(signature.return_annotation)
    return inspect.Signature(parameters, return_annotation=result)
