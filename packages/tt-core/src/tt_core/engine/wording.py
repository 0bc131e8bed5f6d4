"""NumPy's errors in the words of this framework: `dim` for its `axis`, and what to do."""

from __future__ import annotations

import re

from numpy.exceptions import AxisError

_WORDS = (
    (r"duplicate value in 'axis'|repeated axis in transpose", "a dim is given twice"),
    (r"axes don't match array", "each dim must be given once"),
    (
        r"index (-?\d+) is out of bounds for axis (\d+) with size (\d+)",
        r"index \1 is out of bounds for dim \2 of size \3",
    ),
    (
        r"operands could not be broadcast together with remapped shapes .*: \([\d,]*\) +and requested shape (\(.*\))",
        r"cannot expand to \1: only a size of 1 can change",
    ),
    (
        r"operands could not be broadcast together with (remapped )?shapes .*",
        "shapes do not broadcast: counted from the last dim, two sizes must be equal, or one of them 1",
    ),
    (r"input operand has more dimensions than allowed by the axis remapping", "needs a size for each dim"),
    (
        r"zero-size array to reduction operation \w+ which has no identity|attempt to get arg\w+ of an empty sequence",
        "an empty tensor has no largest or smallest element",
    ),
    (r"can only specify one unknown dimension", "only one size may be -1"),
    (
        r"Cannot cast ufunc '\w+' output from dtype\('(\w+)'\) to dtype\('(\w+)'\) with casting rule 'same_kind'",
        r"a tensor of \2 cannot hold a result of \1; assign a new tensor to the name instead",
    ),
    (r"The numpy boolean (\w+), the `.` operator, is not supported.*", r"booleans have no \1; use ~ or logical_not()"),
)


def plain(error: Exception) -> str:
    """The message of an error; NumPy's messages are put in this framework's words.

    >>> plain(AxisError(3, 2))
    'dim 3 is out of range for 2 dimensions'
    >>> plain(ValueError("axes don't match array"))
    'each dim must be given once'
    >>> plain(ValueError("any other"))
    'any other'
    """
    if isinstance(error, AxisError) and error.axis is not None:
        return f"dim {error.axis} is out of range for {error.ndim} dimension{'s' * (error.ndim != 1)}"
    text = str(error).strip()
    for pattern, words in _WORDS:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found:
            return found.expand(words)
    return text
