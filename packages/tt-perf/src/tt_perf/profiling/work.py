"""Part of module 14: the work of one call of an op, computed from shapes: FLOPs, bytes read, bytes written.

A multiply-add counts as 2 FLOPs; adding, dividing, comparing, a root or an exponential counts as 1. A bias, and what a
mask hides, count as in PyTorch: a bias not at all, masked products in full. `flops.py` lists the ops: `FLOPS` has an
entry for each that computes, `MOVES` those that only move or make values, whose FLOPs are 0. The FLOPs of an op that is
in neither are unknown.

Bytes are those of the arrays that the call takes and returns, each read or written once. A kernel that makes several
passes moves more, and one whose arrays fit into the cache moves less from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from tt_core.engine.dispatch import HasArray, Op
from tt_core.engine.mutation import owner

if TYPE_CHECKING:
    from tt_core.engine.protocols import Array

Flops = Callable[[tuple[Any, ...], Any, Mapping[str, Any]], int]
"""FLOPs of a call from its inputs, its output and its attributes."""


def arrays(values: object) -> Iterator[Any]:
    """The arrays of tensors, in tuples and lists too; anything else is left out.

    >>> import tt_core
    >>> [array.shape for array in arrays((tt_core.ones(2), 3.0, [tt_core.ones(1)]))]
    [(2,), (1,)]
    """
    if isinstance(values, HasArray):
        yield values.data
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from arrays(value)
    elif hasattr(values, "nbytes"):
        yield values


def size(value: object) -> int:
    """The number of elements of a tensor or array, of the first one of a tuple; 1 for a number."""
    if type(value) is tuple:
        value = value[0]
    return int(prod(value.shape)) if hasattr(value, "shape") else 1


def per_output(count: int) -> Flops:
    """`count` FLOPs for each element of the result."""
    return lambda inputs, output, attributes: count * size(output)


def per_input(count: int, which: int = 0) -> Flops:
    """`count` FLOPs for each element of an input."""
    return lambda inputs, output, attributes: count * size(inputs[which])


def product_flops(inputs: tuple[Any, ...], output: object, attributes: Mapping[str, Any]) -> int:
    """`2 * elements of the result * length of the inner dimension`."""
    # (m, k) @ (k, n) -> (m, n): k multiplications and k additions for each element
    return 2 * size(output) * int(inputs[0].shape[-1])


def attention_flops(inputs: tuple[Any, ...], output: Array, attributes: Mapping[str, Any]) -> int:
    """A product with the keys and one with the values for each query of each head."""
    query, key, value = inputs[:3]
    scores = int(prod(output.shape[:-1])) * int(key.shape[-2])  # one for each query and each key
    return 2 * scores * int(query.shape[-1] + value.shape[-1])


def attention_backward_flops(inputs: tuple[Any, ...], output: object, attributes: Mapping[str, Any]) -> int:
    """Twice the products of forward, and the one with the keys again where the weights were not kept."""
    g, query, key, value, kept = *inputs[:4], inputs[6]
    # backward multiplies (T, S) gradients with keys and queries, and forms dv and the gradient of the weights
    scores = int(prod(g.shape[:-1])) * int(key.shape[-2])
    again = 0 if kept is not None and prod(kept.shape) else int(query.shape[-1])
    return 2 * scores * (2 * int(query.shape[-1] + value.shape[-1]) + again)


def convolution_flops(result: Array, weight: Array) -> int:
    """One multiply-add for each element of the result and each weight of its filter, forward and backward."""
    # weight (out, in, height, width): each result sums over all inputs of its window
    return 2 * size(result) * int(prod(weight.shape[1:]))


# A look-up reads the rows that it returns, not the whole table, which may have a hundred thousand.
_GATHERS = {"embedding": 1, "quantized_embedding": 1, "getitem": 0, "index_select": 0, "take_along_dim": 0}
"""Ops that read only those elements of one input that they return, and which input that is."""


def bytes_moved(op: Op, inputs: tuple[Any, ...], output: object) -> tuple[int, int]:
    """The bytes that a call reads and writes; a view reads and writes none.

    >>> import tt_core
    >>> x = tt_core.ones(2, 3)
    >>> bytes_moved(tt_core.neg, (x,), -x), bytes_moved(tt_core.reshape, (x,), x.reshape(6))
    ((24, 24), (0, 0))
    """
    written = 0
    for array in (output.data,) if isinstance(output, HasArray) else arrays(output):
        if op.view and _is_view(array, inputs):
            return 0, 0
        written += array.nbytes
    # the result is written once; of a look-up, as much is read
    gathered, read = _GATHERS.get(op.name, -1), 0
    for i, x in enumerate(inputs):
        if isinstance(x, HasArray):
            read += written if i == gathered else stored_bytes(x.data)
        elif x is not None:
            read += sum(map(stored_bytes, arrays(x)))
    return read, written


def stored_bytes(array: Array) -> int:
    """Bytes that reading an array touches: a broadcast dimension is in memory once."""
    if 0 in array.strides:
        return int(array.itemsize * prod(n for n, stride in zip(array.shape, array.strides) if stride))
    return int(array.nbytes)


def _is_view(array: Any, inputs: tuple[Any, ...]) -> bool:
    memory = owner(array)  # the array that holds the bytes, however many views are between
    return any(owner(x) is memory for x in arrays(inputs))
