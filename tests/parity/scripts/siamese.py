"""Embeddings from triplets, with hooks, frozen layers and cosine similarity."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential()
        self.body.add_module("first", nn.Linear(4, 8))
        self.body.add_module("act", nn.PReLU())
        self.head = nn.Linear(8, 3)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))])

    def forward(self, x):
        y = self.head(self.body(x)) * self.scales[0] + self.scales[1]
        return F.normalize(y, p=2, dim=-1)


def make_model():
    return Encoder()


def train(model):
    rng = np.random.default_rng(8)
    centers = rng.normal(0, 2, (3, 4))
    seen = []
    handle = model.head.register_forward_hook(lambda module, args, output: seen.append(output.detach().norm().item()))
    criterion = nn.TripletMarginLoss(margin=0.5, p=2)
    for name, p in model.named_parameters():
        if name.startswith("scales.1"):
            p.requires_grad = False
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=0.02)
    losses = []
    for _ in range(40):
        a = rng.integers(0, 3, 24)
        b = (a + rng.integers(1, 3, 24)) % 3
        anchor, positive, negative = (
            torch.from_numpy((centers[c] + rng.normal(0, 0.3, (24, 4))).astype(np.float32)) for c in (a, a, b)
        )
        loss = criterion(model(anchor), model(positive), model(negative))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    handle.remove()
    model.eval()
    with torch.set_grad_enabled(False):
        points = model(torch.from_numpy(centers.astype(np.float32)))
        similarity = F.cosine_similarity(points[0:1], points[1:], dim=1)
    assert len(seen) == 120
    assert similarity.shape == (2,)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * 8 + 8 + 1 + 8 * 3 + 3 + 3
    assert len(list(model.modules())) == 6
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
