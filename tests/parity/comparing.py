"""What the comparisons with PyTorch share: the same arrays through both, outputs and all gradients side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tt_data
import tt_learn

CLOSE = 1e-5
rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def agree(ours: Any, theirs: Any, what: str = "") -> None:
    """Within 1e-5 of the largest number: rounding adds up relative to what was added, not to what it left."""
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape, what
    assert ours.numpy().dtype == expected.dtype, what
    scale = max(1e-6, float(np.abs(expected).max(initial=0)))
    worst = float(np.abs(ours.numpy() - expected).max(initial=0)) / scale
    assert worst <= CLOSE, f"{what}: off by {worst:.1e} of {scale:.3g}"


def compare(ours: Any, theirs: Any, *arrays: np.ndarray | None) -> None:
    """`ours(*arrays)` against `theirs(*arrays)`: output and every gradient, from a random upstream gradient."""
    mine = [None if a is None else tt_learn.tensor(a, requires_grad=True) for a in arrays]
    yours = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*yours)
    agree(y, expected, "output")
    g = normal(*expected.shape)
    y.backward(g)
    expected.backward(torch.tensor(g))
    for i, (a, b) in enumerate(zip(mine, yours)):
        if a is not None:
            agree(a.grad, b.grad, f"gradient of input {i}")


def both(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """Our layer and PyTorch's, with the same state."""
    ours, theirs = getattr(tt_data, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    state = {k: torch.tensor(normal(*v.shape) ** 2 + 0.5 if v.ndim else 3) for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})
    return ours, theirs


def check_state(ours: Any, theirs: Any) -> None:
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        agree(ours.state_dict()[name], value, name)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        agree(p.grad, gradients[name], f"gradient of {name}")
