"""What mypy says of expressions that users write; each line's comment is compared with mypy's answer."""

from __future__ import annotations

from typing_extensions import reveal_type

import tt_core as tt
import tt_learn
from tt_core.engine.dispatch import Array
from tt_data import Conv2d, MaxPool2d
from tt_language import GPT, GPTConfig, generate


class Net(tt.Layer):
    """A layer of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = tt.Linear(2, 2)

    def forward(self, x: tt.Tensor) -> tt.Tensor:
        return self.first(x)


@tt.op
def double(x: Array, /) -> Array:
    """Twice the input."""
    return x * 2


x = tt.randn(2, 2)
w = tt_learn.Tensor([[1.0, 2.0]], requires_grad=True)
net = Net()
image = tt.Sequential(Conv2d(3, 8, 3, padding=1), tt.ReLU(), MaxPool2d(2))
gpt = GPT(GPTConfig(vocab_size=300, block_size=8, n_layer=1, n_head=1, n_embd=8))

reveal_type(tt.relu(x))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.relu(w))  # tt_learn.autograd.tensor.Tensor
reveal_type(net(x))  # tt_core.tensor.tensor.Tensor
reveal_type(net.first(x))  # tt_core.tensor.tensor.Tensor
reveal_type(net.first.weight)  # tt_core.tensor.tensor.Tensor
reveal_type(image(tt.zeros(1, 3, 8, 8)))  # tt_core.tensor.tensor.Tensor
reveal_type(gpt(tt.tensor([[1, 2]])))  # tt_core.tensor.tensor.Tensor
reveal_type(double(x))  # tt_core.tensor.tensor.Tensor
reveal_type(x + 1)  # tt_core.tensor.tensor.Tensor
reveal_type(1 - x)  # tt_core.tensor.tensor.Tensor
reveal_type(x @ x.T)  # tt_core.tensor.tensor.Tensor
reveal_type(-x)  # tt_core.tensor.tensor.Tensor
reveal_type(x > 0)  # tt_core.tensor.tensor.Tensor
reveal_type(x == x)  # tt_core.tensor.tensor.Tensor
reveal_type(x[0])  # tt_core.tensor.tensor.Tensor
reveal_type(x.exp())  # tt_core.tensor.tensor.Tensor
reveal_type(x.sum())  # tt_core.tensor.tensor.Tensor
reveal_type(x.max())  # tt_core.tensor.tensor.Tensor
reveal_type(x.reshape(-1))  # tt_core.tensor.tensor.Tensor
reveal_type(w.exp() * 2)  # tt_learn.autograd.tensor.Tensor
reveal_type(tt.linear(x, net.first.weight, net.first.bias))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.layer_norm(x))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.cat([x, x]))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.where(x > 0, x, 0.0))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.cross_entropy(x, tt.zeros(8).long()))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.CrossEntropyLoss()(x, tt.zeros(8).long()))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.dropout(x))  # tt_core.tensor.tensor.Tensor
reveal_type(generate(gpt, [1, 2], max_new_tokens=1))  # list[list[int]]
reveal_type(x.max(1).values)  # tt_core.tensor.tensor.Tensor
reveal_type(x.sort().indices)  # tt_core.tensor.tensor.Tensor
reveal_type(tt.softmax(x, dim=1).sum(0).sqrt())  # tt_core.tensor.tensor.Tensor
reveal_type(next(iter(net.parameters())))  # tt_core.tensor.tensor.Tensor
reveal_type(next(iter(image.children()))(x))  # tt_core.tensor.tensor.Tensor
reveal_type(tt.where(x > 0)[0])  # tt_core.tensor.tensor.Tensor
