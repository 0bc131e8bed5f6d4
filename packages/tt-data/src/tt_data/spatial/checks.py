"""Module 09, spatial: what the ops of this module refuse. Each check takes the arguments of its op.

A check runs before every kernel of an op, a plugin's included; see `tt_core.engine.dispatch.op`.
"""

from __future__ import annotations

import numpy as np

from tt_core import Tensor
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError, check_floats


def check_images(x: Array, /, *_: object, **__: object) -> None:
    """Raise `ValueError` unless `x` is (N, C, H, W) or one image (C, H, W)."""
    if np.ndim(x) not in (3, 4):
        raise ValueError(f"input has {np.ndim(x)} dimensions, expected 4: (N, C, H, W), or 3 for one image")


def check_float_images(x: Array, /, *_: object, **__: object) -> None:
    """As `check_images`; raises `DTypeError` for integers, whose mean would be rounded and whose sum would wrap."""
    check_images(x)
    check_floats(np.asarray(x))


def check_conv2d(
    x: Array, weight: Array, bias: Array | None = None, /, *_: object, groups: int = 1, **__: object
) -> None:
    """Raise `ValueError` for images, weight, bias and groups that do not fit together."""
    check_images(x)
    channels = x.shape[-3]
    if weight.ndim != 4:
        raise ValueError(f"weight has {weight.ndim} dimensions, expected 4: (O, C / groups, kh, kw)")
    if groups < 1 or weight.shape[0] % groups or channels % groups:
        raise ValueError(f"groups {groups} must divide {channels} input and {weight.shape[0]} output channels")
    if channels != weight.shape[1] * groups:
        expected = f"{weight.shape[1]}" + (f" x {groups} groups" if groups > 1 else "")
        raise ValueError(f"input has {channels} channels, weight expects {expected}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {bias.shape}, expected {weight.shape[:1]}, one for each output channel")


def _check_vectors(x: Array, weight: Array | None, bias: Array | None) -> None:
    if np.ndim(x) < 2:
        raise ValueError(f"input has {np.ndim(x)} dimensions, expected (N, C, ...)")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ValueError(f"{name} has shape {vector.shape}, input has {x.shape[1]} channels")


def check_training(x: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5) -> None:
    _check_vectors(x, weight, bias)
    check_floats(x)
    if not x.size:
        raise ValueError("input has no values to take a mean of")


def check_backward(g: Array, x: Array, *_: object, **__: object) -> None:
    check_floats(g)
    check_floats(x)


def check_inference(
    x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> None:
    _check_vectors(x, weight, bias)
    if mean.shape != x.shape[1:2] or var.shape != x.shape[1:2]:
        raise ValueError(f"mean {mean.shape} and var {var.shape} must have one entry for each of {x.shape[1]} channels")


def check_channels(who: str, x: Tensor, *vectors: Tensor | None) -> None:
    """Raise `ShapeError` unless x is (N, C, ...) and each of `vectors` is (C,) or None."""
    if x.ndim < 2:
        raise ShapeError(f"{who}: input has {x.ndim} dimensions, expected (N, C, ...)")
    for vector in vectors:
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ShapeError(f"{who}: {vector.shape} is given for each of {x.shape[1]} channels of {x.shape}")
