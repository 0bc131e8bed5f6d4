"""Beside module 18, decoding: attention of one new position over a cache, for one text and one key-value head."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.elements import exp_below_0
from tt_perf.kernels.decoding.intrinsics import compiled, fetch, float32_at, int8_at, int64_at, uint8_at

Number = np.float32
ZERO, ONE = Number(0), Number(1)
_TINY, _MOST = Number(np.finfo(np.float32).tiny), 127.0
_AHEAD = 8192
"""Bytes that are fetched ahead of what is read; see `intrinsics.AHEAD`."""
_ROUND = Number(1.5 * 2**23)  # added and taken off again, it leaves no digits behind the point


@compiled()
def attend(step: Array, now: Array, scale: Number, chunk: int, floats: Array, scores: Array) -> None:
    """Writes the new key and value to the cache, and what the queries of their heads see to TARGET."""
    heads, shared, size, length = step[C.HEADS], step[C.KV_HEADS], step[C.SIZE], now[C.LENGTH]
    text, head = chunk // shared, chunk % shared
    each = heads // shared
    row = step[C.SOURCE] + 4 * text * (heads + 2 * shared) * size
    place = (text * shared + head) * step[C.ROOM]
    slot = place + int64_at(now[C.SLOTS], now[C.BATCH])[text]
    key = float32_at(row + 4 * (heads + head) * size, size)
    value = float32_at(row + 4 * (heads + shared + head) * size, size)
    turned = floats[:size]
    _turn(key, now, text, turned)
    _keep(turned, step[C.KEYS], step[C.KEY_SCALES], slot)
    _keep(value, step[C.VALUES], step[C.VALUE_SCALES], slot)
    weights = scores[:length]
    for query in range(head * each, (head + 1) * each):
        _turn(float32_at(row + 4 * query * size, size), now, text, turned)
        out = float32_at(step[C.TARGET] + 4 * (text * heads + query) * size, size)
        if step[C.KEY_SCALES]:
            _scores_int8(turned, int8_at(step[C.KEYS] + place * size, length * size),
                         float32_at(step[C.KEY_SCALES] + 4 * place, length), scale, weights)  # fmt: skip
        else:
            _scores(turned, float32_at(step[C.KEYS] + 4 * place * size, length * size), scale, weights)
        if now[C.MASK]:
            seen = uint8_at(now[C.MASK] + text * length, length)
            for j in range(length):
                weights[j] = weights[j] if seen[j] else Number(-np.inf)
        share = ONE / _exponentials(weights)
        if step[C.VALUE_SCALES]:
            factors = float32_at(step[C.VALUE_SCALES] + 4 * place, length)
            for j in range(length):
                weights[j] *= factors[j]
            _mean_int8(weights, int8_at(step[C.VALUES] + place * size, length * size), share, out)
        else:
            _mean(weights, float32_at(step[C.VALUES] + 4 * place * size, length * size), share, out)


@compiled()
def _turn(x: Array, now: Array, text: int, out: Array) -> None:
    """`x` rotated by the angles of its position; a copy for a model without rotary positions."""
    half = x.size // 2
    if now[C.COSINES]:
        cosines = float32_at(now[C.COSINES] + 4 * text * half, half)
        sines = float32_at(now[C.SINES] + 4 * text * half, half)
        a, b, low, high = x[:half], x[half:], out[:half], out[half:]
        for i in range(half):
            low[i] = a[i] * cosines[i] - b[i] * sines[i]
            high[i] = b[i] * cosines[i] + a[i] * sines[i]
    else:
        for i in range(x.size):
            out[i] = x[i]


@compiled()
def _keep(x: Array, cache: int, scales: int, slot: int) -> None:
    """Puts a vector into its slot of the cache, as floats or as int8 with a scale (see `memoization.storage.Int8`)."""
    if scales:
        largest = ZERO
        for i in range(x.size):
            largest = max(largest, abs(x[i]))
        step = max(Number(np.float64(largest) / _MOST), _TINY) if largest > ZERO else ONE
        codes = int8_at(cache + slot * x.size, x.size)
        for i in range(x.size):
            codes[i] = np.int8((x[i] / step + _ROUND) - _ROUND)
        float32_at(scales + 4 * slot, 1)[0] = step
    else:
        out = float32_at(cache + 4 * slot * x.size, x.size)
        for i in range(x.size):
            out[i] = x[i]


@compiled()
def _fetch(address: int, nbytes: int) -> None:
    for line in range(0, nbytes, 64):
        fetch(address + _AHEAD + line)


@compiled("reassoc")
def _scores(query: Array, keys: Array, scale: Number, out: Array) -> None:
    size, start = query.size, keys.ctypes.data
    for j in range(out.size):
        _fetch(start + 4 * j * size, 4 * size)
        key = keys[j * size : (j + 1) * size]
        total = ZERO
        for i in range(size):
            total += query[i] * key[i]
        out[j] = total * scale


@compiled("reassoc")
def _scores_int8(query: Array, keys: Array, scales: Array, scale: Number, out: Array) -> None:
    size = query.size
    for j in range(out.size):
        key = keys[j * size : (j + 1) * size]
        total = ZERO
        for i in range(size):
            total += query[i] * Number(key[i])
        out[j] = total * scales[j] * scale


@compiled("reassoc")
def _exponentials(x: Array) -> Number:
    """`exp(x - max(x))` in place; returns the sum."""
    peak = x[0]
    for j in range(x.size):
        peak = max(peak, x[j])
    for j in range(x.size):
        x[j] = exp_below_0(x[j] - peak)
    total = ZERO
    for j in range(x.size):
        total += x[j]
    return total


@compiled("reassoc")
def _mean(weights: Array, values: Array, share: Number, out: Array) -> None:
    """The mean of the values by their weights, four positions at a time."""
    size = out.size
    for i in range(size):
        out[i] = ZERO
    whole, start = weights.size // 4 * 4, values.ctypes.data
    for j in range(0, whole, 4):
        _fetch(start + 4 * j * size, 16 * size)
        a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        rows = values[j * size : (j + 4) * size]
        first, second, third, last = rows[:size], rows[size : 2 * size], rows[2 * size : 3 * size], rows[3 * size :]
        for i in range(size):
            out[i] += a * first[i] + b * second[i] + c * third[i] + d * last[i]
    for j in range(whole, weights.size):
        row = values[j * size : (j + 1) * size]
        for i in range(size):
            out[i] += weights[j] * row[i]
    for i in range(size):
        out[i] *= share


@compiled("reassoc")
def _mean_int8(weights: Array, values: Array, share: Number, out: Array) -> None:
    size = out.size
    for i in range(size):
        out[i] = ZERO
    for j in range(weights.size):
        row = values[j * size : (j + 1) * size]
        for i in range(size):
            out[i] += weights[j] * Number(row[i])
    for i in range(size):
        out[i] *= share
