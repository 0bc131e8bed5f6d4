"""LoRA: the configuration and the adapted layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tt_core import init
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import TinyTorchError, is_integer
from tt_core.layers import Dropout, Layer, LayerDict, Linear
from tt_core.tensor import Tensor, cat, from_numpy, zeros


class LoraError(TinyTorchError, ValueError):
    """An adapter does not fit a model, or cannot be merged."""


@dataclass(frozen=True)
class LoraConfig:
    """Which layers are adapted, and how, with PEFT's names and defaults.

    r: rank of the update.
    lora_alpha: the update is multiplied by lora_alpha / r, with `use_rslora` by lora_alpha / sqrt(r)
    (Kalajdzievski 2023, arXiv:2312.03732).
    target_modules: names of the linear layers to adapt, as the checkpoint calls them (c_attn, q_proj) or as the model
    does (in_proj, up). A string is a regular expression for the whole path, or "all-linear", which means all layers but
    the head. None means PEFT's choice for the family.
    lora_dropout: the probability with which a feature of the update's input is dropped in training.
    bias: which biases are trained: "none", "all" or "lora_only" (those of adapted layers).
    fan_in_fan_out: whether the model's file stores weights as (in, out), as GPT-2's does; set when an adapter is saved.
    modules_to_save: names of layers of which all weights are trained.

    Raises `LoraError` for values out of range.

    >>> LoraConfig(r=16, lora_alpha=32).scaling
    2.0
    """

    r: int = 8
    lora_alpha: float = 8
    target_modules: str | Sequence[str] | None = None
    lora_dropout: float = 0.0
    bias: str = "none"
    fan_in_fan_out: bool = False
    modules_to_save: Sequence[str] | None = None
    use_rslora: bool = False

    def __post_init__(self) -> None:
        self._need(is_integer(self.r, 1), "r", "an integer, 1 or more")
        alpha = self.lora_alpha
        self._need(type(alpha) in (int, float) and math.isfinite(alpha), "lora_alpha", "a finite number")
        self._need(
            type(self.lora_dropout) in (int, float) and 0 <= self.lora_dropout < 1, "lora_dropout", "0 to below 1"
        )
        self._need(str(self.bias) in ("none", "all", "lora_only"), "bias", "none, all or lora_only")
        for flag in ("fan_in_fan_out", "use_rslora"):
            self._need(type(getattr(self, flag)) is bool, flag, "True or False")
        for name in ("target_modules", "modules_to_save"):
            given = getattr(self, name)
            words = [given] if isinstance(given, str) else [] if given is None else given
            fine = isinstance(words, (list, tuple, set, frozenset)) and all(isinstance(x, str) and x for x in words)
            self._need(fine, name, "a list of names")
            if given is not None and not isinstance(given, str):
                object.__setattr__(self, name, tuple(sorted(given) if isinstance(given, (set, frozenset)) else given))

    def _need(self, fine: bool, name: str, expected: str) -> None:
        if not fine:
            raise LoraError(f"LoraConfig: {name} is {str(getattr(self, name))[:60]!r}, expected {expected}")

    @property
    def scaling(self) -> float:
        """The factor of the product B A."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


class LoraUpdate(Layer):
    """The update of some rows of a weight: `scaling dropout(x) A^T B^T`, (..., in) to (..., rows)."""

    def __init__(self, in_features: int, rows: tuple[int, int], config: LoraConfig) -> None:
        super().__init__()
        self.rows, self.scaling = rows, config.scaling
        self.lora_A = Linear(in_features, config.r, bias=False)
        self.lora_B = Linear(config.r, rows[1] - rows[0], bias=False)
        self.dropout = Dropout(config.lora_dropout)
        init.zeros_(self.lora_B.weight)  # so training begins at the model's own output

    def forward(self, x: Tensor) -> Any:
        return self.lora_B(self.lora_A(self.dropout(x))) * self.scaling

    def delta(self) -> Array:
        """`scaling B A` (rows, in) in float64."""
        b, a = (layer.weight.data.astype(np.float64) for layer in (self.lora_B, self.lora_A))
        return self.scaling * (b @ a)


class LoraLinear(Layer):
    """A `Linear` with updates: `base(x)` plus an update for each part of its rows.

    A packed projection, such as attention's, has several parts, each with its own update. Takes (..., in) and returns
    (..., out) in the dtype of the base. `get_peft_model` creates these layers.
    """

    def __init__(self, base: Linear, updates: Mapping[str, LoraUpdate]) -> None:
        super().__init__()
        self.base = base
        self.updates = LayerDict(dict(updates))
        self.enabled = True
        self.in_features, self.out_features = base.in_features, base.out_features
        self._before: Any = None  # the base's weight before it was merged

    @property
    def merged(self) -> bool:
        """Whether the weight of the base includes the updates."""
        return self._before is not None

    @property
    def weight(self) -> Tensor:
        """The effective weight, without gradients."""
        if self.merged or not self.enabled:
            return self.base.weight
        return from_numpy(self.merged_weight().astype(self.base.weight.dtype))

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Any:
        out = self.base(x)
        if self.merged or not self.enabled:
            return out
        narrow = x.dtype == np.float16
        added = self._update(x.float() if narrow else x)
        return (out.float() + added).half() if narrow else out + added

    def _update(self, x: Tensor) -> Any:
        """(..., out): the concatenated updates, with zeros for rows without one."""
        parts, end = [], 0
        for update in self._updates():
            start, stop = update.rows
            if start > end:
                parts.append(zeros(*x.shape[:-1], start - end))
            parts.append(update(x))
            end = stop
        if end < self.out_features:
            parts.append(zeros(*x.shape[:-1], self.out_features - end))
        return parts[0] if len(parts) == 1 else cat(parts, dim=-1)

    def merged_weight(self) -> Array:
        """W + scaling B A (out, in) in float64."""
        before = self.base.weight if self._before is None else self._before
        whole: Array = before.data.astype(np.float64)
        for update in self._updates():
            whole[slice(*update.rows)] += update.delta()
        return whole

    def merge(self, safe_merge: bool = False) -> float:
        """Add the updates to the weight of the base; returns the largest difference due to rounding.

        The sum is computed in float64 and rounded once. A second merge starts from the weight before the first. The
        base gets a new weight, so a weight that other layers share does not change. With `safe_merge`, raises
        `LoraError` for a result that is not finite.
        """
        exact = self.merged_weight()
        if safe_merge and not np.isfinite(exact).all():
            raise LoraError("merge: the adapter makes weights that are not finite; it is damaged, or training diverged")
        before = self.base.weight if self._before is None else self._before
        rounded = quietly(exact.astype, before.dtype)
        self._before, self.base.weight = before, from_numpy(rounded).as_parameter().requires_grad_(False)
        return float(quietly(lambda: np.abs(rounded - exact).max(initial=0.0)))

    def unmerge(self) -> None:
        """Restore the weight that the base had before the merge, bit for bit."""
        if self._before is not None:
            self.base.weight, self._before = self._before, None

    def _updates(self) -> list[LoraUpdate]:
        return cast("list[LoraUpdate]", list(self.updates.values()))

    def extra_repr(self) -> str:
        ranks = ", ".join(
            f"{name}: r={update.lora_A.out_features}" for name, update in zip(self.updates, self._updates())
        )
        return ranks + ", merged" * self.merged
