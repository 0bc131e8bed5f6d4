"""Beside module 18, decoding: the columns of a program's table, a row for each step, and the values that they take."""

from __future__ import annotations

# --- what a step does
KIND, CHUNKS = 0, 1
EMBEDDING, PRODUCT, ATTENTION = 0, 1, 2

# --- a table or a weight: (OUTPUTS, INPUTS), as float32 or as integers of BITS with scales (see module 15)
WEIGHT, BITS, SCALE, ZERO, GROUPS, STRIDE, INPUTS, OUTPUTS = 2, 3, 4, 5, 6, 7, 8, 9
"""WEIGHT, SCALE, ZERO: addresses. GROUPS: scales in a row of int4. STRIDE: bytes of a row."""

# --- where from and where to: addresses of float32 (batch, INPUTS) and (batch, OUTPUTS)
SOURCE, SOURCE_2, TARGET, RESIDUAL, BIAS = 10, 11, 12, 13, 14
CHUNK = 15
"""Rows of a weight in a chunk."""
WIDEST = 32
"""Rows of a weight that are multiplied at a time, at most: chunks hold a multiple of it."""

# --- what happens to the input, and to the result
PREPARE, NORM_WEIGHT, NORM_BIAS = 16, 17, 18
NOTHING, LAYER_NORM, RMS_NORM, SWIGLU = 0, 1, 2, 3
ACTIVATION = 19
GELU_TANH, GELU, RELU = 1, 2, 3
ROUND = 20
"""How the input of a product with integers is rounded."""
EXACT, DYNAMIC, STATIC = 0, 1, 2
"""To 24 bits, which is what float32 has; to 8 bits by its largest number; to 8 bits in a given range."""
INPUT_ZERO = 21

# --- embedding
BY_POSITION, ADD = 22, 23

# --- attention: SOURCE is (batch, (HEADS + 2 KV_HEADS) * SIZE), KEYS and VALUES (rows, KV_HEADS, ROOM, SIZE)
HEADS, KV_HEADS, SIZE, KEYS, VALUES, KEY_SCALES, VALUE_SCALES, ROOM = 24, 25, 26, 27, 28, 29, 30, 31
"""KEY_SCALES, VALUE_SCALES: 0 where the cache holds floats."""

COLUMNS = 32

# --- numbers of a step, float32
EPS, INPUT_SCALE = 0, 1
"""EPS is, for attention, what products of queries and keys are multiplied with."""
NUMBERS = 2

# --- what changes with each token: addresses, and LENGTH keys that are there, with the new ones
BATCH, IDS, POSITIONS, SLOTS, LENGTH, MASK, COSINES, SINES, YIELD, SLEEP = range(10)
NOW = 10


def digit_bytes(rows: int, widest: int) -> int:
    """Bytes for the digits of a batch: three of each number, in whole vectors and whole tiles (see `several.py`)."""
    return 3 * (rows + 3) * 2 * (widest + 64)
