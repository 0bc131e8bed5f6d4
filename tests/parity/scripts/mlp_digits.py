"""An MLP that reads seven-segment digits through noise, with a schedule, clipping and a saved state dict."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR

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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(7, 32)
        self.fc2 = nn.Linear(32, 10)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x):
        x = torch.flatten(x, 1)
        x = self.dropout(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def make_model():
    return Net()


def digits(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    clean = np.array([[float(bit) for bit in SEGMENTS[label]] for label in labels])
    noisy = clean + rng.normal(0, 0.2, clean.shape)
    return torch.from_numpy(noisy).float().unsqueeze(1), torch.from_numpy(labels).long()


def train(model):
    model.train()
    data, target = digits(256, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=5, gamma=0.7)
    losses = []
    for _ in range(10):
        for batch, labels in zip(torch.split(data, 64), torch.split(target, 64)):
            optimizer.zero_grad(set_to_none=True)
            loss = F.nll_loss(model(batch), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
    path = os.path.join(tempfile.mkdtemp(), "mlp.pt")
    torch.save({"epoch": 10, "model": model.state_dict()}, path)
    checkpoint = torch.load(path, map_location="cpu")
    other = Net()
    other.load_state_dict(checkpoint["model"])
    other.eval()
    data, target = digits(128, 1)
    with torch.inference_mode():
        pred = other(data).argmax(dim=1, keepdim=True)
        accuracy = pred.eq(target.view_as(pred)).float().mean().item()
    assert checkpoint["epoch"] == 10
    assert accuracy > 0.9
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
