"""An autoencoder that squeezes sine waves through two numbers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn


class Autoencoder(nn.Module):
    def __init__(self, size=16, code=2):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(size, 12), nn.ELU(), nn.Linear(12, code))
        self.decoder = nn.Sequential(
            nn.Linear(code, 12), nn.LeakyReLU(0.1, inplace=True), nn.Linear(12, size), nn.Tanh()
        )

    def encode(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.decoder(self.encode(x))


def make_model():
    return Autoencoder()


def train(model):
    rng = np.random.default_rng(3)
    phase = torch.as_tensor(rng.uniform(0, 2 * np.pi, (64, 1)), dtype=torch.float32)
    time = torch.arange(16, dtype=torch.float32).unsqueeze(0).repeat(64, 1) / 16 * 2 * torch.pi
    waves = torch.sin(time + phase)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    criterion = nn.HuberLoss(delta=0.5)
    losses = []
    for _ in range(60):
        loss = criterion(model(waves), waves)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model.encode(waves).shape == torch.Size([64, 2])
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
