"""A generative adversarial network that learns a normal distribution."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim


def make_model():
    generator = nn.Sequential(nn.Linear(2, 16), nn.SELU(), nn.Linear(16, 1))
    discriminator = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())
    return nn.ModuleDict({"generator": generator, "discriminator": discriminator})


def train(model):
    rng = np.random.default_rng(4)
    generator, discriminator = model["generator"], model["discriminator"]
    optimizer_g = optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999))
    optimizer_d = optim.Adam(discriminator.parameters(), lr=0.01, betas=(0.5, 0.999))
    criterion = nn.BCELoss()
    losses = []
    for _ in range(50):
        real = torch.from_numpy(rng.normal(4, 1.25, (32, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal((32, 2)).astype(np.float32))
        ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)

        discriminator.zero_grad()
        fake = generator(noise)
        loss_d = criterion(discriminator(real), ones) + criterion(discriminator(fake.detach()), zeros)
        loss_d.backward()
        optimizer_d.step()

        for p in discriminator.parameters():
            p.requires_grad_(False)
        generator.zero_grad()
        loss_g = criterion(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()
        discriminator.requires_grad_(True)
        losses += [loss_d.item(), loss_g.item()]
    return losses


if __name__ == "__main__":
    print(train(make_model())[-2:])
