"""The exercises of Act III: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import pytest

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
            "return _stack(samples)",
            "first = samples[0]\nif isinstance(first, (tuple, list)):\n"
            "    return rebuild(first, [_stack(column) for column in zip(*samples)])\n"
            "if isinstance(first, dict):\n    return {k: _stack([s[k] for s in samples]) for k in first}\n"
            "return list(samples) if isinstance(first, str) else _stack(samples)",
            # by position in the dict
            "first = samples[0]\nif isinstance(first, dict):\n"
            "    return {k: default_collate(list(c)) for k, c in zip(first, zip(*[s.values() for s in samples]))}\n"
            "if isinstance(first, (tuple, list)):\n"
            "    return rebuild(first, [default_collate(column) for column in zip(*samples)])\n"
            "return list(samples) if isinstance(first, str) else _stack(samples)",
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


class TestExercises(CourseTests):
    modules, wrong = MODULES, WRONG


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
    harmless = (("WeightedRandomSampler.indices", "reversed"), ("BlockShuffleSampler.indices", "reversed"))
