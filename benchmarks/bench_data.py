"""Act III: one epoch through the data loader, and one training step of a convolution."""

from __future__ import annotations

from .support import activate, applicable, integers, normal, plugins, speedup


class Loader:
    """4,096 shuffled images in batches of 64."""

    params = (0, 2)
    param_names = ("num_workers",)

    def setup(self, num_workers: int) -> None:
        with applicable():
            from tt_core import tensor
            from tt_data import DataLoader, TensorDataset
        dataset = TensorDataset(tensor(normal(4096, 784)), tensor(integers(10, 4096)))
        self.loader = DataLoader(dataset, batch_size=64, shuffle=True, num_workers=num_workers)

    def time_epoch(self, num_workers: int) -> None:
        for _ in self.loader:
            pass


class Convolution:
    """Forward and backward of 32 to 64 channels, 3x3, on 32 images of 16x16."""

    params = (plugins("none", "jit"),)
    param_names = ("plugin",)

    def setup(self, plugin: str) -> None:
        with applicable():
            from tt_core import tensor
            from tt_data import Conv2d
        activate(plugin)
        self.layer = Conv2d(32, 64, 3, padding=1)
        self.images = tensor(normal(32, 32, 16, 16))
        self.time_step(plugin)  # compiles what a plugin compiles at the first call

    def time_step(self, plugin: str) -> None:
        self.layer(self.images).sum().backward()

    def track_speedup_step(self, plugin: str) -> float:
        return speedup(plugin, lambda: self.time_step(plugin))

    track_speedup_step.unit = "times as fast"  # type: ignore[attr-defined]
