"""Beside module 18: rows of matrices for compiled loops."""

from __future__ import annotations

import functools
from typing import Any

from tt_core.engine.dispatch import Array


def line(x: Array, i: int) -> Array:
    """Row `i` of a matrix whose rows are contiguous, wherever they lie.

    >>> import numpy as np
    >>> line(np.arange(12.0).reshape(3, 4)[:, 1:3], 1)
    array([5., 6.])
    """
    return x[i]


@functools.cache
def compiled_line() -> Any:
    """`line` for functions that Numba compiles. Needs Numba.

    The compiler learns that the row is contiguous, which it cannot know of a row of any matrix, and so uses vectors.
    The row does not keep the matrix alive.
    """
    from llvmlite import ir  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.core import cgutils, types  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.extending import intrinsic  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.np import arrayobj  # type: ignore[import-not-found,import-untyped,unused-ignore]

    tools: Any = arrayobj  # Numba has type hints, but not on these
    unpack_tuple: Any = cgutils.unpack_tuple

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix_type, row_type = signature.args[0], signature.return_type
        matrix = tools.make_array(matrix_type)(context, builder, args[0])
        step = unpack_tuple(builder, matrix.strides)[0]
        length = unpack_tuple(builder, matrix.shape)[1]
        start = builder.gep(builder.bitcast(matrix.data, ir.IntType(8).as_pointer()), [builder.mul(args[1], step)])
        row = tools.make_array(row_type)(context, builder)
        size = context.get_constant(types.intp, matrix_type.dtype.bitwidth // 8)
        data = builder.bitcast(start, row.data.type)
        tools.populate_array(row, data=data, shape=[length], strides=[size], itemsize=size, meminfo=None)
        return row._getvalue()

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def line(typing: Any, x: Any, i: Any) -> Any:
        """Row `i` of `x` as a contiguous array."""
        if not isinstance(x, types.Array) or x.ndim != 2:
            return None
        make: Any = types.Array
        return make(x.dtype, 1, "C")(x, types.intp), codegen

    return line
