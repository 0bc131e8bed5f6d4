"""Denoising diffusion of points on a circle: a schedule of noise, time embeddings and a sampler."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Denoiser(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.time = nn.Linear(8, width)
        self.inp = nn.Linear(2, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def embed(self, t):
        frequencies = torch.exp(torch.arange(0, 4, dtype=torch.float32) * -(math.log(100.0) / 4))
        angles = t.float().unsqueeze(-1) * frequencies[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, x, t):
        h = F.silu(self.inp(x) + self.time(self.embed(t)))
        return self.out(F.hardswish(self.mid(h)) + h)


def make_model():
    return Denoiser()


def train(model):
    rng = np.random.default_rng(9)
    steps = 20
    betas = torch.linspace(1e-3, 0.3, steps)
    alphas = 1.0 - betas
    alphas_bar = torch.cumprod(alphas, dim=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, 64).astype(np.float32))
        x0 = torch.stack((angle.cos(), angle.sin()), dim=-1)
        t = torch.from_numpy(rng.integers(0, steps, 64))
        noise = torch.from_numpy(rng.standard_normal((64, 2)).astype(np.float32))
        signal = alphas_bar.gather(0, t).reshape(-1, 1)
        xt = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
        loss = F.mse_loss(model(xt, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    x = torch.randn(8, 2)
    with torch.no_grad():
        for i in reversed(range(steps)):
            t = torch.full((8,), i, dtype=torch.long)
            z = torch.randn_like(x) if i > 0 else torch.zeros_like(x)
            x = (x - betas[i] / (1 - alphas_bar[i]).sqrt() * model(x, t)) / alphas[i].sqrt() + betas[i].sqrt() * z
    assert x.shape == (8, 2)
    assert torch.isfinite(x).all()
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
