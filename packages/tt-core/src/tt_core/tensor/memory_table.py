"""Module 01, tensor: which operations share the memory of their tensor and which copy it, found by running them.

`python -m tt_core.tensor.memory_table` prints `docs/views.md`; a test holds that page against this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.dispatch import HasArray
from tt_core.tensor import shapes as S
from tt_core.tensor.creation import arange
from tt_core.tensor.tensor import Tensor


@dataclass(frozen=True)
class Row:
    """An operation as a user writes it, on a contiguous (2, 3, 4) tensor `x`."""

    code: str
    run: Callable[[Tensor], Any]


ROWS = (
    Row("x[0]", lambda x: x[0]),
    Row("x[0, 1, 2]", lambda x: x[0, 1, 2]),
    Row("x[:, 1:, ::2]", lambda x: x[:, 1:, ::2]),
    Row("x[..., None]", lambda x: x[..., None]),
    Row("x[[0, 1]]", lambda x: x[[0, 1]]),
    Row("x[x > 0]", lambda x: x[x > 0]),
    Row("x.view(6, 4)", lambda x: x.view(6, 4)),
    Row("x.reshape(6, 4)", lambda x: x.reshape(6, 4)),
    Row("x.T.reshape(6, 4)", lambda x: x.T.reshape(6, 4)),
    Row("x.flatten()", lambda x: x.flatten()),
    Row("x.unflatten(2, (2, 2))", lambda x: x.unflatten(2, (2, 2))),
    Row("x.T", lambda x: x.T),
    Row("x.mT", lambda x: x.mT),
    Row("x.transpose(0, 1)", lambda x: x.transpose(0, 1)),
    Row("x.permute(2, 0, 1)", lambda x: x.permute(2, 0, 1)),
    Row("x.squeeze()", lambda x: x.squeeze()),
    Row("x.unsqueeze(0)", lambda x: x.unsqueeze(0)),
    Row("x[:1].expand(5, 3, 4)", lambda x: x[:1].expand(5, 3, 4)),
    Row("x.split(2, dim=2)", lambda x: x.split(2, dim=2)),
    Row("x.chunk(2)", lambda x: x.chunk(2)),
    Row("x.narrow(1, 0, 2)", lambda x: x.narrow(1, 0, 2)),
    Row("x.unbind(0)", lambda x: x.unbind(0)),
    Row("x.flip(0)", lambda x: x.flip(0)),
    Row("x.detach()", lambda x: x.detach()),
    Row("x.numpy()", lambda x: x.numpy()),
    Row("x.contiguous()", lambda x: x.contiguous()),
    Row("x.T.contiguous()", lambda x: x.T.contiguous()),
    Row("x.to(x.dtype)", lambda x: x.to(x.dtype)),
    Row("x.double()", lambda x: x.double()),
    Row("x.clone()", lambda x: x.clone()),
    Row("x.repeat(2, 1, 1)", lambda x: x.repeat(2, 1, 1)),
    Row("x.repeat_interleave(2, 0)", lambda x: x.repeat_interleave(2, 0)),
    Row("x.roll(1, 0)", lambda x: x.roll(1, 0)),
    Row("x.tril()", lambda x: x.tril()),
    Row("x.index_select(0, [0, 1])", lambda x: x.index_select(0, np.array([0, 1]))),  # type: ignore[arg-type]
    Row("x.sort().values", lambda x: x.sort().values),
    Row("pad(x, (1, 1))", lambda x: S.pad(x, pad=(1, 1))),
    Row("cat([x, x])", lambda x: S.cat([x, x])),
    Row("x + 0", lambda x: x + 0),
)


def shares_memory(row: Row) -> bool:
    """Whether the result of the operation (each part of it) shares memory with the tensor that it is made from."""
    x = arange(24.0).reshape(2, 3, 4)
    result = row.run(x)
    parts = result if isinstance(result, tuple) else (result,)
    return all(np.shares_memory(part.data if isinstance(part, HasArray) else part, x.data) for part in parts)


def table() -> str:
    """The page `docs/views.md`."""
    lines = [f"| `{row.code}` | {'view' if shares_memory(row) else 'copy'} |" for row in ROWS]
    return "\n".join([_OPENING, "| operation | memory |", "|---|---|", *lines, ""])


_OPENING = """# Views and copies

A tensor is a block of memory, a shape, and for each dimension the number of elements to step over (`x.strides`). An
operation that changes only the shape and the strides returns a *view*: it copies nothing, and a write to the view
changes the original. An operation that needs other numbers, or the same numbers in another order, returns a *copy*.

In this table, `x` is contiguous and of shape (2, 3, 4). `reshape` and `contiguous` depend on the memory: they return a
view if it allows one. `view` raises an error if it does not. A view made by `expand` is read-only, since several of its
elements share one place in memory.

`python -m tt_core.tensor.memory_table` runs each operation and prints this page.
"""


if __name__ == "__main__":
    print(table(), end="")
