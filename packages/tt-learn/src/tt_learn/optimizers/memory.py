"""Part of module 06: how many bytes learning takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes that learning takes, activations not included: the result of `Optimizer.memory()`.

    `parameters`, `gradients`, `state` and `scratch` are total bytes; `count` is the number of trained elements.

    >>> Memory(count=10, parameters=40, gradients=40, state=80, scratch=0).factor
    3.0
    """

    count: int
    parameters: int
    gradients: int
    state: int
    scratch: int

    @property
    def per_parameter(self) -> dict[str, float]:
        """Bytes per trained element."""
        parts = {"parameter": self.parameters, "gradient": self.gradients, "state": self.state}
        return {name: size / max(self.count, 1) for name, size in parts.items()}

    @property
    def factor(self) -> float:
        """Parameters and state relative to the parameters alone: 1 for SGD, 2 with momentum, 3 for Adam."""
        return (self.parameters + self.state) / self.parameters if self.parameters else 1.0

    def __str__(self) -> str:
        each = " + ".join(f"{size:g} {name}" for name, size in self.per_parameter.items())
        total = self.parameters + self.gradients + self.state + self.scratch
        size = f"{total / 1e6:.2f} MB in all, {self.factor:g}x without gradients"
        return f"{self.count:,} parameters, bytes each: {each}; {size}"
