"""The exercises of Act III: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tt_core.course.folder import reference_text
from tt_core.course.testing import CourseTests, KnockoutTests
from tt_data.command.cli import Act

MODULES = {module.name: module for module in Act().tt_modules()}

WRONG: dict[str, dict[str, list[str]]] = {
    "dataloader": {
        "TensorDataset.__getitem__": [
            "return [array[index] for array in self.arrays][0]",
            "return tuple(array[index % len(self)] for array in self.arrays)",
        ],
        "ConcatDataset.__getitem__": [
            # an end that is counted to the dataset before it
            "index = wrap_index(index, len(self), 'ConcatDataset')\n"
            "part = next(n for n, end in enumerate(self.cumulative_sizes) if index <= end)\n"
            "return self.datasets[part][index - self._start(part)]",
            "part = bisect_right(self.cumulative_sizes, index)\nreturn self.datasets[part][index - self._start(part)]",
            "index = wrap_index(index, len(self), 'ConcatDataset')\n"
            "return self.datasets[bisect_right(self.cumulative_sizes, index)][index]",
        ],
        "map_leaves": [
            "if isinstance(batch, (tuple, list)):\n    return [map_leaves(function, x) for x in batch]\n"
            "return function(batch)",
            "if isinstance(batch, dict):\n    return {k: function(v) for k, v in batch.items()}\n"
            "if isinstance(batch, (tuple, list)):\n    return rebuild(batch, [function(x) for x in batch])\n"
            "return function(batch)",
            "if isinstance(batch, dict):\n    return {k: map_leaves(function, v) for k, v in batch.items()}\n"
            "if isinstance(batch, (tuple, list)):\n"
            "    return type(batch)([map_leaves(function, x) for x in batch])\nreturn function(batch)",
        ],
        "default_collate": [
            "return stack(samples)",
            "first = samples[0]\nif isinstance(first, (tuple, list)):\n"
            "    return rebuild(first, [stack(column) for column in zip(*samples)])\n"
            "if isinstance(first, dict):\n    return {k: stack([s[k] for s in samples]) for k in first}\n"
            "return list(samples) if isinstance(first, str) else stack(samples)",
            # by position in the dict
            "first = samples[0]\nif isinstance(first, dict):\n"
            "    return {k: default_collate(list(c)) for k, c in zip(first, zip(*[s.values() for s in samples]))}\n"
            "if isinstance(first, (tuple, list)):\n"
            "    return rebuild(first, [default_collate(column) for column in zip(*samples)])\n"
            "return list(samples) if isinstance(first, str) else stack(samples)",
        ],
        "stream": [
            "return np.random.default_rng(seed + number)",
            "return np.random.default_rng(seed)",
            "return np.random.default_rng(int(f'{seed}{number}'))",
        ],
        "RandomSampler.indices": [
            "return np.random.default_rng(0).permutation(len(self.data_source))[: len(self)]",
            "return np.random.default_rng().permutation(len(self.data_source))[: len(self)]",
            "return seeding.generator().permutation(len(self.data_source))[: len(self)]",
            "return seeding.generator().integers(0, len(self.data_source), len(self))",
            "size = len(self.data_source)\nrounds = -(-len(self) // max(size, 1))\n"
            "return np.tile(seeding.generator().permutation(size), rounds)[: len(self)]",
        ],
        "WeightedRandomSampler.indices": [
            "return seeding.generator().integers(0, len(self.weights), self.num_samples)",
            "return seeding.generator().choice(len(self.weights), self.num_samples, True, self.weights)",
        ],
        "BlockShuffleSampler.indices": [
            "return seeding.generator().permutation(len(self))",
            # samples of each block apart
            "rng = seeding.generator()\nstarts = rng.permutation(np.arange(0, len(self), self.block))\n"
            "return np.concatenate([rng.permutation(np.arange(s, min(s + self.block, len(self)))) for s in starts]"
            " or [np.arange(0)])",
            # blocks in order
            "rng, step = seeding.generator(), self.block * self.window\n"
            "return np.concatenate([rng.permutation(np.arange(s, min(s + step, len(self))))"
            " for s in range(0, len(self), step)] or [np.arange(0)])",
            # windows of blocks that are next to each other
            "rng, step = seeding.generator(), self.block * self.window\n"
            "starts = rng.permutation(np.arange(0, len(self), step))\n"
            "return np.concatenate([rng.permutation(np.arange(s, min(s + step, len(self)))) for s in starts]"
            " or [np.arange(0)])",
        ],
        "BatchSampler.__iter__": [
            "batch = []\nfor i in self.sampler:\n    batch.append(i)\n    if len(batch) == self.batch_size:\n"
            "        yield np.array(batch)\n        batch = []\nif not self.drop_last:\n    yield np.array(batch)",
            "order = list(self.sampler)\nfor i in range(0, len(order), self.batch_size):\n"
            "    batch = np.array(order[i : i + self.batch_size])\n"
            "    if len(batch) == self.batch_size or not self.drop_last:\n        yield batch",
            "batch = []\nfor i in self.sampler:\n    batch.append(i)\n    if len(batch) == self.batch_size:\n"
            "        yield np.array(batch)\n        batch = []",
        ],
        "Epoch._submit_ahead": [
            "indices = next(self._indices, None)\nif indices is not None:\n"
            "    self._pool.submit(self._next_task._replace(indices=indices))\n"
            "    self._next_task = self._next_task._replace(number=self._next_task.number + 1)\n"
            "    self._under_way += 1",
            "while self._under_way <= self._depth and (indices := next(self._indices, None)) is not None:\n"
            "    self._pool.submit(self._next_task._replace(indices=indices))\n"
            "    self._next_task = self._next_task._replace(number=self._next_task.number + 1)\n"
            "    self._under_way += 1",
            "while self._under_way < self._depth and (indices := next(self._indices, None)) is not None:\n"
            "    self._pool.submit(self._next_task._replace(indices=indices))\n    self._under_way += 1",
        ],
        "DataLoader.state_dict": [
            "return dict(epoch=self._epochs_started, seed=self._seed, position=self._position,\n"
            "    batch_size=self.batch_size, samples=len(self.dataset))",
            "return {'epoch': self._epochs_started, 'position': self._position}",
            "return {'epoch': self._epochs_started, 'position': self._position, 'seed': self._seed or 0,"
            " 'batch_size': self.batch_size, 'samples': self._samples()}",
        ],
        "DataLoader.load_state_dict": [
            "self._epochs_started, self._position, self._seed = state['epoch'], state['position'], state['seed']",
            "self._epochs_started, self._seed = state['epoch'], state['seed']\nself._resuming = True\n"
            "self._pool = self._epoch = None",
            "self._epochs_started, self._position, self._seed = state['epoch'], state['position'], state['seed']\n"
            "self._resuming = True\nself._pool = self._epoch = None",
        ],
    },
    "spatial": {
        "Windows.pad": [
            "padded = np.full((*x.shape[:2], *self.padded_size), value)\nself.crop(padded)[...] = x\nreturn padded",
            "padded = np.zeros((*x.shape[:2], *self.padded_size), dtype=x.dtype)\nself.crop(padded)[...] = x\n"
            "return padded",
            "(left, right), (top, bottom) = self.padding\n"
            "return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)",
        ],
        "_count": [
            "before, after = sides\nreturn -(-(before + size + after - reach) // stride) + 1, (before, after)",
            "before, after = sides\nreturn (before + size + after - reach) // stride, (before, after)",
            "before, after = sides\nfree = before + size + after - reach\n"
            "count = -(-free // stride) + 1 if ceil_mode else free // stride + 1\n"
            "return count, (before, max(after, (count - 1) * stride + reach - size - before))",
            "before, after = sides\nfree = before + size + after - reach\ncount = free // stride + 1\n"
            "if ceil_mode and free % stride and count * stride < size + before:\n    count += 1\n"
            "return count, (before, after)",
        ],
        "Windows.patches": [
            "return sliding_window_view(padded, self.kernel, axis=(2, 3))[:, :, :: self.stride[0], :: self.stride[1]]",
            "(down, right), (rows, columns) = self.stride, self.dilation\n"
            "return sliding_window_view(padded, self.reach, axis=(2, 3))[:, :, ::rows, ::columns, ::down, ::right]",
            "(down, right), (rows, columns) = self.stride, self.dilation\n"
            "view = sliding_window_view(padded, self.reach, axis=(2, 3))\n"
            "return view[:, :, ::down, ::right, ::rows, ::columns].copy()",
            # no stride of the columns, no dilation of the rows
            "view = sliding_window_view(padded, self.reach, axis=(2, 3))\n"
            "return view[:, :, :: self.stride[0], :, :: self.dilation[0], :: self.dilation[1]]",
            "view = sliding_window_view(padded, self.reach, axis=(2, 3))\n"
            "return view[:, :, :: self.stride[0], :: self.stride[1], :, :: self.dilation[1]]",
        ],
        "Windows.sum_patches": [
            "padded = np.zeros((*patches.shape[:2], *self.padded_size), dtype=patches.dtype)\n"
            "for i, j, covered in self.positions():\n    padded[covered] = patches[..., i, j]\n"
            "return self.crop(padded)",
            "padded = np.zeros((*patches.shape[:2], *self.padded_size), dtype=patches.dtype)\n"
            "for i, j, covered in self.positions():\n    padded[covered] += patches[..., i, j]\nreturn padded",
        ],
        "unfold": [
            "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\n"
            "return w.patches(w.pad(x)).reshape(len(x), -1, math.prod(w.out))",
            "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\n"
            "return w.patches(w.pad(x)).transpose(0, 4, 5, 1, 2, 3).reshape(len(x), -1, math.prod(w.out))",
        ],
        "conv2d": [
            # flipped, as in signal processing
            "w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)\n"
            "patches = _in_groups(w.patches(w.pad(x)), groups)\n"
            "out = np.einsum('ngcyxij,gocij->ngoyx', patches, _in_groups(weight, groups, axis=0)[..., ::-1, ::-1])\n"
            "out = out.reshape(len(x), len(weight), *w.out)\nreturn out if bias is None else out + bias[:, None, None]",
            # without padding
            "w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)\n"
            "out = np.einsum('ncyxij,ocij->noyx', w.patches(w.pad(x)), weight.repeat(groups, 1))\n"
            "return out if bias is None else out + bias[:, None, None]",
            # bias along the columns
            "w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)\n"
            "patches = _in_groups(w.patches(w.pad(x)), groups)\n"
            "out = np.einsum('ngcyxij,gocij->ngoyx', patches, _in_groups(weight, groups, axis=0))\n"
            "out = out.reshape(len(x), len(weight), *w.out)\nreturn out if bias is None else out + bias[:, None]",
        ],
        "conv2d_input": [
            "w = windows(size, weight.shape[2:], stride, padding, dilation)\n"
            "patches = np.einsum('ngoyx,gocij->ngcyxij', _in_groups(g, groups), "
            "_in_groups(weight, groups, axis=0)[..., ::-1, ::-1])\n"
            "return w.sum_patches(patches.reshape(len(g), groups * weight.shape[1], *w.out, *w.kernel))",
            "w = windows(size, weight.shape[2:], stride, 0, dilation)\n"
            "patches = np.einsum('ngoyx,gocij->ngcyxij', _in_groups(g, groups), _in_groups(weight, groups, axis=0))\n"
            "return w.sum_patches(patches.reshape(len(g), groups * weight.shape[1], *w.out, *w.kernel))",
        ],
        "conv2d_weight": [
            "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\n"
            "patches = _in_groups(w.patches(w.pad(x)), groups)\n"
            "total = np.einsum('ngoyx,ngcyxij->gocij', _in_groups(g, groups), patches) / len(x)\n"
            "return total.reshape(g.shape[1], x.shape[1] // groups, *w.kernel)",
            "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\n"
            "return np.einsum('noyx,ncyxij->ocij', g, w.patches(w.pad(x)))",
        ],
        "max_pool2d": [
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)\n"
            "return w.patches(w.pad(x)).max((-2, -1))",
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)\n"
            "return np.fmax.reduce(w.patches(w.pad(x, lowest(x.dtype))), (-2, -1))",
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, False)\n"
            "return w.patches(w.pad(x, lowest(x.dtype))).max((-2, -1))",
        ],
        "max_pool2d_backward": [
            "w = pool_windows(size, kernel_size, stride, padding, dilation, ceil_mode)\n"
            "return w.sum_patches(np.broadcast_to(g[..., None, None], (*g.shape, *w.kernel)))",
            # overlapping windows replace each other
            "w = pool_windows(size, kernel_size, stride, padding, dilation, ceil_mode)\n"
            "padded = np.zeros((*g.shape[:2], *w.padded_size), g.dtype)\n"
            "for i, j, covered in w.positions():\n"
            "    padded[covered] = np.where(index == i * w.kernel[1] + j, g, padded[covered])\nreturn w.crop(padded)",
        ],
        "avg_pool2d": [
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)\n"
            "return w.patches(w.pad(x)).mean((-2, -1))",
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)\n"
            "return w.patches(w.pad(x)).sum((-2, -1)) / divisors(w, padding, False, divisor_override, x.dtype)",
        ],
        "batch_norm_training": [
            "mean, var = x.mean(), x.var()\n"
            "return _normalized(x, np.full(x.shape[1], mean), np.full(x.shape[1], var), weight, bias, eps), mean, var",
            "mean, var = x.mean(over_channels(x.ndim)), x.var(over_channels(x.ndim), ddof=1)\n"
            "return _normalized(x, mean, var, weight, bias, eps), mean, var",
            "over = over_channels(x.ndim)\nmean = x.mean(over)\nvar = (x * x).mean(over) - mean * mean\n"
            "return _normalized(x, mean, np.maximum(var, 0), weight, bias, eps), mean, var",
            "over = over_channels(x.ndim)\nmean, var = x.mean(over), x.var(over)\n"
            "y = (x - per_channel(mean, x.ndim)) / per_channel(np.sqrt(var) + eps, x.ndim)\n"
            "y = y if weight is None else y * per_channel(weight, x.ndim)\n"
            "return (y if bias is None else y + per_channel(bias, x.ndim)), mean, var",
        ],
        "batch_norm_backward": [
            # as if mean and variance were constants
            "over = over_channels(x.ndim)\nrstd = 1 / np.sqrt(var + var.dtype.type(eps))\n"
            "n = (x - per_channel(mean, x.ndim)) * per_channel(rstd, x.ndim)\n"
            "scale = rstd if weight is None else rstd * weight\n"
            "return g * per_channel(scale, x.ndim), (g * n).sum(over), g.sum(over)",
            # as if the variance were
            "over = over_channels(x.ndim)\nrstd = 1 / np.sqrt(var + var.dtype.type(eps))\n"
            "n = (x - per_channel(mean, x.ndim)) * per_channel(rstd, x.ndim)\n"
            "scale = rstd if weight is None else rstd * weight\n"
            "return (g - g.mean(over, keepdims=True)) * per_channel(scale, x.ndim), (g * n).sum(over), g.sum(over)",
        ],
        "move_statistics": [
            "running.data[...] = running.data * (1 - momentum) + new * momentum",
            "if running is not None:\n    running.data[...] = running.data * momentum + new * (1 - momentum)",
            "if running is not None:\n    running.data = running.data * (1 - momentum) + new * momentum",
        ],
    },
}

RIGHT: dict[str, dict[str, str]] = {
    "dataloader": {
        "TensorDataset.__getitem__": "sample = []\nfor values in self.arrays:\n    sample.append(values[index])\n"
        "return tuple(sample)",
        "ConcatDataset.__getitem__": "rest = index + len(self) if index < 0 else index\nif rest < 0:\n"
        "    raise IndexError('too small')\nfor data in self.datasets:\n    if rest < len(data):\n"
        "        return data[rest]\n    rest -= len(data)\nraise IndexError('too large')",
        "map_leaves": "if isinstance(batch, Mapping):\n"
        "    return dict(zip(batch, (map_leaves(function, part) for part in batch.values())))\n"
        "if not isinstance(batch, (list, tuple)):\n    return function(batch)\n"
        "return rebuild(batch, list(map(lambda part: map_leaves(function, part), batch)))",
        "default_collate": "check_samples(samples)\nfirst = samples[0]\nif isinstance(first, (str, bytes)):\n"
        "    return list(samples)\nif isinstance(first, Mapping):\n    out = {}\n    for key in first:\n"
        "        out[key] = default_collate([s[key] for s in samples])\n    return out\n"
        "if isinstance(first, (tuple, list)):\n"
        "    return rebuild(first, [default_collate([s[i] for s in samples]) for i in range(len(first))])\n"
        "return stack(samples)",
        "stream": "return np.random.default_rng([seed, number])",
        "RandomSampler.indices": "rng, n = seeding.generator(), len(self.data_source)\n"
        "if self.replacement:\n    return rng.choice(n, len(self)) if n else np.empty(0, np.int64)\n"
        "order = np.empty(0, np.int64)\nwhile n and len(order) < len(self):\n"
        "    order = np.append(order, np.argsort(rng.random(n)))\nreturn order[: len(self)]",
        # the inverse of the distribution function; without replacement, keys of Efraimidis and Spirakis
        "WeightedRandomSampler.indices": "rng = seeding.generator()\nif self.replacement:\n"
        "    return np.searchsorted(np.cumsum(self.weights), rng.random(self.num_samples), side='right')\n"
        "with np.errstate(divide='ignore'):\n    keys = rng.exponential(size=len(self.weights)) / self.weights\n"
        "return np.argsort(keys)[: self.num_samples]",
        "BlockShuffleSampler.indices": "rng, order = seeding.generator(), []\nn = len(self)\n"
        "blocks = [list(range(s, min(n, s + self.block))) for s in range(0, n, self.block)]\nrng.shuffle(blocks)\n"
        "while blocks:\n    near = sum(blocks[: self.window], [])\n    rng.shuffle(near)\n    order += near\n"
        "    blocks = blocks[self.window :]\nreturn np.array(order, np.int64)",
        "BatchSampler.__iter__": "rest = iter(self.sampler)\nwhile batch := list(islice(rest, self.batch_size)):\n"
        "    if len(batch) == self.batch_size or not self.drop_last:\n        yield np.array(batch, np.int64)",
        "Epoch._submit_ahead": "for _ in range(self._depth - self._under_way):\n    try:\n"
        "        found = next(self._indices)\n    except StopIteration:\n        return\n    task = self._next_task\n"
        "    self._pool.submit(task._replace(indices=found))\n"
        "    self._next_task, self._under_way = task._replace(number=task.number + 1), self._under_way + 1",
        "DataLoader.state_dict": "state = dict(epoch=self._epochs_started, position=self._position, seed=self._seed)\n"
        "state['samples'], state['batch_size'] = self._samples(), self.batch_size\nreturn state",
        "DataLoader.load_state_dict": "own = dict(batch_size=self.batch_size, samples=self._samples())\n"
        "for name, mine in own.items():\n"
        "    if name in state and state[name] != mine:\n"
        "        raise DTypeError(f'{name} is {mine}, the state has {state[name]}')\n"
        "if self._being_read():\n    self._pool = None\nself._epoch = None\nself._seed = state['seed']\n"
        "self._position, self._epochs_started = state['position'], state['epoch']\n"
        "self._resuming = state['seed'] is not None",
    },
    "spatial": {
        "Windows.pad": "return np.pad(x, ((0, 0), (0, 0), *self.padding), constant_values=value)",
        "_count": "free = sum(sides) + size - reach\ncount = free // stride + 1\nif ceil_mode:\n"
        "    count = -(-free // stride) + 1\n    if (count - 1) * stride >= size + sides[0]:\n        count -= 1\n"
        "return count, (sides[0], max(sides[1], (count - 1) * stride + reach - size - sides[0]))",
        "Windows.patches": "n, c, y, x = padded.strides\n(down, right), (rows, columns) = self.stride, self.dilation\n"
        "return np.lib.stride_tricks.as_strided(padded, (*padded.shape[:2], *self.out, *self.kernel),\n"
        "    (n, c, y * down, x * right, y * rows, x * columns), writeable=False)",
        "Windows.sum_patches": "(h, w), (kh, kw) = self.out, self.kernel\n"
        "rows = np.arange(h)[:, None] * self.stride[0] + np.arange(kh) * self.dilation[0]\n"
        "columns = np.arange(w)[:, None] * self.stride[1] + np.arange(kw) * self.dilation[1]\n"
        "padded = np.zeros((*patches.shape[:2], *self.padded_size), patches.dtype)\n"
        "np.add.at(padded, (slice(None), slice(None), rows[:, None, :, None], columns[None, :, None, :]), patches)\n"
        "return self.crop(padded)",
        "unfold": "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\npadded = w.pad(x)\n"
        "parts = [padded[covered].reshape(*x.shape[:2], -1) for _, _, covered in w.positions()]\n"
        "return np.stack(parts, axis=2).reshape(len(x), x.shape[1] * len(parts), -1)",
        # one matrix product for each place in the kernel
        "conv2d": "w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)\npadded = w.pad(x)\n"
        "out = np.zeros((len(x), len(weight), *w.out), x.dtype)\n"
        "each, own = len(weight) // groups, weight.shape[1]\nfor k in range(groups):\n"
        "    mine, some = slice(k * each, (k + 1) * each), padded[:, k * own : (k + 1) * own]\n"
        "    for i, j, covered in w.positions():\n"
        "        moved = np.moveaxis(some[covered], 1, -1) @ weight[mine, :, i, j].T\n"
        "        out[:, mine] += np.moveaxis(moved, -1, 1)\n"
        "return out if bias is None else out + bias.reshape(-1, 1, 1)",
        "conv2d_input": "w = windows(size, weight.shape[2:], stride, padding, dilation)\n"
        "each, own = len(weight) // groups, weight.shape[1]\n"
        "padded = np.zeros((len(g), groups * own, *w.padded_size), g.dtype)\nfor k in range(groups):\n"
        "    mine, some = slice(k * each, (k + 1) * each), padded[:, k * own : (k + 1) * own]\n"
        "    for i, j, covered in w.positions():\n"
        "        some[covered] += np.moveaxis(np.moveaxis(g[:, mine], 1, -1) @ weight[mine, :, i, j], -1, 1)\n"
        "return w.crop(padded)",
        "conv2d_weight": "w = windows(x.shape[2:], kernel_size, stride, padding, dilation)\npadded = w.pad(x)\n"
        "each, own = g.shape[1] // groups, x.shape[1] // groups\n"
        "out = np.zeros((g.shape[1], own, *w.kernel), g.dtype)\nfor k in range(groups):\n"
        "    mine = slice(k * each, (k + 1) * each)\n    for i, j, covered in w.positions():\n"
        "        patch = padded[:, k * own : (k + 1) * own][covered]\n"
        "        out[mine, :, i, j] = np.tensordot(g[:, mine], patch, axes=((0, 2, 3), (0, 2, 3)))\nreturn out",
        "max_pool2d": "w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)\n"
        "padded = w.pad(x, lowest(x.dtype))\nout = None\nfor _, _, covered in w.positions():\n"
        "    out = padded[covered] if out is None else np.maximum(out, padded[covered])\nreturn out",
        "max_pool2d_backward": "w = pool_windows(size, kernel_size, stride, padding, dilation, ceil_mode)\n"
        "padded = np.zeros((*g.shape[:2], *w.padded_size), g.dtype)\nfor i, j, covered in w.positions():\n"
        "    padded[covered] += g * (index == i * w.kernel[1] + j)\nreturn w.crop(padded)",
        "avg_pool2d": "w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)\npadded = w.pad(x)\n"
        "total = sum(padded[covered] for _, _, covered in w.positions())\n"
        "return total / divisors(w, padding, count_include_pad, divisor_override, x.dtype)",
        "batch_norm_training": "flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)\nmean = flat.mean(1)\n"
        "var = ((flat - mean[:, None]) ** 2).mean(1)\n"
        "y = (x - per_channel(mean, x.ndim)) / per_channel(np.sqrt(var + var.dtype.type(eps)), x.ndim)\n"
        "if weight is not None:\n    y = y * per_channel(weight, x.ndim)\nif bias is not None:\n"
        "    y = y + per_channel(bias, x.ndim)\nreturn y, mean, var",
        # through the variance and the mean, step by step
        "batch_norm_backward": "over = over_channels(x.ndim)\nn = x.size // x.shape[1]\n"
        "shape = lambda v: per_channel(v, x.ndim)\nd, s = x - shape(mean), np.sqrt(var + var.dtype.type(eps))\n"
        "gn = g if weight is None else g * shape(weight)\n"
        "gvar = (gn * d).sum(over) * -0.5 / s**3\ngmean = -(gn / shape(s)).sum(over)\n"
        "dx = gn / shape(s) + shape(gvar) * 2 * d / n + shape(gmean) / n\n"
        "return dx, (g * d / shape(s)).sum(over), g.sum(over)",
        "move_statistics": "if running is None:\n    return\nrunning.data += momentum * (new - running.data)",
    },
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


OLDER = """
import tt_core as tt, tt_learn, tt_data
x = tt_learn.Tensor([[[1.0, 4.0], [2.0, 3.0]]], requires_grad=True)
positions = tt_data.spatial.max_pool2d_with_indices(x, kernel_size=2)[1]
tt_data.max_pool2d(x, kernel_size=2).sum().backward()
with tt.use("formula"):  # binds every op again
    index = tt_data.spatial.pooling.max_pool2d_index(x, kernel_size=2)
print(positions.tolist(), index.tolist(), x.grad.tolist(), tt_data.spatial.pooling.__file__)
"""


def test_a_file_from_before_ops_moved_out_of_it_still_runs(tmp_path: Path) -> None:
    """Then `pooling.py` defined what `pooling_indices.py` defines now, so two files register the same ops and rules."""
    moved = reference_text("tt_data.spatial.pooling_indices").partition("import annotations\n")[2]
    text = reference_text("tt_data.spatial.pooling")
    text = re.sub("^from tt_data.spatial.pooling_indices import .*$", lambda _: moved, text, flags=re.MULTILINE)
    mine = tmp_path / "pooling.py"
    mine.write_text(text, encoding="utf-8")
    files = json.dumps({"tt_data.spatial.pooling": str(mine)})
    environment = {**os.environ, "TT_WORKSPACE": str(tmp_path), "TT_WORKSPACE_FILES": files, "TT_PLUGINS": ""}
    done = subprocess.run([sys.executable, "-c", OLDER], env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"[[[1]]] [[[1]]] [[[0.0, 1.0], [0.0, 0.0]]] {mine}\n"


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
    harmless = (("WeightedRandomSampler.indices", "reversed"), ("BlockShuffleSampler.indices", "reversed"))
