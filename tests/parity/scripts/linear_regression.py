"""A line through noisy points, with the gradient step written by hand."""

from __future__ import annotations

import numpy as np
import torch


def make_model():
    torch.manual_seed(0)
    return None


def train(model):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (100, 1)).astype(np.float32))
    y = 3 * x + 0.5 + 0.1 * torch.from_numpy(rng.standard_normal((100, 1)).astype(np.float32))
    w = torch.zeros(1, 1, requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    losses = []
    for _ in range(50):
        loss = torch.mean(torch.square(torch.mm(x, w) + b - y))
        loss.backward()
        with torch.no_grad():
            w -= 0.3 * w.grad
            b.sub_(b.grad, alpha=0.3)
            w.grad.zero_()
            b.grad = None
        losses.append(loss.item())
    assert torch.allclose(w.squeeze(), torch.tensor(3.0), atol=0.2)
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
