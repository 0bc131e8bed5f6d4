"""The exercises of module 14, profiling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise
from tt_core.course.trial import Trial
from tt_perf.profiling import roofline, tree, work
from tt_perf.profiling.roofline import Machine
from tt_perf.profiling.tree import Call, Key, Recording

ROOFLINE, TREE, WORK = (f"tt_perf.profiling.{name}" for name in ("roofline", "tree", "work"))


def zeros(*shape: int) -> Any:
    """A float32 array of zeros."""
    return np.zeros(shape, np.float32)


def sizes(*arrays: Any) -> str:
    """The shapes of arrays, as text."""
    return ", ".join(str(array.shape) for array in arrays)


# --- Machine.ridge


def ridge_is_where_the_bounds_meet(t: Trial) -> None:
    """FLOPs a byte at which computation and memory take equally long."""
    for flops, moved in ((50e9, 10e9), (1e12, 20e9), (3e9, 6e9)):
        why = "W / peak = Q / bandwidth: which W / Q solves it?"
        t.step(f"Machine({flops:g}, {moved:g}, 1e-6).ridge", why)
        t.see(f"Machine({flops:g}, {moved:g}, 1e-6).ridge", Machine(flops, moved, 1e-6).ridge, why)


# --- FLOPs


def product_counts_multiply_and_add(t: Trial) -> None:
    """A product of matrices takes 2 FLOPs for each term of each sum."""
    for m, k, n in ((1, 1, 1), (2, 3, 4), (5, 1, 7)):
        see_product(t, zeros(m, k), zeros(k, n), zeros(m, n), "m * n results, each a sum of k products")


def product_of_batches(t: Trial) -> None:
    """A batch of products takes the sum of all."""
    see_product(
        t, zeros(3, 2, 4), zeros(3, 4, 5), zeros(3, 2, 5), "every element of the result counts, of any dimension"
    )
    see_product(t, zeros(2, 6), zeros(7, 2, 6, 3), zeros(7, 2, 2, 3), "a matrix that is broadcast works for each batch")
    see_product(t, zeros(0, 4), zeros(4, 5), zeros(0, 5), "nothing to compute")


def see_product(t: Trial, a: Any, b: Any, out: Any, why: str) -> None:
    """Record the FLOPs of a product."""
    text = f"product_flops of {sizes(a, b)} -> {out.shape}"
    t.step(text, why)
    t.see(text, work.product_flops((a, b), out, {}), why)


def convolution_counts_each_filter(t: Trial) -> None:
    """Each element of the result is a sum over one filter."""
    for result, weight in (
        (zeros(1, 1, 1, 1), zeros(1, 1, 3, 3)),
        (zeros(2, 4, 5, 5), zeros(4, 3, 3, 2)),
        (zeros(2, 4, 5, 5), zeros(4, 1, 3, 3)),  # one group for each channel
    ):
        why = "a filter has channels * height * width weights; the first dimension of the weight counts the filters"
        text = f"convolution_flops of a result {result.shape} with a weight {weight.shape}"
        t.step(text, why)
        t.see(text, work.convolution_flops(result, weight), why)


def attention_is_two_products(t: Trial) -> None:
    """One product with the keys, and one with the values."""
    see_attention(t, zeros(1, 1, 1, 2), zeros(1, 1, 1, 2), zeros(1, 1, 1, 2), "4 for the score and 4 for the sum")
    see_attention(t, zeros(2, 4, 8, 16), zeros(2, 4, 8, 16), zeros(2, 4, 8, 16), "a score for each query and key")


def attention_of_other_shapes(t: Trial) -> None:
    """Keys and values may be more than queries, and values of another size."""
    see_attention(t, zeros(2, 4, 1, 16), zeros(2, 4, 32, 16), zeros(2, 4, 32, 16), "one query and 32 keys: a KV cache")
    see_attention(t, zeros(1, 2, 3, 8), zeros(1, 2, 5, 8), zeros(1, 2, 5, 6), "a value has 6 numbers, a key 8")
    see_attention(t, zeros(2, 8, 3, 4), zeros(2, 2, 3, 4), zeros(2, 2, 3, 4), "query heads that share keys compute all")


def see_attention(t: Trial, query: Any, key: Any, value: Any, why: str) -> None:
    """Record the FLOPs of attention."""
    out = zeros(*query.shape[:-1], value.shape[-1])
    text = f"attention_flops of query, key, value {sizes(query, key, value)}"
    t.step(text, why)
    t.see(text, work.attention_flops((query, key, value), out, {}), why)


# --- bytes


def stored_bytes_of_plain_arrays(t: Trial) -> None:
    """An array takes its elements times the bytes of one."""
    see_bytes(t, "zeros (3, 4), float32", zeros(3, 4), "12 elements of 4 bytes")
    see_bytes(t, "zeros (3, 4), int8", np.zeros((3, 4), np.int8), "itemsize is the bytes of one element")
    see_bytes(t, "its transpose", zeros(3, 4).T, "the same elements in another order")


def stored_bytes_of_broadcast_arrays(t: Trial) -> None:
    """A dimension that is broadcast is in memory once."""
    see_bytes(t, "a row of 4 broadcast to (3, 4)", np.broadcast_to(zeros(4), (3, 4)), "its stride is 0 along rows")
    see_bytes(t, "a column broadcast to (3, 4)", np.broadcast_to(zeros(3, 1), (3, 4)), "only 3 elements exist")
    see_bytes(t, "a number broadcast to (3, 4)", np.broadcast_to(np.float64(1), (3, 4)), "one element of 8 bytes")
    see_bytes(t, "every second column of (4, 6)", zeros(4, 6)[:, ::2], "12 elements are read; strides are not 0")


def see_bytes(t: Trial, text: str, array: Any, why: str) -> None:
    """Record the bytes of an array."""
    t.step(f"stored_bytes of {text}", why)
    t.see(f"stored_bytes of {text}", work.stored_bytes(array), why)


# --- the tree


def call(name: str, ns: int = 0, inside: int = 0, *children: Call) -> Call:
    """A node of a tree of calls."""
    made = Call(Key("op", name))
    made.count, made.ns, made.inside = 1, ns, inside
    made.children = {child.key: child for child in children}
    return made


def self_time_leaves_out_what_is_inside(t: Trial) -> None:
    """The time of a call minus that of the calls inside."""
    for ns, inside in ((5, 3), (7, 0), (4, 4)):
        why = "`ns` is the whole time, `inside` that of the calls that it made"
        t.step(f"self_ns of a call of {ns} ns, {inside} of them inside of others", why)
        t.see(f"self_ns of a call of {ns} ns, {inside} of them inside of others", call("f", ns, inside).self_ns, why)


def names(calls: Iterator[tuple[Call, tuple[Key, ...]]]) -> list[Any]:
    """Each call with the names of those around it."""
    return [[each.key.name, [key.name for key in around]] for each, around in calls]


def walk_goes_down_first(t: Trial) -> None:
    """A node comes before its children, and these in their order."""
    why = "a child is followed by its own children before the next one comes"
    t.step("f.walk() where f calls g and h", why)
    t.see("f.walk() where f calls g and h", names(call("f", 9, 5, call("g"), call("h")).walk()), why)
    nested = call("f", 9, 5, call("g", 4, 2, call("k", 2, 0, call("m"))), call("h"))
    t.see("f.walk() where f calls g and h, g calls k, and k calls m", names(nested.walk()), why)


def walk_tells_what_is_around(t: Trial) -> None:
    """Keys of the calls around, outermost first; those that are given come before."""
    why = "a node's own key is around its children, not around itself"
    nested = call("f", 9, 5, call("g", 4, 2, call("k")))
    t.step("f.walk((root,)) where f calls g, and g calls k", why)
    t.see("f.walk((root,)) where f calls g, and g calls k", names(nested.walk((Key("thread", "root"),))), why)


def adding_sums_up_what_was_measured(t: Trial) -> None:
    """Counts and times of two calls are added, and so are those of all calls inside."""
    why = "each number of `other` is added; children that only `other` has come along"
    first, second = call("f", 9, 5, call("g", 5)), call("f", 4, 3, call("g", 1), call("h", 2, 0, call("k", 1)))
    second.flops = 7
    t.step("first.add(second), where first calls g, and second calls g and h", why)
    first.add(second)
    t.see("count, ns, inside, flops of first", [first.count, first.ns, first.inside, first.flops], why)
    inner = [[each.key.name, each.count, each.ns] for each, _ in walked(first)]
    t.see("name, count, ns of each call in it", inner, why)
    other = [[each.key.name, each.count, each.ns] for each, _ in walked(second)]
    first.add(call("f", 1, 1, call("h", 1)))
    t.see(
        "second after first was added to again",
        [[each.key.name, each.count, each.ns] for each, _ in walked(second)],
        "first must not hold the children of second: make calls of its own",
    )
    t.see("second before", other)


def walked(call: Call) -> list[tuple[Call, int]]:
    """Each call of a tree with its depth, without `walk`."""
    found, stack = [], [(call, 0)]
    while stack:
        each, depth = stack.pop()
        found.append((each, depth))
        stack += [(child, depth + 1) for child in reversed(list(each.children.values()))]
    return found


def outermost_counts_recursion_once(t: Trial) -> None:
    """A call inside a call of the same group is not outermost."""
    inner = call("f", 3, 0)
    outer = call("f", 9, 8, call("g", 8, 3, inner), call("h", 1))
    tree_of = [(each, around) for each, around in steps(outer)]
    why = "only where no key around has the same group does the whole time of a call count"
    for text, group in (("name", lambda key: key.name), ("kind", lambda key: key.kind)):
        t.step(f"outermost(..., {text}) where f calls g, g calls f, and f calls h", why)
        found = [[mine, each.ns, first] for mine, each, first in tree.outermost(iter(tree_of), group)]
        t.see(f"outermost(..., {text}) where f calls g, g calls f, and f calls h", found, why)


def steps(call: Call, around: tuple[Key, ...] = ()) -> Iterator[tuple[Call, tuple[Key, ...]]]:
    """What `walk` yields, without it."""
    yield call, around
    for child in call.children.values():
        yield from steps(child, (*around, call.key))


@contextlib.contextmanager
def clock(*times: int) -> Iterator[None]:
    """A clock that shows these nanoseconds, one after the other."""
    file, waiting = vars(tree), list(times)
    real = file["perf_counter_ns"]
    file["perf_counter_ns"] = lambda: waiting.pop(0) if len(waiting) > 1 else waiting[0]
    try:
        yield
    finally:
        file["perf_counter_ns"] = real


def shown(recording: Recording) -> list[Any]:
    """Name, count, time and time inside of each call of this thread."""
    root = recording.here().root
    return [[each.key.name, each.count, each.ns, each.inside] for each, depth in walked(root) if depth]


def leaving_adds_to_both(t: Trial) -> None:
    """The time of a call counts for itself, and as time inside for the call around it."""
    why = "call.ns and around.inside both grow by the time; count by one"
    with clock(0, 0, 10, 30, 60):
        recording = Recording()  # reads the clock twice
        t.step("f enters at 0, g at 10; g leaves at 30, f at 60", why)
        f = recording.enter(Key("op", "f"))
        g = recording.enter(Key("op", "g"))
        t.see("what leave(g) returns", recording.leave(g), "the nanoseconds between entering and leaving")
        t.see("what leave(f) returns", recording.leave(f), why)
    t.see("name, count, ns, inside of each call", shown(recording), why)


def leaving_twice_adds_up(t: Trial) -> None:
    """Calls with one key, made in one place, share a node."""
    why = "a node adds up all its calls"
    with clock(0, 0, 5, 10, 30, 37):
        recording = Recording()
        t.step("f from 0 to 5, then f from 10 to 30", why)
        recording.leave(recording.enter(Key("op", "f")))
        recording.leave(recording.enter(Key("op", "f")))
    t.see("name, count, ns, inside of each call", shown(recording), why)


def leaving_ends_what_was_left_open(t: Trial) -> None:
    """A call ends those inside of it that were not ended, at the same moment, and forgets what is not running."""
    why = "an error may skip the end of inner calls: take from the stack until the frame itself came off"
    with clock(0, 0, 10, 20, 50, 70):
        recording = Recording()
        t.step("f enters at 0, g at 10, h at 20; f leaves at 50", why)
        f = recording.enter(Key("op", "f"))
        g = recording.enter(Key("op", "g"))
        recording.enter(Key("op", "h"))
        t.see("what leave(f) returns", recording.leave(f), why)
        t.see("what leave(g) returns afterwards", recording.leave(g), "g is not on the stack any more: 0")
    t.see("name, count, ns, inside of each call", shown(recording), why)
    t.see("events", [[event.name, event.start, event.end] for event in recording.events], "one event for each call")


# --- verdict


def verdict_names_the_largest_need(t: Trial) -> None:
    """What takes longest at the limits of the machine is the bound."""
    machine = Machine(flops_per_second=50e9, bytes_per_second=10e9, seconds_per_call=2e-6)
    for text, calls, seconds, flops, moved in (
        ("a product", 1, 0.05, 2_000_000_000, 12_000_000),
        ("an addition", 1, 0.01, 1_000_000, 12_000_000),
        ("1000 small calls", 1000, 0.004, 1000, 12_000),
        ("1000 calls that read much", 1000, 0.5, 1_000_000, 1_000_000_000),
    ):
        see_verdict(t, text, roofline.verdict, (calls, seconds, flops, moved, machine))


def verdict_tells_the_share(t: Trial) -> None:
    """The share is the least time over the measured time."""
    machine = Machine(flops_per_second=1e9, bytes_per_second=1e9, seconds_per_call=1e-3)
    see_verdict(t, "an op at its limit", roofline.verdict, (1, 1.0, 1_000_000_000, 1000, machine))
    see_verdict(t, "an op from the cache", roofline.verdict, (1, 0.1, 1000, 1_000_000_000, machine))
    see_verdict(t, "an op without work", roofline.verdict, (3, 0.006, 0, 0, machine))


def see_verdict(t: Trial, text: str, verdict: Any, arguments: tuple[Any, ...]) -> None:
    """Record bound and share of a verdict."""
    calls, seconds, flops, moved, machine = arguments
    why = "compare calls * seconds_per_call, bytes / bandwidth and FLOPs / peak"
    said = f"{text}: {calls} calls, {seconds} s, {flops:,} FLOPs, {moved:,} bytes"
    t.step(said, why)
    found = verdict("op", calls, seconds, flops, moved, machine)
    t.see(f"bound of {said}", found.bound, why)
    t.see(f"share of {said}", found.share, "the time that the limit demands, over the measured time")


EXERCISES = (
    Exercise(
        "Machine.ridge",
        ROOFLINE,
        2,
        (
            "An op of W FLOPs and Q bytes takes W / peak or Q / bandwidth, whichever is longer.",
            "Both are equal where W / Q = peak / bandwidth.",
            "return self.flops_per_second / self.bytes_per_second",
        ),
        (ridge_is_where_the_bounds_meet,),
    ),
    Exercise(
        "product_flops",
        WORK,
        3,
        (
            "How many multiplications make one element of the result?",
            "The length of the inner dimension, and as many additions: 2 k for each element.",
            "2 * size(output) * the last dimension of inputs[0]; as an int.",
        ),
        (product_counts_multiply_and_add, product_of_batches),
    ),
    Exercise(
        "convolution_flops",
        WORK,
        3,
        (
            "Each element of the result is a product with one filter.",
            "A filter has as many weights as all dimensions of `weight` but the first.",
            "2 * size(result) * prod(weight.shape[1:]); as an int.",
        ),
        (convolution_counts_each_filter,),
    ),
    Exercise(
        "attention_flops",
        WORK,
        4,
        (
            "Which two products does attention make?",
            "There is a score for each query (all dimensions of the result but the last) and each key.",
            "scores = prod(output.shape[:-1]) * key.shape[-2]; each costs 2 FLOPs for each number of a query and of a "
            "value.",
        ),
        (attention_is_two_products, attention_of_other_shapes),
    ),
    Exercise(
        "stored_bytes",
        WORK,
        4,
        (
            "`nbytes` multiplies the shape, but a broadcast dimension repeats the same memory.",
            "Such a dimension has the stride 0.",
            "itemsize times the product of those dimensions whose stride is not 0.",
        ),
        (stored_bytes_of_plain_arrays, stored_bytes_of_broadcast_arrays),
    ),
    Exercise(
        "Call.self_ns",
        TREE,
        2,
        (
            "A call knows its whole time, and the time of the calls that it made.",
            "The attributes are `ns` and `inside`.",
            "return self.ns - self.inside",
        ),
        (self_time_leaves_out_what_is_inside,),
    ),
    Exercise(
        "Call.walk",
        TREE,
        4,
        (
            "Yield this node, then walk each child.",
            "Recursion works: the keys around a child are `above` and this node's key.",
            "yield self, above; for each child: yield from child.walk((*above, self.key)). A stack does the same "
            "without a limit of depth.",
        ),
        (walk_goes_down_first, walk_tells_what_is_around),
    ),
    Exercise(
        "Call.add",
        TREE,
        5,
        (
            "All numbers are added; children are added to children with the same key.",
            "`__slots__` lists the names of the numbers, but for `children` and `key`. getattr and setattr take names.",
            "For each (key, child) of other.children: self.children.setdefault(key, Call(key)).add(child).",
        ),
        (adding_sums_up_what_was_measured,),
    ),
    Exercise(
        "outermost",
        TREE,
        4,
        (
            "A function that calls itself would count its time twice.",
            "Compare the group of a call with the groups of all keys around it.",
            "For call, around in calls: yield group(call.key), call, and whether no key around has that group.",
        ),
        (outermost_counts_recursion_once,),
    ),
    Exercise(
        "Recording.leave",
        TREE,
        8,
        (
            "Read the clock once. Which numbers of which two nodes does the time belong to?",
            "The frame on top of the stack ends: its call gets count, ns and inside; the call around it gets the time "
            "as time inside.",
            "If the frame is not on the stack, return 0. Otherwise pop frames until this one came off; for each add 1 "
            "to call.count, the time to call.ns, frame.inside to call.inside, the time to stack[-1].inside, and append "
            "an Event(call.key, start, end, ident, label, node).",
        ),
        (leaving_adds_to_both, leaving_twice_adds_up, leaving_ends_what_was_left_open),
    ),
    Exercise(
        "verdict",
        ROOFLINE,
        5,
        (
            "Work out how long the op would take if each limit were the only one.",
            "calls * seconds_per_call, bytes_moved / bytes_per_second, flops / flops_per_second.",
            "Put them into a dictionary by the names overhead, memory and compute; the largest is the bound, and its "
            "time over `seconds` the share.",
        ),
        (verdict_names_the_largest_need, verdict_tells_the_share),
    ),
)
