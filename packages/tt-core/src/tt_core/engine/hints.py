"""Type hints for arguments that may be given in several forms. Only type checkers, editors and readers use them."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike
    from numpy.typing import DTypeLike as DTypeLike

    from tt_core.engine.devices import device
    from tt_core.engine.protocols import Array, HasArray

TensorLike: TypeAlias = "HasArray | ArrayLike"
"""A tensor, an array, a number, or nested lists of them."""

Index: TypeAlias = "int | slice | EllipsisType | HasArray | Array | Sequence[Any] | None"
"""What stands between the brackets of `x[...]`; a tuple has an entry for each dimension."""

DeviceLike: TypeAlias = "device | str"
"""A device or its name; the CPU is the only one."""
