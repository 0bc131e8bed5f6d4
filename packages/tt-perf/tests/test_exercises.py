"""The exercises of Act V: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import pytest

from tt_core.command.cli import load_acts
from tt_core.course.commands import installed
from tt_core.course.exercises import exercises_of
from tt_core.course.testing import CourseTests, KnockoutTests

load_acts()
MODULES = {m.name: m for m in installed() if m.path.startswith("tt_perf.") and exercises_of(m)}

WRONG: dict[str, dict[str, list[str]]] = {
    "profiling": {
        "Machine.ridge": ["return self.bytes_per_second / self.flops_per_second"],
        "product_flops": [
            "return size(output) * int(inputs[0].shape[-1])",
            "return 2 * size(inputs[0]) * int(inputs[1].shape[-1])",
        ],
        "convolution_flops": ["return 2 * size(result) * int(prod(weight.shape))"],
        "attention_flops": [
            "return 4 * size(output) * int(inputs[0].shape[-2])",
            "return 4 * size(output) * int(inputs[1].shape[-2])",
            "key, value = inputs[1:3]\nreturn 2 * size(key) // int(key.shape[-1]) * int(inputs[0].shape[-2]) "
            "* int(key.shape[-1] + value.shape[-1])",
        ],
        "stored_bytes": [
            "return int(array.nbytes)",
            "return int(max(array.strides, default=array.itemsize) * array.shape[0])",
        ],
        "Call.self_ns": ["return self.ns", "return self.ns - sum(child.self_ns for child in self.children.values())"],
        "Call.walk": [
            "yield self, above\nfor child in self.children.values():\n    yield from child.walk(above)",
            "for child in self.children.values():\n    yield from child.walk((*above, self.key))\nyield self, above",
            "yield self, above\nyield from ((child, (*above, self.key)) for child in self.children.values())",
        ],
        "Call.add": [
            "for name in self.__slots__:\n    if name not in ('children', 'key'):\n"
            "        setattr(self, name, getattr(self, name) + getattr(other, name))",
            "for name in self.__slots__:\n    if name not in ('children', 'key'):\n"
            "        setattr(self, name, getattr(self, name) + getattr(other, name))\n"
            "for key, child in other.children.items():\n    if key in self.children:\n"
            "        self.children[key].add(child)\n    else:\n        self.children[key] = child",
        ],
        "outermost": [
            "for call, around in calls:\n    mine = group(call.key)\n    yield mine, call, not around",
            "for call, around in calls:\n    mine = group(call.key)\n"
            "    yield mine, call, not around or group(around[-1]) != mine",
        ],
        "Recording.leave": [
            "end = perf_counter_ns()\nstack = self.here().stack\nif frame not in stack:\n    return 0\nstack.pop()\n"
            "ns = end - frame.start\nframe.call.count += 1\nframe.call.ns += ns\nframe.call.inside += frame.inside\n"
            "stack[-1].inside += ns\n"
            "self.events.append(Event(frame.call.key, frame.start, end, self.home, '', -1))\nreturn ns",
            "end = perf_counter_ns()\nstack = self.here().stack\nif frame not in stack:\n    return 0\n"
            "while True:\n    last = stack.pop()\n    ns = end - last.start\n    last.call.count += 1\n"
            "    last.call.ns += ns - last.inside\n    last.call.inside += last.inside\n    stack[-1].inside += ns\n"
            "    self.events.append(Event(last.call.key, last.start, end, self.home, '', -1))\n"
            "    if last is frame:\n        return ns",
        ],
        "verdict": [
            "needed = {'memory': bytes_moved / machine.bytes_per_second, 'compute': flops / machine.flops_per_second}\n"
            "bound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, needed[bound] / seconds, machine)",
            "needed = {'overhead': machine.seconds_per_call, 'memory': bytes_moved / machine.bytes_per_second, "
            "'compute': flops / machine.flops_per_second}\nbound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, needed[bound] / seconds, machine)",
            "needed = {'overhead': calls * machine.seconds_per_call, "
            "'memory': bytes_moved / machine.bytes_per_second, 'compute': flops / machine.flops_per_second}\n"
            "bound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, seconds / needed[bound], machine)",
        ],
    },
    "quantization": {
        "affine_scale": [
            "return np.asarray((highest - lowest) / (quant_max - quant_min + 1))",
            "return np.asarray(np.maximum(-lowest, highest) / quant_max)",
        ],
        "affine_zero_point": [
            "return np.asarray(quant_min - lowest / scale.astype(np.float64)).astype(np.int32)",
            "return np.asarray(quant_min + np.rint(lowest / scale.astype(np.float64))).astype(np.int32)",
            "return np.asarray(-np.rint(lowest / scale.astype(np.float64))).astype(np.int32)",
        ],
        "symmetric_scale": [
            "return np.asarray(np.maximum(-lowest, highest) / -quant_min)",
            "return np.asarray(np.maximum(-lowest / -quant_min, highest / quant_max))",
            "return np.asarray(highest / min(-quant_min, quant_max))",
        ],
        "to_grid": [
            "q = np.rint(_divided(x, scale) + np.float32(zero_point))\nreturn np.clip(q, quant_min, quant_max)",
            "return np.clip(np.rint(_divided(x, scale)), quant_min, quant_max) + zero_point",
            "return np.clip(np.floor(_divided(x, scale) + 0.5) + zero_point, quant_min, quant_max)",
            "return np.clip(np.trunc(_divided(x, scale)) + zero_point, quant_min, quant_max)",
            "x /= scale\nreturn np.clip(np.rint(x) + zero_point, quant_min, quant_max).astype(np.float32)",
        ],
        "dequantize_affine": [
            "return ((q - zero_point) * scale).astype(np.float32)",
            "return (q * scale - zero_point).astype(np.float32)",
        ],
        "fake_quantize": [
            "return (np.rint(x / scale) * scale).astype(x.dtype)",
            "return ((to_grid(x, scale, zero_point, quant_min, quant_max) - zero_point) * scale).astype(np.float32)",
        ],
        "fake_quantize_backward": [
            "return g",
            "return g * (np.abs(x) <= quant_max * scale)",
            "q = to_grid(x, scale, zero_point, quant_min, quant_max)\nreturn g * ((q > quant_min) & (q < quant_max))",
        ],
        "pack_int8": [
            "scale, zero = choose_qparams(weight.min(), weight.max(), -127, 127, symmetric=True)\n"
            "codes = quantize_affine.kernel(weight, scale, zero, quant_min=-127, quant_max=127)\n"
            "return Packed(codes, np.full(len(weight), scale))",
            "rows = weight.reshape(len(weight), -1)\n"
            "scale, zero = choose_qparams(rows.min(1), rows.max(1), -127, 127, symmetric=True)\n"
            "return Packed(quantize_affine.kernel(rows, scale[:, None], zero[:, None], quant_min=-127), scale)",
        ],
        "pack_nibbles": [
            "return np.asarray(q[:, ::2] << 4 | q[:, 1::2])",
            "return np.asarray(q[:, : q.shape[1] // 2] | q[:, q.shape[1] // 2 :] << 4)",
        ],
        "unpack_nibbles": [
            "return np.concatenate([codes & 15, codes >> 4], axis=1)",
            "return np.stack([codes >> 4, codes & 15], axis=-1).reshape(len(codes), 2 * codes.shape[1])",
        ],
        "exact_length": ["return max(1, (1 << 24) // (a * b))", "return max(1, (1 << 23) // max(1, a * b))"],
        "MovingAverageMinMaxObserver._joined": [
            "part = self.averaging_constant\nreturn low + part * (self._low - low), high + part * (self._high - high)",
            "return self._low, self._high + self.averaging_constant * (high - self._high)",
        ],
    },
    "compression": {
        "magnitude": ["return weight", "return weight**2"],
        "wanda": ["return weight * norms", "return np.abs(weight) + norms", "return np.abs(weight) * norms**2"],
        "keep_best": [
            "return scores > np.sort(scores, axis=None)[pruned]",
            "return scores >= np.sort(scores, axis=None)[min(pruned, scores.size - 1)]",
            "keep = np.ones(scores.size, bool)\nkeep[np.argsort(-scores.reshape(-1))[:pruned]] = False\n"
            "return keep.reshape(scores.shape)",
        ],
        "keep_best_of_rows": [
            "return keep_best(scores, pruned * len(scores))",
            "return np.stack([keep_best(row, pruned) for row in scores.T]).T",
        ],
        "keep_best_of_groups": [
            "groups = scores.reshape(m, -1)\nkeep = np.zeros(groups.shape, bool)\n"
            "np.put_along_axis(keep, np.argsort(-groups, axis=0)[:n], True, axis=0)\nreturn keep.reshape(scores.shape)",
            "groups = scores.reshape(-1, m)\nkeep = groups >= np.sort(groups, axis=1)[:, m - n : m - n + 1]\n"
            "return keep.reshape(scores.shape)",
            "groups = scores.reshape(-1, m)\nkeep = np.ones(groups.shape, bool)\n"
            "np.put_along_axis(keep, np.argsort(groups, axis=1)[:, :n], False, axis=1)\n"
            "return keep.reshape(scores.shape)",
        ],
        "gradual_amount": [
            "progress = (step - begin) / (end - begin)\nreturn final + (initial - final) * (1 - progress) ** 3",
            "progress = min(max((step - begin) / (end - begin), 0.0), 1.0)\n"
            "return initial + (final - initial) * progress**3",
            "progress = min(max(step / end, 0.0), 1.0)\nreturn final + (initial - final) * (1 - progress) ** 3",
        ],
        "factors": [
            "u, s, vt = np.linalg.svd(weight, full_matrices=False)\nreturn u[:, :rank] * s[:rank], vt[:rank]",
            "u, s, vt = np.linalg.svd(weight, full_matrices=False)\n"
            "return u[:, :rank] * s[:rank], s[:rank, None] * vt[:rank]",
            "u, s, vt = np.linalg.svd(weight, full_matrices=False)\nroot = np.sqrt(s[:rank])\n"
            "return u[:, :rank] * root, root[:, None] * vt[:, :rank].T",
            "u, s, vt = np.linalg.svd(weight, full_matrices=False)\nroot = np.sqrt(s[-rank:])\n"
            "return u[:, -rank:] * root, root[:, None] * vt[-rank:]",
        ],
        "rank_of": [
            "wanted = 1 - error**2 if error is not None else energy\nkept = np.cumsum(singular)\n"
            "return min(int(np.searchsorted(kept, wanted * kept[-1])) + 1, len(singular))",
            "wanted = 1 - error if error is not None else energy\nkept = np.cumsum(singular**2)\n"
            "return min(int(np.searchsorted(kept, wanted * kept[-1])) + 1, len(singular))",
            "wanted = 1 - error**2 if error is not None else energy\nkept = np.cumsum(singular**2)\n"
            "return min(int(np.searchsorted(kept, wanted * kept[-1], side='right')) + 1, len(singular))",
        ],
        "soft_loss": [
            "log_p = log_softmax(teacher / temperature, dim=-1)\nlog_q = log_softmax(student / temperature, dim=-1)\n"
            "log_p, log_q = _without_impossible(log_p, log_q)\n"
            "return (E.exp(log_p) * (log_p - log_q)).sum() / (log_p.numel() // log_p.shape[-1])",
            "log_p = log_softmax(teacher / temperature, dim=-1)\nlog_q = log_softmax(student / temperature, dim=-1)\n"
            "log_p, log_q = _without_impossible(log_p, log_q)\n"
            "return (E.exp(log_p) * (log_p - log_q)).mean() * temperature**2",
            "log_p = log_softmax(teacher / temperature, dim=-1)\nlog_q = log_softmax(student / temperature, dim=-1)\n"
            "log_p, log_q = _without_impossible(log_p, log_q)\nrows = log_p.numel() // log_p.shape[-1]\n"
            "return (E.exp(log_q) * (log_q - log_p)).sum() * (temperature**2 / rows)",
            "log_p = log_softmax(teacher / temperature, dim=-1)\nlog_q = log_softmax(student, dim=-1)\n"
            "log_p, log_q = _without_impossible(log_p, log_q)\nrows = log_p.numel() // log_p.shape[-1]\n"
            "return (E.exp(log_p) * (log_p - log_q)).sum() * (temperature**2 / rows)",
            "log_p = log_softmax(teacher / temperature, dim=-1)\nlog_q = log_softmax(student / temperature, dim=-1)\n"
            "rows = log_p.numel() // log_p.shape[-1]\n"
            "return (E.exp(log_p) * (log_p - log_q)).sum() * (temperature**2 / rows)",
        ],
    },
    "memoization": {
        "cropped_length": [
            "return min(length, max_length)",
            "return min(length, max_length if max_length >= 0 else length + max_length)",
            "return max_length if max_length >= 0 else max(0, length + max_length)",
        ],
        "DynamicCache.length": [
            "return max(keys.shape[2] for keys in self._keys.values())",
            "return max((len(keys) for keys in self._keys.values()), default=0)",
            "return sum(keys.shape[2] for keys in self._keys.values()) if len(self._keys) == 1 else 1",
        ],
        "DynamicCache.extend": [
            "for kept, new in ((self._keys, k.data), (self._values, v.data)):\n"
            "    kept[layer] = np.concatenate([kept[layer], new], axis=2) if layer in kept else new\n"
            "self.rows = len(k.data)\nreturn from_numpy(self._keys[layer]), from_numpy(self._values[layer])",
            "for kept, new in ((self._keys, k.data), (self._values, v.data)):\n"
            "    kept[layer] = np.concatenate([new, kept[layer]], axis=2) if layer in kept else new.copy()\n"
            "self.rows = len(k.data)\nreturn from_numpy(self._keys[layer]), from_numpy(self._values[layer])",
            "for kept, new in ((self._keys, k.data), (self._values, v.data)):\n"
            "    kept[0] = np.concatenate([kept[0], new], axis=2) if 0 in kept else new.copy()\n"
            "self.rows = len(k.data)\nreturn from_numpy(self._keys[0]), from_numpy(self._values[0])",
            "for kept, new in ((self._keys, k.data), (self._values, v.data)):\n"
            "    kept[layer] = np.concatenate([kept[layer], new], axis=2) if layer in kept else new.copy()\n"
            "self.rows = len(k.data)\nreturn k, v",
        ],
        "DynamicCache.select": [
            "for kept in (self._keys, self._values):\n    for layer in kept:\n"
            "        kept[layer] = kept[layer][list(rows)]",
            "for layer in self._keys:\n    self._keys[layer] = self._keys[layer][list(rows)]\nself.rows = len(rows)",
        ],
        "DynamicCache.crop": [
            "for kept in (self._keys, self._values):\n    for layer in kept:\n"
            "        kept[layer] = kept[layer][:, :, :max_length].copy()",
            "end = cropped_length(self.length, max_length)\nif not end:\n    self.clear()\n"
            "for kept in (self._keys, self._values):\n    for layer in kept:\n        kept[layer] = kept[layer][:, "
            ":, :end]",
            "end = cropped_length(self.length, max_length)\nif not end:\n    self.clear()\n"
            "for kept in (self._keys, self._values):\n    for layer in kept:\n"
            "        kept[layer] = kept[layer][:, :, -end:].copy()",
        ],
        "LayerMemory.extend": [
            "end = self.length + k.shape[2]\nself._make_room(k, v, end)\n"
            "new = (slice(self.rows), slice(None), slice(self.length, end))\n"
            "self.keys.write(new, k)\nself.values.write(new, v)\n"
            "return from_numpy(self.keys.read(self.rows, end)), from_numpy(self.values.read(self.rows, end))",
            "end = self.length + k.shape[2]\nself._make_room(k, v, end)\n"
            "new = (slice(self.rows), slice(None), slice(self.length, end))\n"
            "self.keys.write(new, k)\nself.values.write(new, v)\nself.length = end\n"
            "return from_numpy(self.keys.read(self.rows, end).copy()), from_numpy(self.values.read(self.rows, "
            "end).copy())",
        ],
        "seen": [
            "return (key >= 0) & (key <= query) & (key >= query - window)",
            "return (key >= 0) & (key <= query) & (key > query - window)",
            "return (key < keep) | ((key >= 0) & (key <= query) & (key > query - window))",
            "return (key <= query) & ((key > query - window) | (key < keep))",
        ],
        "slot_of": [
            "return positions % (keep + window)",
            "return np.where(positions < keep, positions, keep + positions % window)",
        ],
        "key_of": [
            "if isinstance(value, HasArray):\n    return key_of(value.data)\n"
            "if isinstance(value, np.ndarray):\n    return value.tobytes()\n"
            "if isinstance(value, (tuple, list)):\n    return type(value), tuple(key_of(x) for x in value)\n"
            "if isinstance(value, dict):\n    return tuple((k, key_of(x)) for k, x in value.items())\n"
            "if isinstance(value, slice):\n    return key_of((value.start, value.stop, value.step))\n"
            "if isinstance(value, float):\n    return struct.pack('<d', value)\nreturn type(value), value",
            "if isinstance(value, HasArray):\n    return key_of(value.data)\n"
            "if isinstance(value, np.ndarray):\n    return value.dtype.str, value.shape, value.strides, "
            "value.tobytes()\n"
            "if isinstance(value, (tuple, list)):\n    return tuple(key_of(x) for x in value)\n"
            "if isinstance(value, dict):\n    return tuple((k, key_of(x)) for k, x in value.items())\n"
            "if isinstance(value, slice):\n    return key_of((value.start, value.stop, value.step))\n"
            "if isinstance(value, float):\n    return struct.pack('<d', value)\nreturn type(value), value",
            "if isinstance(value, HasArray):\n    return key_of(value.data)\n"
            "if isinstance(value, np.ndarray):\n    return value.dtype.str, value.shape, value.strides, "
            "value.tobytes()\n"
            "return repr(type(value)), value if isinstance(value, float) else str(value)",
        ],
        "Results.get": [
            "if key not in self._kept:\n    return None\nself._kept.move_to_end(key)\nreturn wrap(self._kept[key])",
            "return wrap(_copied(self._kept[key])) if key in self._kept else None",
        ],
        "Results.put": [
            "arrays = _arrays(result)\nif arrays is None or _size(arrays) > self.max_bytes:\n    return\n"
            "self._kept[key] = _copied(arrays)\nself.nbytes += _size(arrays)\n"
            "while self.nbytes > self.max_bytes:\n    self._drop([next(iter(self._kept))])\n    self.evicted += 1",
            "arrays = _arrays(result)\nif arrays is None or _size(arrays) > self.max_bytes:\n    return\n"
            "self._drop([key])\nself._kept[key] = arrays\nself.nbytes += _size(arrays)\n"
            "while self.nbytes > self.max_bytes:\n    self._drop([next(iter(self._kept))])\n    self.evicted += 1",
            "arrays = _arrays(result)\nif arrays is None or _size(arrays) > self.max_bytes:\n    return\n"
            "self._drop([key])\nself._kept[key] = _copied(arrays)\nself.nbytes += _size(arrays)\n"
            "if self.nbytes > self.max_bytes:\n    self._drop([next(iter(self._kept))])\n    self.evicted += 1",
        ],
    },
    "acceleration": {
        "product": [
            "rows, inner, columns = len(a), len(b), len(b[0])\nout = [[0.0] * columns] * rows\n"
            "for i in range(rows):\n    for j in range(columns):\n        for k in range(inner):\n"
            "            out[i][j] += a[i][k] * b[k][j]\nreturn out",
            "return [[sum(x * y for x, y in zip(row, other)) for other in b] for row in a]",
            "return [[a[i][j] * b[i % len(b)][j % len(b[0])] for j in range(len(b[0]))] for i in range(len(a))]",
        ],
        "Windows.count": [
            "return tuple((n + 2 * p - k) // s + 1 for n, p, k, s in"
            " zip((len(image[0]), len(image[0][0])), self.padding, self.kernel, self.stride))",
            "return tuple((n + p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in"
            " zip((len(image[0]), len(image[0][0])), self.padding, self.dilation, self.kernel, self.stride))",
            "return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in"
            " zip((len(image), len(image[0])), self.padding, self.dilation, self.kernel, self.stride))",
        ],
        "Windows.places": [
            "for i in range(self.kernel[0]):\n    row = y * self.stride[0] + i * self.dilation[0] - self.padding[0]\n"
            "    for j in range(self.kernel[1]):\n"
            "        column = x * self.stride[1] + j * self.dilation[1] - self.padding[1]\n"
            "        yield i, j, max(row, 0), max(column, 0)",
            "for i in range(self.kernel[0]):\n    row = y + i * self.dilation[0] - self.padding[0]\n"
            "    for j in range(self.kernel[1]):\n        column = x + j * self.dilation[1] - self.padding[1]\n"
            "        if 0 <= row < len(image[0]) and 0 <= column < len(image[0][0]):\n"
            "            yield i, j, row, column",
            "for i in range(self.kernel[0]):\n    row = y * self.stride[0] + i * self.dilation[0] - self.padding[0]\n"
            "    for j in range(self.kernel[1]):\n"
            "        column = x * self.stride[1] + j * self.dilation[1] - self.padding[1]\n"
            "        if row < len(image[0]) and column < len(image[0][0]):\n            yield i, j, row, column",
            # no stride of the rows
            "for i in range(self.kernel[0]):\n    row = y + i * self.dilation[0] - self.padding[0]\n"
            "    for j in range(self.kernel[1]):\n"
            "        column = x * self.stride[1] + j * self.dilation[1] - self.padding[1]\n"
            "        if 0 <= row < len(image[0]) and 0 <= column < len(image[0][0]):\n"
            "            yield i, j, row, column",
            # no dilation of the columns
            "for i in range(self.kernel[0]):\n    row = y * self.stride[0] + i * self.dilation[0] - self.padding[0]\n"
            "    for j in range(self.kernel[1]):\n        column = x * self.stride[1] + j - self.padding[1]\n"
            "        if 0 <= row < len(image[0]) and 0 <= column < len(image[0][0]):\n"
            "            yield i, j, row, column",
        ],
        "convolution": [
            "height, width = windows.count(image)\n"
            "out = [[[0.0] * width for _ in range(height)] for _ in kernels]\n"
            "for o in range(len(kernels)):\n    for y in range(height):\n        for x in range(width):\n"
            "            for i, j, row, column in windows.places(y, x, image):\n"
            "                out[o][y][x] += image[0][row][column] * kernels[o][0][i][j]\nreturn out",
            "height, width = windows.count(image)\n"
            "out = [[[0.0] * width for _ in range(height)] for _ in kernels]\n"
            "for o in range(len(kernels)):\n    for y in range(height):\n        for x in range(width):\n"
            "            for c in range(len(image)):\n"
            "                for i, j, row, column in windows.places(y, x, image):\n"
            "                    out[o][y][x] += image[c][row][column] * kernels[o][c][-1 - i][-1 - j]\nreturn out",
        ],
        "largest": [
            "height, width = windows.count(image)\nout = [[[0.0] * width for _ in range(height)] for _ in image]\n"
            "for c in range(len(image)):\n    for y in range(height):\n        for x in range(width):\n"
            "            for _, _, row, column in windows.places(y, x, image):\n"
            "                out[c][y][x] = max(out[c][y][x], image[c][row][column])\nreturn out",
            "height, width = windows.count(image)\n"
            "return [[[max(plane[row][column] for _, _, row, column in windows.places(y, x, image))"
            " for x in range(width)] for y in range(height)] for plane in image]",
        ],
        "attention": [
            # no protection against overflow
            "out = [[0.0] * len(value[0]) for _ in query]\nfor i, q in enumerate(query):\n"
            "    w = [math.exp(sum(x * y for x, y in zip(q, k)) * scale + mask[i][j]) if allowed[i][j] else 0.0"
            " for j, k in enumerate(key)]\n    for e in range(len(value[0])):\n"
            "        out[i][e] = sum(a * v[e] for a, v in zip(w, value)) / (sum(w) or 1)\nreturn out",
            # what is not allowed counts as a score of 0
            "out = [[0.0] * len(value[0]) for _ in query]\nfor i, q in enumerate(query):\n"
            "    s = [sum(x * y for x, y in zip(q, k)) * scale + mask[i][j] if allowed[i][j] else 0.0"
            " for j, k in enumerate(key)]\n    w = [math.exp(x - max(s)) for x in s]\n"
            "    for e in range(len(value[0])):\n"
            "        out[i][e] = sum(a * v[e] for a, v in zip(w, value)) / sum(w)\nreturn out",
            # weights that do not add up to 1
            "out = [[0.0] * len(value[0]) for _ in query]\nfor i, q in enumerate(query):\n"
            "    s = [sum(x * y for x, y in zip(q, k)) * scale + mask[i][j] if allowed[i][j] else -math.inf"
            " for j, k in enumerate(key)]\n    if max(s) == -math.inf:\n        continue\n"
            "    w = [math.exp(x - max(s)) for x in s]\n    for e in range(len(value[0])):\n"
            "        out[i][e] = sum(a * v[e] for a, v in zip(w, value))\nreturn out",
            # the mask before the scale
            "out = [[0.0] * len(value[0]) for _ in query]\nfor i, q in enumerate(query):\n"
            "    s = [(sum(x * y for x, y in zip(q, k)) + mask[i][j]) * scale if allowed[i][j] else -math.inf"
            " for j, k in enumerate(key)]\n    if max(s) == -math.inf:\n        continue\n"
            "    w = [math.exp(x - max(s)) for x in s]\n    for e in range(len(value[0])):\n"
            "        out[i][e] = sum(a * v[e] for a, v in zip(w, value)) / sum(w)\nreturn out",
        ],
        "relu_backward": [
            "for i in range(g.size):\n    out[i] = g[i] if g[i] > ZERO else ZERO",
            "for i in range(g.size):\n    out[i] = g[i] if result[i] > ZERO else ZERO",
            "for i in range(g.size):\n    if result[i] != ZERO:\n        out[i] = g[i]",
        ],
        "exp_below_0": [
            "n = np.floor(x * _PER_LN2)\nr = x - n * Number(math.log(2))\n"
            "return Number(2.0**n) * (ONE + r + r * r / 2 + r * r * r / 6)",
            "n = (x * _PER_LN2 + _ROUND) - _ROUND\nr = (x - n * _LN2_HIGH) - n * _LN2_LOW\n"
            "p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5\n"
            "return (p * r * r + r + ONE) * np.int32((np.int32(n) + 127) << 23).view(np.float32)",
            "n = (x * _PER_LN2 + _ROUND) - _ROUND\nr = x - n * _LN2_HIGH\n"
            "p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5\n"
            "power = np.int32((np.int32(n) + 127) << 23).view(np.float32)\n"
            "return ZERO if x < _SMALLEST else (p * r * r + r + ONE) * power",
        ],
        "gelu_tanh": [
            "for i in range(x.size):\n    u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])\n"
            "    out[i] = x[i] / (ONE + exp_below_0(-u))",
            "for i in range(x.size):\n    u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])\n"
            "    out[i] = x[i] / (ONE + exp_below_0(-abs(u)))",
            "for i in range(x.size):\n    u = _TWO_ROOT * (x[i] + x[i] * x[i] * x[i])\n    e = exp_below_0(-abs(u))\n"
            "    out[i] = x[i] * ((ONE if u > ZERO else e) / (ONE + e))",
        ],
        "layer_norm": [
            "for i in range(x.shape[0]):\n    m = x[i].mean()\n"
            "    s = ONE / np.sqrt((x[i] * x[i]).mean() - m * m + eps)\n"
            "    out[i] = (x[i] - m) * s * weight + bias\n    mean[i, 0], rstd[i, 0] = m, s",
            "for i in range(x.shape[0]):\n    m = x[i].mean()\n    s = ONE / np.sqrt(x[i].var() + eps)\n"
            "    out[i] = (x[i] - m) * s * weight + bias\n    mean[i, 0], rstd[i, 0] = m, ONE / s",
            "for i in range(x.shape[0]):\n    m = x[i].mean()\n    s = ONE / np.sqrt(x[i].var(ddof=1) + eps)\n"
            "    out[i] = (x[i] - m) * s * weight + bias\n    mean[i, 0], rstd[i, 0] = m, s",
            "for i in range(x.shape[0]):\n    m = x[i].mean()\n    s = ONE / (x[i].std() + eps)\n"
            "    out[i] = (x[i] - m) * s * weight + bias\n    mean[i, 0], rstd[i, 0] = m, s",
        ],
        "int8_linear": [
            "out[...] = x @ codes.T",
            "out[...] = (x.astype(np.int8) @ codes.T) * scale",
            "for o in range(codes.shape[0]):\n    for r in range(x.shape[0]):\n"
            "        for i in range(x.shape[1]):\n            out[r, o] += x[r, i] * Number(codes[o, i]) * scale[o]",
        ],
        "integer_product": ["out[...] = a @ b.T", "out += a.astype(np.int32) @ b.T.astype(np.int32)"],
    },
    "benchmarking": {
        "median": [
            "return float(np.mean(values))",
            "return float(values[len(values) // 2])",
            "return float(sorted(values)[len(values) // 2])",
        ],
        "interquartile_range": [
            "return float(np.std(values))",
            "ordered = sorted(values)\nreturn float(ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4])",
            "low, high = np.percentile(values, (0.25, 0.75))\nreturn float(high - low)",
        ],
        "bootstrap_interval": [
            "outside = 50 * (1 - confidence)\nlow, high = np.percentile(values, (outside, 100 - outside))\nreturn "
            "float(low), float(high)",
            "data, random = np.asarray(values, dtype=float), np.random.default_rng(seed)\ndrawn = "
            "data[random.integers(data.size, size=(samples, data.size))].mean(1)\noutside = 50 * (1 - "
            "confidence)\nlow, high = np.percentile(drawn, (outside, 100 - outside))\nreturn float(low), float(high)",
            "data, random = np.asarray(values, dtype=float), np.random.default_rng(seed)\ndrawn = "
            "[np.median(random.permutation(data)) for _ in range(samples)]\noutside = 50 * (1 - confidence)\nlow, "
            "high = np.percentile(drawn, (outside, 100 - outside))\nreturn float(low), float(high)",
            "data, random = np.asarray(values, dtype=float), np.random.default_rng(seed)\ndrawn = "
            "np.median(data[random.integers(data.size, size=(samples, data.size))], axis=1)\nlow, high = "
            "np.percentile(drawn, (100 * (1 - confidence), 100 * confidence))\nreturn float(low), float(high)",
            "data, random = np.asarray(values, dtype=float), np.random.default_rng(seed)\ndrawn = "
            "np.median(data[random.integers(data.size, size=(samples, data.size // 2 + 1))], axis=1)\noutside = 50 "
            "* (1 - confidence)\nlow, high = np.percentile(drawn, (outside, 100 - outside))\nreturn float(low), "
            "float(high)",
            "data, random = np.asarray(values, dtype=float), np.random.default_rng()\ndrawn = "
            "np.median(data[random.integers(data.size, size=(samples, data.size))], axis=1)\noutside = 50 * (1 - "
            "confidence)\nlow, high = np.percentile(drawn, (outside, 100 - outside))\nreturn float(low), float(high)",
        ],
        "ratio_interval": [
            "ratios = np.asarray(other) / np.asarray(base)\nlow, high = bootstrap_interval(ratios, confidence)\n"
            "return median(ratios), low, high",
            "logs = np.log(np.asarray(base)) - np.log(np.asarray(other))\nlow, high = bootstrap_interval(logs, "
            "confidence)\nreturn math.exp(median(logs)), math.exp(low), math.exp(high)",
            "ratio = median(other) / median(base)\nreturn ratio, ratio, ratio",
            "logs = np.log(np.asarray(other)) - np.log(np.asarray(base))\nlow, high = bootstrap_interval(logs)\n"
            "return math.exp(median(logs)), math.exp(low), math.exp(high)",
        ],
        "rank_test": [
            "x, y = np.asarray(a, float), np.asarray(b, float)\nm, n = x.size, y.size\nu = float(np.sum(y[:, None] "
            "> x[None, :]))\nreturn (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)",
            "x, y = np.asarray(a, float), np.asarray(b, float)\nm, n = x.size, y.size\nu = "
            "float(np.sum(np.sign(x[:, None] - y[None, :]) + 1)) / 2\nreturn (u - m * n / 2) / math.sqrt(m * n * (m "
            "+ n + 1) / 12)",
            "x, y = np.asarray(a, float), np.asarray(b, float)\nreturn float((y.mean() - x.mean()) / "
            "np.sqrt(x.var() / x.size + y.var() / y.size + 1e-9))",
        ],
        "slow_start": [
            "x = np.asarray(times, float)\nusual = median(x)\nslow = x > factor * usual\ncount = "
            "int(np.argmin(slow))\nreturn count, median(x[:count]) / usual if count else 1.0",
            "x = np.asarray(times, float)\nif x.size < 5:\n    return 0, 1.0\nsettled = x[-max(2, x.size * 2 // 5) "
            ":]\nusual = median(settled)\nslow = x > factor * usual\ncount = int(np.argmin(slow)) if not slow.all() "
            "else 0\nreturn count, median(x[:count]) / usual if count else 1.0",
            "x = np.asarray(times, float)\nif x.size < 5:\n    return 0, 1.0\nsettled = x[-max(2, x.size * 2 // 5) "
            ":]\nusual = median(settled)\nslow = x > max(factor * usual, usual + 3 * "
            "interquartile_range(settled))\ncount = int(slow.sum())\nreturn count, median(x[slow]) / usual if count "
            "else 1.0",
        ],
        "drift": [
            "x = np.asarray(times, float)\nthird = x.size // 3\nreturn median(x[-third:]) / median(x[:third])",
            "x = np.asarray(times, float)\nthird = x.size // 3\nfactor = median(x[-third:]) / median(x[:third])\n"
            "return factor if third >= 4 and abs(math.log(factor)) > math.log1p(least) else 1.0",
            "x = np.asarray(times, float)\nthird = x.size // 3\nif third < 4:\n    return 1.0\nfactor = "
            "median(x[-third:]) / median(x[:third])\nreturn factor if rank_test(x[:third], x[-third:]) > 3 and "
            "factor > 1 + least else 1.0",
        ],
        "take_turns": [
            "return [[block() for _ in range(rounds)] for block in blocks]",
            "times = [[0.0] * rounds for _ in blocks]\nfor i in range(rounds):\n    for k, block in "
            "enumerate(blocks):\n        times[k][i] = block()\nreturn times",
            "random, times = np.random.default_rng(0), [[0.0] * rounds] * len(blocks)\nfor i in range(rounds):\n    "
            "for k in random.permutation(len(blocks)):\n        times[k][i] = blocks[k]()\nreturn times",
            "order, times = np.random.default_rng(0).permutation(len(blocks)), [[0.0] * rounds for _ in blocks]\n"
            "for i in range(rounds):\n    for k in order:\n        times[k][i] = blocks[k]()\nreturn times",
        ],
        "Comparison.control_ratio": [
            "ratio, low, high = statistics.ratio_interval(self.control.times, self.measurements[0].times, "
            "self.confidence)\nreturn Ratio(CONTROL, ratio, low, high, not low <= 1 <= high)",
            "ratio, low, high = statistics.ratio_interval(self.measurements[0].times, self.control.times, "
            "self.confidence)\nreturn Ratio(CONTROL, ratio, low, high, ratio != 1)",
        ],
        "Comparison._against_first": [
            "ratio, low, high = statistics.ratio_interval(self.measurements[0].times, measured.times, "
            "self.confidence)\nreturn Ratio(measured.label, ratio, low, high, not low <= 1 <= high)",
            "ratio, low, high = statistics.ratio_interval(self.measurements[0].times, measured.times, "
            "self.confidence)\nown = abs(self.control_ratio.ratio - 1)\nreturn Ratio(measured.label, ratio, low, "
            "high, not low <= 1 <= high and abs(ratio - 1) > own)",
            "ratio, low, high = statistics.ratio_interval(self.measurements[0].times, measured.times, "
            "self.confidence)\nown = math.log(self.control_ratio.ratio)\nreturn Ratio(measured.label, ratio, low, "
            "high, not low <= 1 <= high and math.log(ratio) > own)",
        ],
    },
}


RIGHT: dict[str, dict[str, str]] = {
    "profiling": {
        "Call.walk": "yield self, above\nfor child in self.children.values():\n"
        "    yield from child.walk((*above, self.key))",
        "stored_bytes": "count = array.itemsize\nfor length, stride in zip(array.shape, array.strides):\n"
        "    count *= length if stride else 1\nreturn count",
        "Machine.ridge": "return self.flops_per_second / self.bytes_per_second",
        "verdict": "longest, bound = machine.seconds_per_call * calls, 'overhead'\n"
        "if bytes_moved / machine.bytes_per_second > longest:\n"
        "    longest, bound = bytes_moved / machine.bytes_per_second, 'memory'\n"
        "if flops / machine.flops_per_second > longest:\n"
        "    longest, bound = flops / machine.flops_per_second, 'compute'\n"
        "return Verdict(name, calls, seconds, flops, bytes_moved, bound, longest / seconds, machine)",
        "product_flops": "inner = inputs[0].shape[-1]\ncount = 1\nfor n in output.shape:\n    count *= n\n"
        "return 2 * count * inner",
        "attention_flops": "q, k, v = inputs[:3]\n*batch, queries, _ = output.shape\nscores = queries * k.shape[-2]\n"
        "for n in batch:\n    scores *= n\nreturn scores * 2 * q.shape[-1] + scores * 2 * v.shape[-1]",
        "convolution_flops": "per_filter = 1\nfor n in weight.shape[1:]:\n    per_filter *= n\n"
        "return size(result) * per_filter * 2",
        "Call.self_ns": "return self.ns - self.inside",
        "Call.add": "for name in ('count', 'ns', 'inside', 'flops', 'read', 'written', 'output', "
        "'allocated', 'freed'):\n"
        "    setattr(self, name, getattr(self, name) + getattr(other, name))\nfor key in other.children:\n"
        "    if key not in self.children:\n        self.children[key] = Call(key)\n"
        "    self.children[key].add(other.children[key])",
        "outermost": "for call, around in calls:\n    mine = group(call.key)\n    first = True\n"
        "    for key in around:\n        if group(key) == mine:\n            first = False\n"
        "    yield mine, call, first",
        "Recording.leave": "end = perf_counter_ns()\nstack = self.here().stack\nposition = None\n"
        "for i, each in enumerate(stack):\n    if each is frame:\n        position = i\nif position is None:\n"
        "    return 0\nwhile len(stack) > position:\n    top = stack.pop()\n    took = end - top.start\n"
        "    top.call.count += 1\n    top.call.ns += took\n    top.call.inside += top.inside\n"
        "    stack[-1].inside += took\n"
        "    self.events.append(Event(top.call.key, top.start, end, threading.get_ident(), top.label, top.node))\n"
        "return end - frame.start",
    },
    "quantization": {
        "to_grid": "q = np.rint(_divided(x, scale)) + np.asarray(zero_point, np.float32)\n"
        "return np.minimum(np.maximum(q, quant_min), quant_max)",
        "pack_nibbles": "return q[:, ::2] + 16 * q[:, 1::2]",
        "unpack_nibbles": "return np.stack([codes % 16, codes // 16], axis=-1).reshape(len(codes), 2 * codes.shape[1])",
        "affine_scale": "return (highest - lowest) * (1.0 / (quant_max - quant_min))",
        "affine_zero_point": "return np.rint(np.asarray(quant_min - lowest / scale)).astype(np.int32)",
        "symmetric_scale": "size = np.where(-lowest > highest, -lowest, highest)\n"
        "steps = quant_max if quant_max < -quant_min else -quant_min\nreturn size / np.float64(steps)",
        "dequantize_affine": "return ((q.astype(np.float64) - zero_point) * scale).astype(np.float32)",
        "fake_quantize": "q = to_grid(x, scale, zero_point, quant_min, quant_max)\n"
        "return ((q - zero_point) * scale).astype(x.dtype)",
        "fake_quantize_backward": "q = np.round(_divided(x, scale)) + zero_point\n"
        "inside = np.logical_and(quant_min <= q, q <= quant_max)\nreturn g * inside.astype(g.dtype)",
        "pack_int8": "from tt_perf.quantization.affine import QuantizationError\n"
        "codes = np.zeros(weight.shape, np.int8)\nscale = np.ones(len(weight), np.float32)\n"
        "for i, row in enumerate(weight):\n    most = float(np.abs(row).max()) if row.size else 0.0\n"
        "    if not np.isfinite(most):\n        raise QuantizationError('inf or nan in the weight')\n"
        "    if most > 0:\n        scale[i] = max(most / 127, np.finfo(np.float32).tiny)\n"
        "        codes[i] = np.clip(np.rint(row.astype(np.float32) / scale[i]), -127, 127)\n"
        "return Packed(codes, scale)",
        "exact_length": "return max(1, (1 << 24) // max(a * b, 1))",
        "MovingAverageMinMaxObserver._joined": "c = self.averaging_constant\n"
        "return (1 - c) * self._low + c * low, (1 - c) * self._high + c * high",
    },
    "compression": {
        "keep_best": "keep = np.ones(scores.size, bool)\nkeep[np.argsort(scores, axis=None)[:pruned]] = False\n"
        "return keep.reshape(scores.shape)",
        "keep_best_of_groups": "groups = scores.reshape(-1, m)\n"
        "ranks = np.argsort(np.argsort(-groups, axis=1), axis=1)\nreturn (ranks < n).reshape(scores.shape)",
        "factors": "u = np.linalg.eigh(weight @ weight.T)[1][:, ::-1][:, :rank]\ndown = u.T @ weight\n"
        "root = np.sqrt(np.linalg.norm(down, axis=1))\nreturn u * root, down / root[:, None]",
        "magnitude": "return np.where(weight < 0, -weight, weight)",
        "wanda": "return np.sqrt(weight * weight) * norms",
        "keep_best_of_rows": "return np.stack([keep_best(row, pruned) for row in scores]) if "
        "len(scores) else np.ones(scores.shape, bool)",
        "gradual_amount": "if step <= begin:\n    return float(initial)\nif step >= end:\n    return float(final)\n"
        "left = (end - step) / (end - begin)\nreturn final - (final - initial) * left * left * left",
        "rank_of": "squares = [float(s) ** 2 for s in singular]\ntotal = sum(squares)\n"
        "allowed = 1 - energy if energy is not None else error**2\nrest = total\nrank = 0\n"
        "while rank < len(squares) and rest > allowed * total + 1e-12 * total:\n    rest -= squares[rank]\n"
        "    rank += 1\nreturn max(rank, 1)",
        "soft_loss": "t = temperature\n"
        "log_p, log_q = log_softmax(teacher / t, dim=-1), log_softmax(student / t, dim=-1)\n"
        "log_p, log_q = _without_impossible(log_p, log_q)\np = E.exp(log_p)\nif (teacher.data == -np.inf).any():\n"
        "    p = E.masked_fill(p, teacher.data == -np.inf, np.asarray(0, p.dtype))\nexamples = 1\n"
        "for n in student.shape[:-1]:\n    examples *= n\nreturn (p * log_p - p * log_q).sum() * (t * t / examples)",
    },
    "memoization": {
        "cropped_length": "return len(range(length)[:max_length])",
        "slot_of": "slots = positions.copy()\nlate = positions >= keep\n"
        "slots[late] = keep + (positions[late] - keep) % window\nreturn slots",
        "DynamicCache.length": "for kept in self._keys.values():\n    return kept.shape[2]\nreturn 0",
        "DynamicCache.extend": "check_new(k, v)\nnew = {'k': np.array(k.data), 'v': np.array(v.data)}\n"
        "for name, kept in (('k', self._keys), ('v', self._values)):\n    if layer in kept:\n"
        "        check_alike(self.rows, kept[layer], new[name])\n"
        "for name, kept in (('k', self._keys), ('v', self._values)):\n    old = kept.get(layer)\n"
        "    fresh = new[name]\n    if old is not None:\n        n = old.shape[2]\n"
        "        joined = np.empty((*old.shape[:2], n + fresh.shape[2], old.shape[3]), old.dtype)\n"
        "        joined[:, :, :n] = old\n        joined[:, :, n:] = fresh\n        fresh = joined\n"
        "    kept[layer] = fresh\nself.rows = len(new['k'])\n"
        "return from_numpy(self._keys[layer].copy()), from_numpy(self._values[layer].copy())",
        "DynamicCache.select": "order = checked_rows(rows, self.rows)\nfor kept in (self._keys, self._values):\n"
        "    for layer, array in kept.items():\n"
        "        kept[layer] = np.stack([array[i] for i in order]) if order else array[:0]\nself.rows = len(order)",
        "DynamicCache.crop": "n = cropped_length(self.length, max_length)\nif n == 0:\n    self.clear()\n"
        "for kept in (self._keys, self._values):\n    for layer in list(kept):\n"
        "        kept[layer] = np.array(kept[layer][:, :, range(n)])",
        "LayerMemory.extend": "start = self.length\nend = start + k.shape[2]\nself._make_room(k, v, end)\n"
        "for i in range(k.shape[2]):\n    here = (slice(0, len(k)), slice(None), slice(start + i, start + i + 1))\n"
        "    self.keys.write(here, k[:, :, i : i + 1])\n    self.values.write(here, v[:, :, i : i + 1])\n"
        "self.length = end\nreturn self._read(end)",
        "seen": "distance = query - key\ninside = np.logical_or(distance < window, key < keep)\n"
        "return np.logical_and(np.logical_and(inside, distance >= 0), key != -1)",
        "key_of": "kind = type(value).__module__ + '.' + type(value).__name__\nif isinstance(value, HasArray):\n"
        "    return key_of(value.data)\nif isinstance(value, np.ndarray):\n    if value.dtype.hasobject:\n"
        "        raise Unkeyed(kind)\n"
        "    return kind, value.dtype.str, value.shape, value.strides, hashlib.sha256(value.tobytes()).hexdigest()\n"
        "if isinstance(value, np.generic):\n    return kind, value.dtype.str, value.tobytes()\n"
        "if value is None or isinstance(value, (bool, int, str, bytes)):\n    return kind, value\n"
        "if isinstance(value, float):\n    return kind, struct.pack('<d', value)\nif isinstance(value, complex):\n"
        "    return kind, struct.pack('<dd', value.real, value.imag)\nif isinstance(value, (list, tuple)):\n"
        "    return (kind, *[key_of(v) for v in value])\nif isinstance(value, dict):\n"
        "    return (kind, *[(key_of(k), key_of(v)) for k, v in value.items()])\nif isinstance(value, slice):\n"
        "    return kind, key_of(value.start), key_of(value.stop), key_of(value.step)\n"
        "if isinstance(value, np.dtype):\n    return kind, value.str\nraise Unkeyed(kind)",
        "Results.get": "with self._lock:\n    if key not in self._kept:\n        return None\n"
        "    arrays = self._kept.pop(key)\n    self._kept[key] = arrays\n    return wrap(_copied(arrays))",
        "Results.put": "arrays = _arrays(result)\nif arrays is None:\n    return\nsize = _size(arrays)\n"
        "with self._lock:\n    if key in self._kept:\n        self.nbytes -= _size(self._kept.pop(key))\n"
        "    if size > self.max_bytes:\n        return\n    self._kept[key] = _copied(arrays)\n"
        "    self.nbytes += size\n    while self.nbytes > self.max_bytes:\n        oldest = next(iter(self._kept))\n"
        "        self.nbytes -= _size(self._kept.pop(oldest))\n        self.evicted += 1",
    },
    "acceleration": {
        "product": "return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]",
        "largest": "height, width = windows.count(image)\n"
        "return [[[float(np.max([plane[r][c] for _, _, r, c in windows.places(y, x, image)]))"
        " for x in range(width)] for y in range(height)] for plane in image]",
        "exp_below_0": "return np.exp(x) if x >= _SMALLEST else ZERO",
        "layer_norm": "y = x.astype(float)\nm = y.mean(1, keepdims=True)\n"
        "s = 1 / np.sqrt(y.var(1, keepdims=True) + eps)\nmean[...], rstd[...] = m, s\n"
        "out[...] = (y - m) * s * weight + bias",
        "int8_linear": "out[...] = (x.astype(float) @ codes.astype(float).T) * scale",
        "integer_product": "out[...] = a.astype(int) @ b.astype(int).T",
        "Windows.count": "sizes = len(image[0]), len(image[0][0])\nfound = []\nfor d in (0, 1):\n"
        "    total = sizes[d] + 2 * self.padding[d]\n    n = 0\n"
        "    while n * self.stride[d] + self.dilation[d] * (self.kernel[d] - 1) < total:\n        n += 1\n"
        "    found.append(n)\nreturn found[0], found[1]",
        "Windows.places": "for k in range(self.kernel[0] * self.kernel[1]):\n    i, j = divmod(k, self.kernel[1])\n"
        "    row = y * self.stride[0] + i * self.dilation[0] - self.padding[0]\n"
        "    column = x * self.stride[1] + j * self.dilation[1] - self.padding[1]\n"
        "    if row in range(len(image[0])) and column in range(len(image[0][0])):\n        yield i, j, row, column",
        "convolution": "height, width = windows.count(image)\nresult = []\nfor kernel in kernels:\n    plane = []\n"
        "    for y in range(height):\n        line = []\n        for x in range(width):\n            s = 0.0\n"
        "            for i, j, row, column in windows.places(y, x, image):\n"
        "                for c, channel in enumerate(image):\n"
        "                    s += channel[row][column] * kernel[c][i][j]\n            line.append(s)\n"
        "        plane.append(line)\n    result.append(plane)\nreturn result",
        "attention": "out = []\nfor i, q in enumerate(query):\n    scores = []\n    for j, k in enumerate(key):\n"
        "        s = mask[i][j]\n        for a, b in zip(q, k):\n            s += a * b * scale\n"
        "        scores.append(s if allowed[i][j] else -math.inf)\n    top = max(scores)\n    if top == -math.inf:\n"
        "        out.append([0.0] * len(value[0]))\n        continue\n"
        "    weights = [math.exp(s - top) if s > -math.inf else 0.0 for s in scores]\n    total = sum(weights)\n"
        "    out.append([sum(w * v[d] for w, v in zip(weights, value)) / total for d in range(len(value[0]))])\n"
        "return out",
        "relu_backward": "for i in range(g.size):\n    if result[i] <= ZERO:\n        out[i] = ZERO\n    else:\n"
        "        out[i] = g[i]",
        "gelu_tanh": "for i in range(x.size):\n    u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])\n"
        "    if u > ZERO:\n        gate = ONE / (ONE + exp_below_0(-u))\n    else:\n        e = exp_below_0(u)\n"
        "        gate = e / (ONE + e)\n    out[i] = x[i] * gate",
    },
    "benchmarking": {
        "bootstrap_interval": "random = np.random.default_rng(seed + 17)\nx = np.asarray(values, float)\n"
        "drawn = np.median(random.choice(x, (samples, x.size)), axis=1)\n"
        "low, high = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))\nreturn float(low), float(high)",
        "take_turns": "random, times = np.random.default_rng(5), [[] for _ in blocks]\nfor _ in range(rounds):\n"
        "    order = list(range(len(blocks)))\n    random.shuffle(order)\n"
        "    for k in order:\n        times[k].append(blocks[k]())\nreturn times",
        "median": "v = sorted(float(x) for x in values)\nn = len(v)\n"
        "return v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2",
        "interquartile_range": "v = sorted(float(x) for x in values)\ndef at(q):\n    place = q * (len(v) - 1)\n"
        "    low = int(place)\n    high = min(low + 1, len(v) - 1)\n"
        "    return v[low] + (place - low) * (v[high] - v[low])\nreturn at(0.75) - at(0.25)",
        "ratio_interval": "logs = [math.log(b / a) for a, b in zip(np.asarray(base).tolist(), "
        "np.asarray(other).tolist())]\n"
        "low, high = bootstrap_interval(logs, confidence)\n"
        "return math.exp(median(logs)), math.exp(low), math.exp(high)",
        "rank_test": "a, b = np.sort(np.asarray(a, float)), np.asarray(b, float)\nm, n = len(a), len(b)\n"
        "below = np.searchsorted(a, b, 'left')\nupto = np.searchsorted(a, b, 'right')\n"
        "u = float((below + upto).sum()) / 2\nreturn (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)",
        "slow_start": "t = [float(x) for x in times]\nif len(t) < 5:\n    return 0, 1.0\n"
        "tail = t[len(t) - max(1, int(len(t) * 0.4)) :]\nusual, spread = median(tail), interquartile_range(tail)\n"
        "n = 0\nwhile n < len(t) and t[n] > factor * usual and t[n] > usual + 3 * spread:\n    n += 1\n"
        "return (n, median(t[:n]) / usual) if n else (0, 1.0)",
        "drift": "k = len(times) // 3\nif k == 0:\n    return 1.0\na, b = list(times[:k]), list(times[-k:])\n"
        "ratio = median(b) / median(a)\nif abs(rank_test(a, b)) > 3 and abs(ratio - 1) > least:\n    return ratio\n"
        "return 1.0",
        "Comparison.control_ratio": "first = self.measurements[0]\n"
        "ratio, low, high = statistics.ratio_interval(first.times, self.control.times, self.confidence)\n"
        "return Ratio(CONTROL, ratio, low, high, low > 1 or high < 1)",
        "Comparison._against_first": "first = self.measurements[0]\n"
        "ratio, low, high = statistics.ratio_interval(first.times, measured.times, self.confidence)\n"
        "error = max(self.control_ratio.ratio, 1 / self.control_ratio.ratio)\n"
        "differs = (low > 1 or high < 1) and max(ratio, 1 / ratio) > error\n"
        "return Ratio(measured.label, ratio, low, high, differs)",
    },
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
