"""Muon: momentum for matrices in which all directions have the same weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.kernels.products import product
from tt_learn.kernels.optimizers import adam_in_place, decay_weights, lerp, step_along
from tt_learn.optimizers.base import Optimizer, as_tuple
from tt_learn.optimizers.blocks import State
from tt_learn.optimizers.saving import Group, OptimizerError


class Muon(Optimizer):
    """Momentum, orthogonalized by Newton-Schulz iterations (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    b = momentum b + (1 - momentum) g, with `nesterov` u = (1 - momentum) g + momentum b else u = b, and
    p -= lr weight_decay p + lr scale orthogonalize(u). The scale is sqrt(max(1, rows / columns)) for
    `adjust_lr_fn="original"` (the default), 0.2 sqrt(max(rows, columns)) for "match_rms_adamw", which lets AdamW's
    learning rates be used. Only matrices can be orthogonalized; a convolution's weight (out, in, kh, kw) counts as the
    matrix (out, in kh kw). Put all other parameters, embeddings and the last layer into groups with `use_muon=False`,
    which AdamW updates with `betas`, `adamw_eps` and their own `lr`. The iterations run in the dtype of the parameters,
    whereas PyTorch uses bfloat16, which NumPy lacks. Raises `OptimizerError` for a vector or number in a group of Muon.

    >>> from tt_learn import Tensor
    >>> w, b = Tensor([[3.0, 0.0], [0.0, 0.1]], requires_grad=True), Tensor([1.0], requires_grad=True)
    >>> groups = [{"params": [w]}, {"params": [b], "use_muon": False, "lr": 1e-3}]
    >>> muon = Muon(groups, lr=0.02)
    >>> ((w * w).sum() + (b * b).sum()).backward()
    >>> muon.step()
    >>> b
    tensor([0.9989], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        use_muon: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
    ) -> None:
        options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        iterations = {"ns_coefficients": tuple(ns_coefficients), "eps": eps, "ns_steps": ns_steps}
        adamw = {"use_muon": use_muon, "betas": as_tuple(betas), "adamw_eps": adamw_eps}
        self._scratch: dict[Any, list[Array]] = {}
        super().__init__(params, {**options, **iterations, "adjust_lr_fn": adjust_lr_fn, **adamw})

    def check(self, group: Group) -> None:
        super().check(group)
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            given = group["adjust_lr_fn"]
            raise OptimizerError(f"Muon: adjust_lr_fn is {given!r}, expected 'original' or 'match_rms_adamw'")
        for p in group["params"] if group["use_muon"] else ():
            if p.ndim < 2:
                raise OptimizerError(
                    f"Muon: a parameter of shape {p.shape} is not a matrix; put it into a group with use_muon=False"
                )

    def whole(self, group: Group) -> bool:
        return bool(group["use_muon"])

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["use_muon"] else ("exp_avg", "exp_avg_sq")

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, u = state.work
        if not group["use_muon"]:
            decay_weights(p, group)
            adam_in_place(p, g, state, step, {**group, "eps": group["adamw_eps"]})
            return
        b, momentum = state["momentum_buffer"], group["momentum"]
        lerp(b, g, 1 - momentum, w)
        np.copyto(u, g if group["nesterov"] else b)
        if group["nesterov"]:
            lerp(u, b, momentum, w)
        decay_weights(p, group)
        matrix = u.reshape(len(u), math.prod(u.shape[1:]))  # (out, in kh kw) of a convolution
        room = self._room_for(matrix)
        direction = orthogonalize(matrix, group["ns_coefficients"], group["ns_steps"], group["eps"], room)
        step_along(p, direction.reshape(p.shape), group["lr"] * scale_of(group["adjust_lr_fn"], *matrix.shape), w)

    def _room_for(self, u: Array) -> list[Array]:
        """Scratch memory for matrices of one shape, kept from step to step."""
        rows, columns = sorted(u.shape)
        key = (rows, columns, u.dtype)
        if key not in self._scratch:
            shapes = [(rows, columns)] * 3 + [(rows, rows)] * 2
            self._scratch[key] = [np.empty(shape, u.dtype) for shape in shapes]
        return self._scratch[key]


def orthogonalize(
    u: Array, coefficients: tuple[float, float, float], steps: int, eps: float, room: list[Array]
) -> Array:
    """Returns the nearest matrix whose singular values are all about 1, without a decomposition.

    x = u / |u|, then `steps` times x = a x + b (x x^T) x + c (x x^T)^2 x. This is a polynomial in each singular value
    that moves it to between 0.7 and 1.2. `room`: three arrays of the wide form of u, two of its shorter side squared.

    >>> u, room = np.diag([3.0, 0.1]), [np.empty((2, 2)) for _ in range(5)]
    >>> orthogonalize(u, (3.4445, -4.7750, 2.0315), 5, 1e-7, room).diagonal().round(2)
    array([0.7 , 1.13])
    """
    a, b, c = coefficients
    x, x_next, ux, gram, update = room
    np.copyto(x, u.T if u.shape[0] > u.shape[1] else u)  # the smaller Gram matrix is cheaper
    np.divide(x, max(math.sqrt(float(np.vdot(x, x))), eps), out=x)
    for _ in range(steps):
        product(x, x.T, out=gram)
        product(gram, gram, out=update)
        np.multiply(update, c, out=update)
        np.multiply(gram, b, out=gram)
        np.add(update, gram, out=update)
        product(update, x, out=ux)
        np.multiply(x, a, out=x_next)
        np.add(x_next, ux, out=x_next)
        x, x_next = x_next, x
    return x.T if u.shape[0] > u.shape[1] else x


def scale_of(adjust: str | None, rows: int, columns: int) -> float:
    """The factor of the learning rate for a matrix of this size, by `adjust_lr_fn`.

    >>> scale_of("original", 8, 2), scale_of("match_rms_adamw", 25, 100)
    (2.0, 2.0)
    """
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
