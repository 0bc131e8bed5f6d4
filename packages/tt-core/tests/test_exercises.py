"""The exercises of Act I: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import pytest

from tt_core.command.cli import plugin
from tt_core.course.testing import CourseTests, KnockoutTests

MODULES = {module.name: module for module in plugin.tt_modules()}

WRONG: dict[str, dict[str, list[str]]] = {
    "tensor": {
        "add": ["a += b\nreturn a", "return np.add(a, b[..., :1])"],
        "masked_fill": [
            "return np.where(mask, x, value)",
            "x[mask] = value\nreturn x",
            "return np.where(mask, value, x) + 0.0",
        ],
        "mean": [
            "return sum(x, dim, keepdim) / count(x, dim)",
            "return sum.formula(x, dim, keepdim) / x.size", "return sum.formula(x, dim, True) / count(x, dim)"],
        "var": [
            "return mean.formula(x**2, dim, keepdim) - mean.formula(x, dim, keepdim) ** 2",
            "centred = x - mean.formula(x, dim, keepdim=True)\nreturn mean.formula(centred**2, dim, keepdim)",
        ],
        "logsumexp": [
            "return np.log(np.sum(np.exp(x), axis=axes(dim), keepdims=keepdim))",
            "m = x.max()\nreturn m + np.log(np.sum(np.exp(x - m), axis=axes(dim), keepdims=keepdim))",
        ],
        "matmul": ["return np.dot(a, b)", "return a * b"],
        "transpose": ["return x.T", "return np.swapaxes(x, dim0, dim1).copy()"],
        "expand": ["return np.array(np.broadcast_to(x, shape))", "return np.broadcast_to(x, shape)"],
        "tril": ["return np.triu(x, diagonal)", "return np.tril(x)"],
        "take_along_dim": ["return np.take(x, indices, axis=dim)"],
    },
    "activations": {
        "relu": ["return np.abs(x)", "x[x < 0] = 0\nreturn x", "return np.where(x > 0, x, 0.0)"],
        "leaky_relu": ["return np.maximum(x, negative_slope * x)"],
        "sigmoid": ["return np.exp(x) / (1 + np.exp(x))", "return 1 / (1 + np.exp(x))"],
        "tanh": ["return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))"],
        "gelu": ["return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2"],
        "softmax": [
            "e = np.exp(x)\nreturn e / e.sum(dim, keepdims=True)",
            "e = np.exp(x - x.max())\nreturn e / e.sum(dim, keepdims=True)",
            "e = np.exp(x - x.max(-1, keepdims=True))\nreturn e / e.sum(-1, keepdims=True)",
        ],
        "log_softmax": ["return np.log(softmax.formula(x, dim))"],
    },
    "layers": {
        "linear": ["return x @ weight if bias is None else x @ weight + bias", "return x @ weight.T"],
        "Linear.forward": ["return linear(x, self.weight)"],
        "Linear.reset_parameters": [
            "init.uniform_(self.weight, -1, 1)\nif self.bias is not None:\n    init.uniform_(self.bias, -1, 1)",
            "bound = 1 / self.in_features\n"
            "init.uniform_(self.weight, -bound, bound)\ninit.uniform_(self.bias, -bound, bound)",
        ],
        "Sequential.forward": ["for layer in self._children.values():\n    y = layer(x)\nreturn y"],
        "layer_norm": [
            "y = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps)\nreturn y",
            "y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True, ddof=1) + eps)\nreturn y",
            "axes = tuple(range(-dims, 0))\n"
            "return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)",
        ],
        "dropout": [
            "keep = (generator().random(x.shape, dtype=np.float32) >= p).astype(x.dtype)\nreturn x * keep, keep",
            "keep = (generator().random(x.shape, dtype=np.float32) < p) / x.dtype.type(1 - p)\nreturn x * keep, keep",
            "keep = (np.arange(x.size).reshape(x.shape) % 4 > 0) / x.dtype.type(0.75)\nreturn x * keep, keep",
        ],
        "Dropout.forward": ["return dropout(x, p=self.p)", "return x", "return dropout(x) if self.training else x"],
    },
    "losses": {
        "squared_error": ["return E.abs(E.sub(x, t))", "return E.mul(x, x) - E.mul(t, t)"],
        "smoothed_error": [
            "d = E.sub(x, t)\nnear = E.minimum(d, beta)\nreturn near * (d - near * 0.5) / beta",
            "d = E.abs(E.sub(x, t))\nreturn E.where(d < beta, d * d / (2 * beta), d)",
        ],
        "cross_entropy": [
            "return -log_softmax.formula(input, -1)[np.arange(len(target)), target].mean()",
            "logs = np.moveaxis(log_softmax.formula(input, class_dim(input)), class_dim(input), -1)\n"
            "shares, counted = class_shares(input, target, weight, ignore_index, label_smoothing)\n"
            "loss = -(shares * logs).sum(-1)\n"
            "return loss if reduction == 'none' else loss.sum() / (counted.sum() if reduction == 'mean' else 1)",
        ],
        "binary_cross_entropy": ["return -(target * np.log(input) + (1 - target) * np.log(1 - input)).mean()"],
        "pulled_or_pushed": [
            "short = margin - _root(squared, _TINY)\nreturn ((1 - target) * squared + target * short * short) * 0.5",
            "short = E.clip(margin - _root(squared, _TINY), min=0.0)\n"
            "return (target * squared + (1 - target) * short * short) * 0.5",
        ],
        "similarities": ["return query @ key.T", "return _unit(query) @ _unit(key)"],
    },
}  # fmt: skip

RIGHT: dict[str, dict[str, str]] = {
    "tensor": {
        "mean": "return sum.formula(x, dim, True).reshape(sum.formula(x, dim, keepdim).shape) / count(x, dim)",
        "var": "d = x - mean(x, dim, True)\n"
        "return mean(d * d, dim, keepdim) * count(x, dim) / (count(x, dim) - correction)",
        "logsumexp": "m = x.max(axis=dim, keepdims=True)\nm = np.where(np.isfinite(m), m, 0)\n"
        "r = m + np.log(np.sum(np.exp(x - m), axis=dim, keepdims=True))\n"
        "return r if keepdim else np.squeeze(r, axis=dim)",
        "matmul": "return a @ b",
        "transpose": "order = list(range(x.ndim))\norder[dim0], order[dim1] = order[dim1], order[dim0]\n"
        "return x.transpose(order)",
        "expand": "new = list(shape)\noffset = len(shape) - x.ndim\nfor i, n in enumerate(shape):\n"
        "    if n == -1:\n        new[i] = x.shape[i - offset]\nreturn np.broadcast_to(x, new)",
    },
    "activations": {
        "relu": "return np.where(x < 0, 0, x).astype(x.dtype)",
        "tanh": "return 2 * sigmoid.formula(2 * x) - 1",
        "gelu": "if approximate == 'tanh':\n"
        "    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))\n"
        "return 0.5 * x * (1 + erf(x / math.sqrt(2)))",
        "log_softmax": "z = x - x.max(axis=dim, keepdims=True)\n"
        "return z - np.log(np.exp(z).sum(axis=dim, keepdims=True))",
    },
    "layers": {
        "linear": "y = x @ weight.T\nreturn y if bias is None else y + bias",
        "Sequential.forward": "for layer in self:\n    x = layer(x)\nreturn x",
        "Linear.reset_parameters": "k = 1 / math.sqrt(self.in_features)\nif self.bias is not None:\n"
        "    init.uniform_(self.bias, -k, k)\ninit.uniform_(self.weight, -k, k)",
        "dropout": "if not training:\n    return x, np.ones_like(x)\n"
        "keep = generator().random(x.shape) >= p\n"
        "scale = keep.astype(x.dtype) / x.dtype.type(1 - p if p < 1 else 1)\n"
        "return x * scale, scale",
        "Dropout.forward": "return dropout(x, self.p, self.training)",
    },
    "losses": {
        "squared_error": "return (x - t) ** 2",
        "smoothed_error": "d = E.abs(x - t)\nreturn E.where(d < beta, d * d / (2 * beta), d - beta / 2)",
        "binary_cross_entropy": "with np.errstate(divide='ignore'):\n"
        "    a, b = np.maximum(np.log(input), -100), np.maximum(np.log1p(-input), -100)\n"
        "loss = -(target * a + (1 - target) * b)\nif weight is not None:\n"
        "    loss = loss * weight\nif reduction == 'mean':\n    return loss.mean()\n"
        "return loss.sum() if reduction == 'sum' else loss",
        "pulled_or_pushed": "missing = E.maximum(margin - E.sqrt(squared), 0.0)\n"
        "return (1 - target) * squared / 2 + target * missing * missing / 2",
    },
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
