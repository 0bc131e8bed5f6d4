"""Two clouds of points, told apart by logistic regression."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class LogisticRegression(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, x):
        return torch.sigmoid(self.linear(x)).squeeze(dim=1)


def make_model():
    return LogisticRegression(2).to(device)


def train(model):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-1, 1, (60, 2)), rng.normal(1, 1, (60, 2))]).astype(np.float32)
    y = np.repeat([0.0, 1.0], 60).astype(np.float32)
    inputs, targets = torch.tensor(x, device=device), torch.tensor(y).to(device)
    criterion = nn.BCELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for epoch in range(40):
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if epoch % 20 == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")
    with torch.no_grad():
        predicted = (model(inputs) > 0.5).float()
        correct = predicted.eq(targets).sum().item()
    return [*losses, correct / targets.size(0)]


if __name__ == "__main__":
    train(make_model())
