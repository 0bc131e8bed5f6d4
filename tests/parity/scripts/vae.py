"""A variational autoencoder on seven-segment digits."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SEGMENTS = [
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(7, 24)
        self.mu = nn.Linear(24, 2)
        self.logvar = nn.Linear(24, 2)
        self.out1 = nn.Linear(2, 24)
        self.out2 = nn.Linear(24, 7)

    def encode(self, x):
        h = F.softplus(self.hidden(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        return torch.sigmoid(self.out2(F.mish(self.out1(z))))

    def forward(self, x, eps):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar, eps)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def make_model():
    return VAE()


def train(model):
    rng = np.random.default_rng(5)
    digits = torch.tensor([[float(bit) for bit in segments] for segments in SEGMENTS])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        index = torch.from_numpy(rng.integers(0, 10, 32))
        batch = torch.index_select(digits, 0, index)
        eps = torch.from_numpy(rng.standard_normal((32, 2)).astype(np.float32))
        optimizer.zero_grad()
        recon, mu, logvar = model(batch, eps)
        loss = loss_function(recon, batch, mu, logvar)
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / len(batch))
    with torch.no_grad():
        assert model.decode(torch.randn(4, 2)).shape == (4, 7)
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
