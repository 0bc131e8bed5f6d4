"""A user's program: mypy checks it with --strict, and it runs."""

from __future__ import annotations

import tt_core as tt
import tt_learn
from tt_core.engine.dispatch import Array
from tt_data import Conv2d, MaxPool2d
from tt_language import GPT, GPTConfig


class Net(tt.Layer):
    """Two layers with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = tt.Linear(width, width)
        self.second = tt.Linear(width, 1)
        self.scale = tt.Parameter(1.0)

    def forward(self, x: tt.Tensor) -> tt.Tensor:
        y = tt.relu(self.first(x)) * self.scale
        return self.second(x + y)


@tt.op
def double(x: Array, /) -> Array:
    """Twice the input."""
    return x * 2


def train(net: Net, x: tt.Tensor, y: tt.Tensor) -> float:
    """The loss after three steps."""
    optimizer = tt_learn.Adam(net.parameters(), lr=1e-2)
    loss = tt.mse_loss(net(x), y)
    for _ in range(3):
        optimizer.zero_grad()
        loss = tt.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
    return float(loss.item())


x = tt.randn(8, 4)
net = Net(4)
print(train(net, x, tt.zeros(8, 1)), net.first.weight.grad, double(x).shape)

image = tt.Sequential(Conv2d(3, 8, 3, padding=1), tt.ReLU(), MaxPool2d(2))
gpt = GPT(GPTConfig(vocab_size=300, block_size=8, n_layer=1, n_head=1, n_embd=8))
print(image(tt.zeros(1, 3, 8, 8)).argmax().item(), gpt(tt.tensor([[1, 2]])).shape)
