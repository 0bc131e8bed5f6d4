"""The exercises of module 17, memoization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise
from tt_core.course.trial import Trial
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_perf.memoization import DynamicCache, dynamic, window
from tt_perf.memoization.formats import Floats
from tt_perf.memoization.results import Results, key_of
from tt_perf.memoization.storage import LayerMemory

DYNAMIC, RESULTS, STORAGE, WINDOW = (
    f"tt_perf.memoization.{name}" for name in ("dynamic", "results", "storage", "window")
)


def heads(first: float, positions: int, rows: int = 1, size: int = 2) -> Tensor:
    """Keys or values (rows, 1, positions, size) that count up from `first`."""
    count = rows * positions * size
    return from_numpy(np.arange(first, first + count, dtype=np.float32).reshape(rows, 1, positions, size))


def plain(*tensors: Any) -> list[Any]:
    """Copies of the arrays of tensors."""
    return [np.array(tensor.data) for tensor in tensors]


# --- crop


def cropped_length_counts_from_the_start(t: Trial) -> None:
    """At most `max_length` positions, and never more than there are."""
    for length, most in ((5, 3), (5, 5), (5, 9), (5, 0), (0, 3)):
        t.call(dynamic.cropped_length, length, most)


def cropped_length_counts_from_the_end(t: Trial) -> None:
    """A negative number removes as many."""
    t.call(dynamic.cropped_length, 5, -1, why="crop(-1) removes the last position")
    t.call(dynamic.cropped_length, 5, -5)
    t.call(dynamic.cropped_length, 5, -9, why="no fewer than 0 positions are kept")


def crop_keeps_the_first(t: Trial) -> None:
    """The first positions of each layer stay, and what comes next follows them."""
    for most in (2, -1, 9):
        cache = filled()
        why = "positions are the third dimension; `cropped_length` says how many stay"
        t.step(f"crop({most}) of a cache with 3 positions", why)
        cache.crop(most)
        t.see(f"length after crop({most}) of a cache with 3 positions", cache.length, why)
        t.see(f"keys and values that extend returns after crop({most})", plain(*extend(cache, 50, 1)), why)


def crop_to_nothing(t: Trial) -> None:
    """An empty cache takes other texts, and keeps no memory."""
    cache = filled()
    t.step("crop(0) of a cache with 3 positions", "call clear(): the next texts may be of another number")
    cache.crop(0)
    t.see("length, nbytes after crop(0)", [cache.length, cache.nbytes])
    found = cache.extend("a", heads(0, 2, rows=3), heads(9, 2, rows=3))
    t.see("keys and values of three texts in it", plain(*found), "a cache without positions fits any number of texts")


def crop_frees_memory(t: Trial) -> None:
    """What is dropped takes no memory any more."""
    cache = filled(positions=100)
    t.step("crop(10) of a cache with 100 positions", "a view keeps all of the old array in memory; copy")
    cache.crop(10)
    own = all(array.base is None for kept in (cache._keys, cache._values) for array in kept.values())
    t.see("whether the arrays are their own after crop(10)", own, "a view keeps all of the old array; copy")


def filled(positions: int = 3, rows: int = 1) -> DynamicCache:
    """A cache of one layer, "a"; made without `extend`."""
    cache = DynamicCache()
    cache._keys["a"], cache._values["a"] = plain(heads(0, positions, rows), heads(1000, positions, rows))
    cache.rows = rows
    return cache


def extend(cache: DynamicCache, first: float, positions: int) -> tuple[Any, Any]:
    """What `extend` returns, computed here where the cache is filled."""
    k, v = heads(first, positions), heads(first + 1000, positions)
    joined = [np.concatenate([kept["a"], new.data], axis=2) for kept, new in ((cache._keys, k), (cache._values, v))]
    return from_numpy(joined[0]), from_numpy(joined[1])


# --- DynamicCache


def length_is_that_of_the_keys(t: Trial) -> None:
    """How many positions were read."""
    for positions in (1, 3, 7):
        t.step(f"length of a cache with {positions} positions", "positions are the third dimension of the keys")
        t.see(f"length of a cache with {positions} positions", filled(positions, rows=2).length)
    t.see("length of a new cache", DynamicCache().length, "a cache without layers has read nothing")


def extend_joins_positions(t: Trial) -> None:
    """New positions come behind those that are kept."""
    cache = DynamicCache()
    why = "(batch, heads, positions, size): join along positions, old ones first; return all of them"
    t.step("extend with 2 positions, then with 1", why)
    t.see("keys and values after 2 positions", plain(*cache.extend("a", heads(0, 2), heads(10, 2))), why)
    t.see("keys and values after 1 more", plain(*cache.extend("a", heads(20, 1), heads(30, 1))), why)
    t.see("length, nbytes", [cache.length, cache.nbytes], why)


def extend_keeps_layers_apart(t: Trial) -> None:
    """Each layer has keys and values of its own; rows are told apart."""
    cache = DynamicCache()
    why = "keep one pair for each layer"
    t.step("extend for layers 0 and 1", why)
    for layer in (0, 1):
        cache.extend(layer, heads(100 * layer, 2, rows=2), heads(100 * layer + 50, 2, rows=2))
    t.see("keys and values of layer 0", plain(*cache.extend(0, heads(7, 1, rows=2), heads(8, 1, rows=2))), why)
    t.see("keys and values of layer 1", plain(*cache.extend(1, heads(9, 1, rows=2), heads(5, 1, rows=2))), why)
    t.see("rows", cache.rows, "`rows` is the number of texts")


def extend_keeps_copies(t: Trial) -> None:
    """Whoever changes the tensors that were given does not change the cache."""
    cache, k = DynamicCache(), heads(0, 2)
    why = "the first keys must be copied, since the caller may write into them"
    t.step("extend, then writing into the keys that were given", why)
    cache.extend("a", k, heads(10, 2))
    k.data[:] = -1
    t.see("keys and values after one more position", plain(*cache.extend("a", heads(20, 1), heads(30, 1))), why)


def select_moves_rows(t: Trial) -> None:
    """Row i becomes what row `rows[i]` was: beams fork, and finished texts go."""
    for rows in ([1, 0, 2], [2, 2], [0], [1, 1, 0, 2]):
        see_select(t, rows)


def see_select(t: Trial, rows: Sequence[int]) -> None:
    """Record what is kept after `select`."""
    cache = filled(positions=2, rows=3)
    why = "rows are the first dimension of keys and values, in each layer"
    t.step(f"select({list(rows)}) of a cache of 3 texts", why)
    cache.select(rows)
    t.see(f"keys and values after select({list(rows)})", [np.array(x["a"]) for x in (cache._keys, cache._values)], why)
    t.see(f"rows after select({list(rows)})", cache.rows, "the number of texts has changed too")


# --- storage


def memory_returns_all(t: Trial) -> None:
    """What is kept, with the new positions behind it."""
    memory = LayerMemory(1, 1 << 40, Floats)
    why = "write behind `self.length`, then read everything up to the new end"
    t.step("extend of a LayerMemory with 2 positions, then with 1", why)
    for first, positions in ((0, 2), (20, 1), (30, 3)):
        found = memory.extend(heads(first, positions).data, heads(first + 50, positions).data)
        t.see(f"keys and values after {memory.length} positions", plain(*found), why)
    t.see("length", memory.length, "`length` counts what is filled")


def memory_is_not_copied(t: Trial) -> None:
    """Reading returns views of memory that has room for more."""
    memory = LayerMemory(2, 1 << 40, Floats)
    why = "`_make_room` allocates ahead; `self.keys.read` returns a view"
    t.step("extend of a LayerMemory with 300 single positions", why)
    for i in range(300):
        keys, values = memory.extend(heads(i, 1, rows=2).data, heads(i + 500, 1, rows=2).data)
    t.see("last keys", keys.data[:, 0, -3:], why)
    t.see("last values", values.data[:, 0, -3:], why)
    t.see("whether the keys that are returned share memory with those that are kept",
          bool(np.shares_memory(keys.data, memory.keys.parts[0])), why)  # fmt: skip


# --- window


def seen_is_causal(t: Trial) -> None:
    """A query sees itself and what was before, at most `window` positions."""
    at = np.arange(6)
    t.call(window.seen, np.array([[5]]), at, 3, 0, why="positions 3, 4 and 5 are three")
    t.call(window.seen, at[:, None], at, 2, 0, why="nobody sees later positions")
    t.call(window.seen, at[:, None], at, 99, 0)


def seen_keeps_the_first(t: Trial) -> None:
    """The first `keep` positions are seen by all that come later; empty slots by none."""
    at = np.arange(6)
    t.call(window.seen, at[:, None], at, 2, 1, why="position 0 stays visible")
    t.call(window.seen, at[:, None], at, 1, 3, why="the first three are no exception from causality")
    t.call(window.seen, np.array([[1], [4]]), np.array([[-1, 0, 1, 3]]), 4, 1, why="-1 marks an empty slot")


def slots_go_around(t: Trial) -> None:
    """A position takes the place of the one that has just left the window."""
    t.call(window.slot_of, np.arange(7), 3, 0, why="three slots, in turn")
    t.call(window.slot_of, np.arange(8), 3, 2, why="the first two have a slot each; then three slots in turn")
    t.call(window.slot_of, np.array([[0, 5, 100], [3, 4, 7]]), 4, 1)


# --- keys


def same(t: Trial, text: str, first: Any, second: Any, why: str) -> None:
    """Record whether two values have the same key."""
    t.step(f"key_of({text})", why)
    keys = key_of(first), key_of(second)
    t.see(f"whether the keys are equal: {text}", bool(keys[0] == keys[1]), why)
    t.see(f"whether their hashes are equal: {text}", hash(keys[0]) == hash(keys[1]), "a key must be hashable")


def key_is_made_of_bytes(t: Trial) -> None:
    """Arrays with the same content have the same key, and others another one."""
    x = t.normal(2, 3)
    same(t, "x, a copy of x", x, x.copy(), "the content counts, not the object")
    same(t, "x, x + 1", x, x + 1, "other numbers")
    same(t, "a tensor, its array", from_numpy(x), x, "a tensor is its array")
    same(t, "x, x with one bit changed", x, np.nextafter(x, np.float32(9)), "all bytes count")


def key_tells_forms_apart(t: Trial) -> None:
    """Shape, dtype and strides belong to the key."""
    x = np.zeros((2, 3), np.float32)
    same(t, "zeros (2, 3), zeros (3, 2)", x, x.reshape(3, 2), "the same bytes in another shape")
    same(t, "zeros float32, zeros int32", x, x.astype(np.int32), "the same bytes of another dtype")
    same(t, "zeros (3, 3), its transpose", np.zeros((3, 3)), np.zeros((3, 3)).T.copy().T, "strides are the same here")
    fortran = np.asfortranarray(np.zeros((2, 3)))
    same(t, "zeros in C order, in Fortran order", np.zeros((2, 3)), fortran, "sums are added in another order")


def key_tells_numbers_apart(t: Trial) -> None:
    """Equal in Python is not always the same."""
    same(t, "0.0, -0.0", 0.0, -0.0, "1 / 0.0 and 1 / -0.0 differ: compare the bytes of floats")
    same(t, "nan, nan", float("nan"), float("nan"), "nan is not equal to itself, but its bytes are")
    same(t, "1, True", 1, True, "the type belongs to the key")
    same(t, "1, 1.0", 1, 1.0, "the type belongs to the key")
    same(t, "None, 0", None, 0, "the type belongs to the key")


def key_of_nested_values(t: Trial) -> None:
    """Tuples, lists, dictionaries and slices hold values."""
    x = t.normal(3)
    same(t, "(x, 1), (a copy, 1)", (x, 1), (x.copy(), 1), "take the keys of the parts")
    same(t, "(1, 2), [1, 2]", (1, 2), [1, 2], "an op may treat a list in another way")
    same(t, "{'dim': 1}, {'dim': 2}", {"dim": 1}, {"dim": 2}, "names and values")
    same(t, "{'a': x}, {'b': x}", {"a": x}, {"b": x}, "names and values")
    same(t, "slice(0, 2), slice(0, 3)", slice(0, 2), slice(0, 3), "start, stop and step")
    same(t, "(0.0,), (-0.0,)", (0.0,), (-0.0,), "the parts by their own keys")


# --- the store


def kept_bytes(results: Results) -> list[Any]:
    """Keys that are kept, oldest first, and the bytes that are counted."""
    return [list(results._kept), results.nbytes, results.evicted]


def row(value: float, count: int = 2) -> Tensor:
    """A float32 tensor of `count` equal numbers."""
    return from_numpy(np.full(count, value, np.float32))


def get_finds_what_was_put(t: Trial) -> None:
    """A copy of the result, or None."""
    results = Results(100)
    results._kept["a"], results.nbytes = np.array([1, 2], np.float32), 8
    t.step("get of a key that is there, and of one that is not", "wrap(_copied(...)) makes tensors")
    t.see("get('a')", results.get("a"))
    t.see("get('b')", results.get("b"), "None where there is none")
    results.get("a").data[:] = 5
    t.see("get('a') after the result was written into", results.get("a"), "a copy is given, never what is kept")


def get_makes_it_the_newest(t: Trial) -> None:
    """What was used last is dropped last."""
    results = Results(100)
    for key in "abc":
        results._kept[key] = row(1).data
    why = "self._kept is an OrderedDict: move_to_end"
    t.step("keys by their last use, after get('a')", why)
    results.get("a")
    t.see("keys by their last use, after get('a')", list(results._kept), why)


def put_keeps_a_copy(t: Trial) -> None:
    """The result that was put may change, what is kept does not."""
    results, value = Results(100), row(1)
    why = "copy the arrays"
    t.step("put, then writing into the result", why)
    results.put("a", value)
    value.data[:] = 5
    t.see("what is kept", results._kept["a"], why)
    results.put("b", (row(2), row(3)))
    t.see("what is kept of two results", list(results._kept["b"]), "a tuple of tensors is a tuple of arrays")
    t.see("keys, bytes, evicted", kept_bytes(results), "8 bytes for each row of two numbers")


def put_drops_the_oldest(t: Trial) -> None:
    """At most `max_bytes`; the least recently used go first."""
    results = Results(24)
    why = "while there are too many bytes, drop the first key and count it as evicted"
    t.step("put of five results of 8 bytes, where 24 bytes are allowed", why)
    for i, key in enumerate("abcde"):
        results.put(key, row(i))
    t.see("keys, bytes, evicted", kept_bytes(results), why)
    results.put("f", row(9, count=5))
    t.see("keys, bytes, evicted after one of 20 bytes", kept_bytes(results), why)


def put_replaces_and_refuses(t: Trial) -> None:
    """The same key again takes the place of the old result; what is too large is left out."""
    results = Results(24)
    why = "the bytes of the old result are counted no longer"
    t.step("put of 'a' twice", why)
    results.put("a", row(1))
    results.put("b", row(2))
    results.put("a", row(3, count=3))
    t.see("keys, bytes, evicted", kept_bytes(results), why)
    results.put("c", row(1, count=7))
    results.put("d", "no tensor")
    t.see("keys, bytes, evicted after one of 28 bytes, and a text", kept_bytes(results), "nothing is kept of these")


EXERCISES = (
    Exercise(
        "cropped_length",
        DYNAMIC,
        2,
        (
            "Two cases: max_length is 0 or more, or negative.",
            "A negative one means length + max_length. Keep the result between 0 and length.",
            "max(0, min(length, max_length if max_length >= 0 else length + max_length))",
        ),
        (cropped_length_counts_from_the_start, cropped_length_counts_from_the_end),
    ),
    Exercise(
        "DynamicCache.length",
        DYNAMIC,
        2,
        (
            "Which dimension of the keys counts positions?",
            "Keys are (batch, heads, positions, size); any layer will do, and there may be none.",
            "max over self._keys.values() of shape[2], with default=0",
        ),
        (length_is_that_of_the_keys,),
    ),
    Exercise(
        "DynamicCache.extend",
        DYNAMIC,
        6,
        (
            "Keys and values of one layer are two arrays that grow along positions.",
            "np.concatenate([old, new], axis=2); the first time there is no old, and the new one is copied.",
            "check_new(k, v), and check_alike for a layer that is known; join in self._keys[layer] and "
            "self._values[layer]; set self.rows; return both by from_numpy.",
        ),
        (extend_joins_positions, extend_keeps_layers_apart, extend_keeps_copies),
    ),
    Exercise(
        "DynamicCache.select",
        DYNAMIC,
        3,
        (
            "An array takes a list of rows as its index.",
            "Each layer of self._keys and self._values, and the number of rows.",
            "chosen = checked_rows(rows, self.rows); kept[layer] = kept[layer][chosen]; self.rows = len(chosen)",
        ),
        (select_moves_rows,),
    ),
    Exercise(
        "DynamicCache.crop",
        DYNAMIC,
        4,
        (
            "cropped_length says how many positions stay.",
            "A slice along the third dimension is a view, which keeps the whole array in memory.",
            "end = cropped_length(self.length, max_length); clear() where it is 0; otherwise kept[layer][:, :, "
            ":end].copy()",
        ),
        (crop_keeps_the_first, crop_to_nothing, crop_frees_memory),
    ),
    Exercise(
        "LayerMemory.extend",
        STORAGE,
        5,
        (
            "Nothing is joined: there is room behind what is filled.",
            "self._make_room(k, v, end) first; then write to index (rows, heads, positions from self.length to end).",
            "self.keys.write((slice(self.rows), slice(None), slice(self.length, end)), k), the same for values; "
            "self.length = end; from_numpy(self.keys.read(self.rows, end)) and values.",
        ),
        (memory_returns_all, memory_is_not_copied),
    ),
    Exercise(
        "seen",
        WINDOW,
        4,
        (
            "Three conditions: there is a key, it is not later, and it is near enough or among the first.",
            "Position j is in the window of i where j > i - window.",
            "(key >= 0) & (key <= query) & ((key > query - window) | (key < keep))",
        ),
        (seen_is_causal, seen_keeps_the_first),
    ),
    Exercise(
        "slot_of",
        WINDOW,
        3,
        (
            "The first `keep` positions have the slots 0 to keep - 1.",
            "The others go around in `window` slots: a remainder.",
            "np.where(positions < keep, positions, keep + (positions - keep) % window)",
        ),
        (slots_go_around,),
    ),
    Exercise(
        "key_of",
        RESULTS,
        8,
        (
            "A key is a tuple of what tells the value apart: for a number its type and itself.",
            "For an array: dtype.str, shape, strides and a SHA-256 of its bytes. For a float: struct.pack('<d', "
            "value).",
            "Tensors by their data; containers by the keys of their parts, with the type in front; NumPy numbers as "
            "arrays; "
            "raise Unkeyed for anything else. hashlib.sha256(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)",
        ),
        (key_is_made_of_bytes, key_tells_forms_apart, key_tells_numbers_apart, key_of_nested_values),
    ),
    Exercise(
        "Results.get",
        RESULTS,
        3,
        (
            "Look it up, and remember that it was used.",
            "self._kept.move_to_end(key) makes it the newest. Hold self._lock meanwhile.",
            "None where the key is not there; otherwise wrap(_copied(self._kept[key])).",
        ),
        (get_finds_what_was_put, get_makes_it_the_newest),
    ),
    Exercise(
        "Results.put",
        RESULTS,
        6,
        (
            "Copy, drop the old result of the key, keep, and make room.",
            "_arrays(result) is None for what cannot be kept; _size(arrays) counts bytes; self._drop([key]) also "
            "counts.",
            "Return for None and for more than max_bytes. Then, under the lock: drop the key, keep the copy, add "
            "its bytes; "
            "while nbytes > max_bytes, drop next(iter(self._kept)) and count it as evicted.",
        ),
        (put_keeps_a_copy, put_drops_the_oldest, put_replaces_and_refuses),
    ),
)
