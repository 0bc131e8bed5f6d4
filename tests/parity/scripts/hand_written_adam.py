"""Optimizers written by hand on the Rosenbrock valley, with a second derivative for good measure."""

from __future__ import annotations

import torch


def make_model():
    return torch.tensor([-1.5, 2.0])


def rosenbrock(p):
    x, y = p.unbind()
    return (1 - x) ** 2 + 100 * torch.pow(y - x**2, 2)


def train(start):
    p = start.clone().detach().requires_grad_(True)
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    beta1, beta2, eps, lr = 0.9, 0.999, 1e-8, 0.05
    losses = []
    for t in range(1, 101):
        loss = rosenbrock(p)
        (g,) = torch.autograd.grad(loss, p)
        with torch.no_grad():
            m.mul_(beta1).add_(g, alpha=1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            denominator = (v / (1 - beta2**t)).sqrt_().add_(eps)
            p.addcdiv_(m / (1 - beta1**t), denominator, value=-lr)
        losses.append(loss.item())
    (first,) = torch.autograd.grad(rosenbrock(p), p, create_graph=True)
    rows = [torch.autograd.grad(first[i], p, retain_graph=True)[0] for i in range(2)]
    hessian = torch.vstack(rows)
    assert torch.allclose(hessian, hessian.t(), rtol=1e-4)
    return [*losses, torch.trace(hessian).item()]


if __name__ == "__main__":
    print(train(make_model())[-2:])
