"""Act II: one training step of the MLP that reads MNIST, 784-128-10 with batches of 64."""

from __future__ import annotations

from .support import activate, applicable, integers, normal, plugins, speedup


class MLPStep:
    """Forward, backward and optimizer step."""

    params = (plugins("none", "profiler", "jit"), ["SGD", "Adam"])
    param_names = ("plugin", "optimizer")

    def setup(self, plugin: str, optimizer: str) -> None:
        with applicable():
            import tt_learn
            from tt_core import CrossEntropyLoss, Linear, ReLU, Sequential, tensor
        activate(plugin)
        self.model = Sequential(Linear(784, 128), ReLU(), Linear(128, 10))
        self.loss = CrossEntropyLoss()
        self.optimizer = getattr(tt_learn, optimizer)(self.model.parameters(), lr=1e-3)
        self.images, self.labels = tensor(normal(64, 784)), tensor(integers(10, 64))
        self.step()  # compiles what a plugin compiles at the first call

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model(self.images), self.labels).backward()
        self.optimizer.step()

    def time_step(self, plugin: str, optimizer: str) -> None:
        self.step()

    def peakmem_step(self, plugin: str, optimizer: str) -> None:
        self.step()

    def track_speedup_step(self, plugin: str, optimizer: str) -> float:
        return speedup(plugin, self.step)

    track_speedup_step.unit = "times as fast"  # type: ignore[attr-defined]


class Backward:
    """A chain of small ops, where the walk back through the graph takes the time."""

    def setup(self) -> None:
        with applicable():
            from tt_learn import Tensor
        self.start = Tensor(normal(1), requires_grad=True)

    def time_chain_of_1000(self) -> None:
        x = self.start
        for _ in range(1000):
            x = x * 1.0001
        x.sum().backward()
