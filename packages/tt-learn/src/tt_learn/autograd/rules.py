"""The table of derivatives: one rule for each op, written with ops, so that gradients have gradients.

A rule is called after the op, as `rule(out, *inputs, **attributes)`. It returns one function for each input:

    gradient(mul, lambda out, a, b: (lambda g: g * b, lambda g: g * a))

The outer function runs when the op is recorded, the inner ones in backward. An inner function keeps in memory exactly
what it names. Broadcasting is undone for it (see `backward.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, overload

from tt_core.engine.dispatch import Op
from tt_core.engine.redefinition import redefined
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Node

Rule = Callable[..., Any]


class Entry(NamedTuple):
    rule: Rule
    keeps_output: bool
    """Whether an inner function of the rule names the op's output."""
    node: type[Node]
    """The contribution of one call to the graph."""


_rules: dict[str, Entry | None] = {}  # None: the op's outputs have no gradient


@overload
def gradient(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def gradient(of: Op, rule: Rule) -> Rule: ...
def gradient(of: Op, rule: Rule | None = None) -> Any:
    """Registers the derivative of an op: `gradient(op, rule)`, or `@gradient(op)` as a decorator.

    The rule returns a tuple with one function `gradient of out -> gradient of this input` per input (None where an
    input has no gradient), or one function that returns the gradients of all inputs together. An op with several
    outputs hands these functions a tuple of gradients. A rule that is defined again in `__main__`, as by a notebook
    cell that runs twice, replaces the old one; otherwise, raises `GradientError` if the op has a rule already.

    >>> from tt_core.engine.dispatch import op, registry
    >>> from tt_learn import Tensor
    >>> @op
    ... def _cubed(x, /):
    ...     return x**3
    >>> rule = gradient(_cubed, lambda out, x: (lambda g: g * 3 * x**2,))
    >>> x = Tensor([2.0], requires_grad=True)
    >>> _cubed(x).sum().backward()
    >>> x.grad
    tensor([12.])
    >>> del registry["_cubed"]
    >>> forget_rule(_cubed)
    """
    if rule is None:
        return lambda decorated: gradient(of, decorated)
    return register(of, rule)


def register(of: Op, rule: Rule, node: type[Node] = Node) -> Rule:
    """Enters a rule whose calls are recorded as nodes of this type; raises `GradientError` if the op has one."""
    old = _rules.get(of.name)
    if old is None or not redefined(f"the gradient rule of {of.name}", old.rule, rule):
        _check_has_no_rule(of)
    _rules[of.name] = Entry(rule, _keeps_output(rule), node)
    return rule


def non_differentiable(*ops: Op) -> None:
    """Registers ops whose outputs have no gradient, such as comparisons and indices.

    Raises `GradientError` for an op that has a rule, whose gradients would be lost.
    """
    for each in ops:
        if _rules.get(each.name) is not None:
            _check_has_no_rule(each)
    _rules.update({each.name: None for each in ops})


def forget_rule(of: Op) -> None:
    """Removes the rule of an op, if it has one, so that `gradient` can register another."""
    _rules.pop(of.name, None)


def rule_of(of: Op) -> Rule | None:
    """Returns the rule of an op, None for a non-differentiable one; raises `GradientError` if it has neither.

    >>> import tt_core
    >>> rule_of(tt_core.argmax) is None
    True
    """
    entry = entry_of(of)
    return entry and entry.rule


def has_rule(of: Op) -> bool:
    """Whether an op has a row in the table: a rule, or the note that it has no gradient.

    >>> import tt_core
    >>> has_rule(tt_core.relu)
    True
    """
    return of.name in _rules


def entry_of(of: Op) -> Entry | None:
    """The op's row of the table; raises `GradientError` if there is none."""
    try:
        return _rules[of.name]
    except KeyError:
        raise GradientError(
            f"{of.name} has no gradient rule; write one with gradient({of.name}, ...), "
            f"or run it under no_grad() if it needs none"
        ) from None


def _check_has_no_rule(of: Op) -> None:
    if of.name in _rules:
        raise GradientError(f"{of.name} has a gradient rule already; remove it with forget_rule({of.name}) first")


def _keeps_output(rule: Rule) -> bool:
    """Whether an inner function captures the rule's first parameter, which Python then stores in a cell."""
    code = getattr(rule, "__code__", None)
    return code is None or (code.co_varnames[:1] != () and code.co_varnames[0] in code.co_cellvars)
