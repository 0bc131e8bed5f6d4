"""A training step of a convolutional network beside PyTorch's: 3-32-64-128 channels on 32x32, batch 64, Adam.

    python benchmarks/peers/cnn.py [--rounds 5] [--plugin jit ...]

Both sides compute the same: three stages of 3x3 convolution, ReLU and 2x2 max pooling, a linear layer to 10 classes,
cross entropy, backward, one step of Adam. Each side runs in a process of its own and all threads the machine has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import main

CHANNELS = (3, 32, 64, 128)
BATCH, SIZE, CLASSES = 64, 32, 10


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, CHANNELS[0], SIZE, SIZE), dtype=np.float32)
    return images, rng.integers(CLASSES, size=BATCH)


def tinytorch_step(_: str) -> tuple[Callable[[], object], str]:
    import tt_core as C
    import tt_data as D
    import tt_learn
    from tt_learn.optimizers import Adam

    stages = [
        layer
        for i, o in itertools.pairwise(CHANNELS)
        for layer in (D.Conv2d(i, o, 3, padding=1), C.ReLU(), D.MaxPool2d(2))
    ]
    model = C.Sequential(*stages, D.Flatten(), C.Linear(CHANNELS[-1] * (SIZE // 8) ** 2, CLASSES))
    optimizer, loss = Adam(model.parameters()), C.CrossEntropyLoss()
    images, labels = map(C.tensor, batch())

    def step() -> Any:
        optimizer.zero_grad()
        error = loss(model(images), labels)
        error.backward()
        optimizer.step()
        return error

    return step, f"tinytorch {tt_learn.__version__}, numpy {np.__version__}"


def torch_step(_: str) -> tuple[Callable[[], object], str]:
    import torch
    from torch import nn

    stages = [
        layer
        for i, o in itertools.pairwise(CHANNELS)
        for layer in (nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    model = nn.Sequential(*stages, nn.Flatten(), nn.Linear(CHANNELS[-1] * (SIZE // 8) ** 2, CLASSES))
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    images, labels = map(torch.tensor, batch())

    def step() -> Any:
        optimizer.zero_grad()
        error = loss(model(images), labels)
        error.backward()
        optimizer.step()
        return error

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main(__file__, __doc__, tinytorch_step, torch_step, {"32x32": 20})
