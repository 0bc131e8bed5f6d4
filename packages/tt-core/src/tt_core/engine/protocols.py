"""What an op is, for readers and type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[..., Any]
AnyTensor = TypeVar("AnyTensor", bound="HasArray")
P = ParamSpec("P")
Result = TypeVar("Result", covariant=True)


class HasArray:
    """All that the dispatch knows of a tensor: it holds an array in `data`."""

    data: Array


class Op(Protocol):
    """A named computation: call it with tensors, or ask it what it is.

    >>> from tt_core.engine.dispatch import registry
    >>> softmax = registry["softmax"]
    >>> softmax.inputs, softmax.attributes, softmax.variadic
    (('x',), {'dim': -1}, False)
    """

    name: str
    formula: Call
    """The NumPy function that defines it."""
    kernel: Call
    """The function that runs: the tuned form, or the formula. A plugin may bring another one."""
    check: Call | None
    """Raises an error for arguments that no kernel of this op accepts; it runs before each of them."""
    inputs: tuple[str, ...]
    """Names of its inputs."""
    required: int
    """How many of them must be given. The others are None by default."""
    attributes: dict[str, Any]
    """Names of its attributes with their defaults (`inspect.Parameter.empty` for an attribute without one)."""
    defaulted: bool
    """Whether every attribute has a default."""
    variadic: bool
    """Whether it takes any number of inputs."""
    residuals: tuple[str, ...]
    """Names of what its kernel returns after the result, for the gradient rule."""
    random: bool
    """Whether it draws from `tt_core.random.generator()`."""
    view: bool
    """Whether its result may share memory with an input."""
    pure: bool
    """Whether the same inputs and attributes always give the same result: it is not random."""
    call: Call
    """Calls it with inputs and attributes as its kernel takes them: the op itself, unless it has a public function."""
    base: Call
    """The call on tensors without plugins."""
    chain: Call
    """The call on tensors with the plugins that are active."""

    def __call__(self, *inputs: Any, **attributes: Any) -> Any: ...

    def __hash__(self) -> int: ...


class TensorOp(Op, Protocol):
    """An op with one result, as editors and type checkers see it: a subclass of Tensor comes back as itself."""

    @overload
    def __call__(self, x: AnyTensor, /, *inputs: Any, **attributes: Any) -> AnyTensor: ...
    @overload
    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor: ...


class PublicOp(Op, Protocol[P, Result]):
    """An op with a public function, as editors and type checkers see it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result: ...


class Publication(Protocol):
    """The decorator that `op(formula=...)` returns."""

    def __call__(self, public: Callable[P, Result], /) -> PublicOp[P, Result]: ...


class Definition(Protocol):
    """The decorator that `op(name=...)` returns: an op returns a tensor if its kernel returns an array."""

    @overload
    def __call__(self, kernel: Callable[..., Array], /) -> TensorOp: ...
    @overload
    def __call__(self, kernel: Call, /) -> Op: ...
