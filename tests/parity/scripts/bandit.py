"""A policy gradient for a bandit with four arms: REINFORCE with a baseline."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import Categorical


def make_model():
    return torch.zeros(4)


def train(preferences):
    rng = np.random.default_rng(7)
    rewards = torch.tensor([0.1, 0.5, 0.9, 0.3])
    policy = preferences.clone().requires_grad_()
    optimizer = torch.optim.SGD([policy], lr=0.5)
    baseline = torch.zeros(())
    losses = []
    for _ in range(80):
        with torch.no_grad():
            probs = torch.softmax(policy, dim=-1)
            cdf = torch.cumsum(probs, dim=0)
            draw = torch.tensor(rng.random(16), dtype=torch.float32)
            actions = torch.searchsorted(cdf, draw).clamp_(max=3)
        noise = torch.tensor(rng.normal(0, 0.1, 16).astype(np.float32))
        reward = torch.gather(rewards, 0, actions) + noise
        choice = Categorical(logits=policy)
        advantage = reward - baseline
        loss = -(advantage * choice.log_prob(actions)).mean() - 0.01 * choice.entropy()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        baseline = 0.9 * baseline + 0.1 * reward.mean()
        losses.append(loss.item())
    assert torch.argmax(policy).item() == 2
    return losses


if __name__ == "__main__":
    print(train(make_model())[-1])
