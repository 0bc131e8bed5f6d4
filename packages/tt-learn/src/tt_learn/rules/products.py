"""Derivatives of `tt_core.tensor.products` and of `linear`."""

from __future__ import annotations

import math
from typing import Any

from tt_core.engine.dispatch import Array, op
from tt_core.layers import linear
from tt_core.tensor.elementwise import half_in_float32
from tt_core.tensor.products import einsum, matmul
from tt_learn.autograd import gradient, sum_to


@gradient(matmul)
def _(out: Any, a: Any, b: Any) -> Any:
    """`g @ b^T` and `a^T @ g`, with vectors seen as matrices of one row or column."""

    def for_a(g: Any) -> Any:
        if b.ndim == 1:
            return g.unsqueeze(-1) * b
        if a.ndim == 1:
            return sum_to((g.unsqueeze(-2) @ b.mT).squeeze(-2), shape=a.shape)
        return g @ b.mT

    def for_b(g: Any) -> Any:
        if a.ndim == 1:
            return a.unsqueeze(-1) * g.unsqueeze(-2) if b.ndim > 1 else a * g
        if b.ndim == 1:
            return (a.mT @ g.unsqueeze(-1)).squeeze(-1)
        return rows_product(g, a).mT if b.ndim == 2 and a.ndim > 2 else a.mT @ g

    return for_a, for_b


@gradient(linear)
def _(out: Any, x: Any, weight: Any, bias: Any) -> Any:
    for_bias = None
    if bias is not None:
        shape = bias.shape
        for_bias = lambda g: sum_to(g, shape=shape)  # noqa: E731 - one of three
    if weight.ndim == 1:  # one output, without a dimension
        for_weight = lambda g: rows_product(g.unsqueeze(-1), x).squeeze(0)  # noqa: E731
        return lambda g: g.unsqueeze(-1) * weight, for_weight, for_bias
    return lambda g: g @ weight, lambda g: rows_product(g, x), for_bias


@op
@half_in_float32
def rows_product(a: Array, b: Array, /) -> Array:
    """`a^T b` over all rows: (..., m) and (..., n) give (m, n), as one product."""
    rows = math.prod(a.shape[:-1])  # -1 is ambiguous if a has no columns
    return a.reshape(rows, a.shape[-1]).T @ b.reshape(rows, b.shape[-1])


gradient(rows_product, lambda out, a, b: (lambda g: b @ g.T, lambda g: a @ g))


@gradient(einsum)
def _(out: Any, *operands: Any, equation: str) -> Any:
    """The gradient for one operand is the einsum of `g` with the others, its own letters now the output's."""
    terms, result = _explicit(equation, [x.ndim for x in operands])

    def for_operand(i: int) -> Any:
        def rule(g: Any) -> Any:
            others = [x for j, x in enumerate(operands) if j != i]
            letters = [term for j, term in enumerate(terms) if j != i]
            found = {*result, *"".join(letters)}
            own = "".join(dict.fromkeys(terms[i]))
            known = "".join(c for c in own if c in found)
            value = einsum(f"{','.join([result, *letters])}->{known}", g, *others)
            return _spread(value, known, terms[i], operands[i].shape)

        return rule

    return tuple([for_operand(i) for i in range(len(operands))])


def _explicit(equation: str, dims: list[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the result; `...` becomes capital letters that stand for its dimensions."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        result = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    free = [chr(c) for c in range(ord("Z"), ord("A") - 1, -1) if chr(c) not in equation]
    most = max((n - len(t) + 3 for t, n in zip(terms, dims) if "..." in t), default=0)
    names = "".join(free[:most])
    spelt = [t.replace("...", names[most - (n - len(t) + 3) :] if "..." in t else "") for t, n in zip(terms, dims)]
    return spelt, result.replace("...", names)


def _spread(value: Any, known: str, own: str, shape: tuple[int, ...]) -> Any:
    """A gradient over the letters `known` brought to an operand's letters: missing ones repeat, doubled ones
    lie on the diagonal.
    """
    sizes = dict(zip(own, shape))
    distinct = "".join(dict.fromkeys(own))
    for position, letter in enumerate(distinct):
        if letter not in known:
            value = value.unsqueeze(position)
    # an operand's 1 may have been broadcast to more, which is added up again elsewhere
    value = value.expand(tuple([n if sizes[c] == 1 else sizes[c] for c, n in zip(distinct, value.shape)]))
    if len(distinct) == len(own):
        return value
    return _onto_diagonals(value, own, distinct, sizes)


def _onto_diagonals(value: Any, own: str, distinct: str, sizes: dict[str, int]) -> Any:
    from tt_core.tensor.creation import eye

    seen: dict[str, str] = {}
    factors, names, target = [value], [distinct], ""
    spare = iter(chr(c) for c in range(ord("a"), ord("z") + 1) if chr(c) not in own)
    for letter in own:
        if letter not in seen:
            seen[letter] = letter
            target += letter
            continue
        new = next(spare)
        factors.append(eye(sizes[letter], dtype=value.dtype))
        names.append(letter + new)
        target += new
    return einsum(f"{','.join(names)}->{target}", *factors)
