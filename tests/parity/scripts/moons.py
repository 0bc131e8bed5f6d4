"""Two moons with hinge loss and a small MLP of tanh, as in a lecture on backpropagation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def make_model():
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Linear(16, 1))


def make_moons(n):
    rng = np.random.default_rng(2)
    t = torch.linspace(0, math.pi, n)
    first = torch.stack([torch.cos(t), torch.sin(t)], dim=1)
    second = torch.stack([1 - torch.cos(t), 0.5 - torch.sin(t)], dim=1)
    x = torch.cat((first, second), 0) + torch.from_numpy(rng.normal(0, 0.1, (2 * n, 2)).astype("float32"))
    y = torch.cat([-torch.ones(n), torch.ones(n)])
    return x, y


def train(model):
    x, y = make_moons(50)
    losses = []
    for step in range(60):
        scores = model(x).view(-1)
        margin = (1 - y * scores).clamp(min=0).mean()
        penalty = sum((p * p).sum() for p in model.parameters())
        loss = margin + 1e-4 * penalty
        model.zero_grad()
        loss.backward()
        lr = 1.0 - 0.9 * step / 60
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=-lr)
        losses.append(loss.item())
    accuracy = ((scores > 0) == (y > 0)).float().mean()
    assert accuracy > 0.9
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
