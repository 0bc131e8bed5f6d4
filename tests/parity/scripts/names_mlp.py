"""A character-level MLP that makes up names: embeddings, batch statistics by hand, cross entropy and sampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F

WORDS = [
    "anna",
    "emma",
    "olivia",
    "ava",
    "mia",
    "luna",
    "ella",
    "nora",
    "hanna",
    "lena",
    "clara",
    "ida",
    "lotta",
    "mara",
    "nina",
    "paula",
]
CHARS = sorted(set("".join(WORDS)))
STOI = {s: i + 1 for i, s in enumerate(CHARS)}
STOI["."] = 0
ITOS = {i: s for s, i in STOI.items()}
BLOCK = 3


def make_model():
    g = torch.Generator().manual_seed(2147483647)
    n = len(STOI)
    parameters = [
        torch.randn((n, 6), generator=g),
        torch.randn((BLOCK * 6, 32), generator=g) * (5 / 3) / (BLOCK * 6) ** 0.5,
        torch.ones((1, 32)),
        torch.zeros((1, 32)),
        torch.randn((32, n), generator=g) * 0.01,
        torch.zeros(n),
    ]
    return parameters


def build_dataset(words):
    xs, ys = [], []
    for w in words:
        context = [0] * BLOCK
        for ch in w + ".":
            ix = STOI[ch]
            xs.append(context)
            ys.append(ix)
            context = [*context[1:], ix]
    return torch.tensor(xs), torch.tensor(ys)


def train(parameters):
    C, W1, gain, bias, W2, b2 = parameters
    for p in parameters:
        p.requires_grad = True
    X, Y = build_dataset(WORDS)
    assert X.shape[1] == BLOCK
    assert X.dtype == torch.int64
    losses = []
    for i in range(60):
        emb = C[X]
        hpre = emb.view(emb.shape[0], -1) @ W1
        hpre = gain * (hpre - hpre.mean(0, keepdim=True)) / (hpre.std(0, keepdim=True) + 1e-5) + bias
        h = torch.tanh(hpre)
        logits = h @ W2 + b2
        loss = F.cross_entropy(logits, Y)
        for p in parameters:
            p.grad = None
        loss.backward()
        lr = 0.3 if i < 40 else 0.05
        with torch.no_grad():
            for p in parameters:
                p -= lr * p.grad
        losses.append(loss.item())
    sample(logits.detach(), Y)
    return losses


def sample(logits, Y):
    g = torch.Generator().manual_seed(2147483647 + 10)
    probs = F.softmax(logits, dim=1)
    ix = torch.multinomial(probs, num_samples=1, replacement=True, generator=g)
    assert ix.shape == (len(Y), 1)
    assert "".join(ITOS[i] for i in ix.view(-1).tolist())
    counts = torch.zeros((len(STOI), len(STOI)), dtype=torch.int32)
    for a, b in zip(Y[:-1].tolist(), Y[1:].tolist()):
        counts[a, b] += 1
    P = (counts + 1).float()
    P /= P.sum(1, keepdim=True)
    assert torch.allclose(P.sum(1), torch.ones(len(STOI)))


if __name__ == "__main__":
    print(train(make_model())[-1])
