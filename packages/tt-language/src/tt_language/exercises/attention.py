"""The exercises of module 12, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tt_core
from tt_core.course.exercises import Exercise, counted, floats, timing
from tt_core.course.trial import Trial
from tt_language.attention import attention as A
from tt_language.attention import heads as H
from tt_language.attention.multi_head import MultiHeadAttention
from tt_language.embeddings import RotaryEmbedding
from tt_learn import Tensor

ATTENTION, HEADS, MULTI_HEAD = (f"tt_language.attention.{name}" for name in ("attention", "heads", "multi_head"))


# --- heads


def features_are_cut(t: Trial) -> None:
    """The features of a token are cut into heads, and each head gets all tokens."""
    t.call(H.split_heads, counted(1, 2, 4), heads=(2,), why="(batch, T, heads * size) to (batch, heads, T, size)")
    t.call(H.split_heads, counted(1, 2, 6), heads=(1, 2), why="first one head, then two: a tuple of both")
    t.call(H.split_heads, t.normal(2, 3, 8), heads=(2, 1, 1), why="the size of a head is 8 / (2 + 1 + 1)")
    x = Tensor(t.normal(2, 3, 8))
    t.show(
        "whether the heads are views",
        lambda: bool(np.shares_memory(H.split_heads(x, heads=(2,)).data, x.data)),
        why="reshape and swap dimensions; reshaping to (batch, heads, T, size) at once mixes tokens",
    )


def heads_are_joined(t: Trial) -> None:
    """Joined heads are the features that were cut."""
    t.call(H.join_heads, counted(1, 2, 2, 2), why="(batch, heads, T, size) to (batch, T, heads * size)")
    t.call(H.join_heads, t.normal(2, 2, 3, 4), t.normal(2, 1, 3, 4), why="all heads of a token side by side")
    x = t.normal(2, 3, 8)
    t.show(
        "join_heads of split_heads(x, heads=(2, 1, 1)) - x",
        lambda: H.join_heads(*H.split_heads(x, heads=(2, 1, 1))).data - x,
    )


# --- weights


def scores_keep_their_size(t: Trial) -> None:
    """1 / sqrt(D), or what is asked for."""
    t.call(A.scale_of, counted(2, 4), None, why="D is the last dimension")
    t.call(A.scale_of, counted(3, 2, 9), None)
    t.call(A.scale_of, counted(2, 4), 2.0)
    t.call(A.scale_of, counted(2, 4), 0.0, why="a scale of 0 is a scale: compare with None")


def weights_add_up_to_1(t: Trial) -> None:
    """The softmax of the products of queries and keys."""
    t.call(A.attention_weights, floats([1, 0]), floats([1, 0], [0, 1]), why="softmax of [1, 0] / sqrt(2)")
    t.call(
        A.attention_weights, floats([2], [0]), floats([1], [2], [3]), why="a row for each query, a column for each key"
    )
    t.call(A.attention_weights, t.normal(2, 3, 4, 5), t.normal(2, 3, 6, 5), why="batch and heads stay")
    t.call(A.attention_weights, floats([1, 0]), floats([1, 0], [0, 1]), scale=3.0)
    t.call(A.attention_weights, floats([100, 0]), floats([100, 0], [0, 1]), why="softmax.formula does not overflow")


def weights_with_masks(t: Trial) -> None:
    """What a query may not see has the weight 0."""
    q, k = floats([1, 0], [0, 1], [1, 1]), floats([1, 2], [0, 1], [2, 0])
    t.call(A.attention_weights, q, k, is_causal=True, why="query i sees keys 0 to i; the scores of others are -inf")
    t.call(
        A.attention_weights, q[:1], k, is_causal=True, causal_offset=2, why="query i sees keys 0 to i + causal_offset"
    )
    t.call(A.attention_weights, q, k[:2], is_causal=True)
    mask = np.array([[True, False, True]])
    t.call(A.attention_weights, q, k, mask, why="a boolean mask: True where a query may look")
    t.call(A.attention_weights, q, k, floats([0, 1, -np.inf]), why="a mask of numbers is added to the scores")
    t.call(A.attention_weights, q, k, mask, is_causal=True, why="both hide")
    blind = np.array([[False] * 3, [True] * 3, [True, False, False]])
    t.call(A.attention_weights, q, k, blind, why="a query that may see nothing has weights of 0, not nan")


def weights_in_groups(t: Trial) -> None:
    """With enable_gqa, several heads of queries share the keys of one."""
    t.call(
        A.attention_weights, t.normal(1, 4, 2, 3), t.normal(1, 2, 2, 3), enable_gqa=True, why="repeat_heads(key, query)"
    )
    t.call(A.attention_weights, t.normal(4, 2, 3), t.normal(1, 5, 3), enable_gqa=True)


def attention_is_a_mean(t: Trial) -> None:
    """A mean of the values, by the weights."""
    t.call(
        A.scaled_dot_product_attention,
        floats([0, 0]),
        floats([1, 0], [0, 1]),
        floats([2], [4]),
        why="equal weights give the plain mean",
    )
    t.call(
        A.scaled_dot_product_attention,
        floats([9, 0]),
        floats([9, 0], [0, 1]),
        floats([2], [4]),
        why="a look-up: the key that fits has all the weight",
    )
    q, k, v = t.normal(2, 3, 4, 5), t.normal(2, 3, 6, 5), t.normal(2, 3, 6, 2)
    t.call(A.scaled_dot_product_attention, q, k, v, why="(..., T, S) @ (..., S, E)")
    t.call(A.scaled_dot_product_attention, q, k, v, is_causal=True, causal_offset=2, why="pass all options on")
    t.call(A.scaled_dot_product_attention, q, k, v, t.normal(4, 6), scale=0.3)
    t.call(A.scaled_dot_product_attention, t.normal(4, 3, 5), t.normal(2, 6, 5), t.normal(2, 6, 5), enable_gqa=True)
    t.call(A.scaled_dot_product_attention, q, k, v, np.zeros((4, 6), bool), why="no key, no value: 0")


def weights_are_dropped(t: Trial) -> None:
    """With dropout, some weights are 0 and the others larger; without it, none."""
    q = np.zeros((1, 200, 4), np.float32)
    identity = np.eye(200, dtype=np.float32)[None]  # as values, they show the weights

    def dropped(p: float) -> Any:
        tt_core.manual_seed(3)
        return A.scaled_dot_product_attention(q, q, identity, dropout_p=p).data

    t.show(
        "share of 40,000 weights that are 0 with dropout_p=0.25", lambda: float((dropped(0.25) == 0).mean()), atol=0.02
    )
    t.show(
        "the largest weight, times 200", lambda: float(dropped(0.25).max()) * 200, why="what stays is divided by 1 - p"
    )
    t.show("the sum of all weights, divided by 200", lambda: float(dropped(0.25).sum()) / 200, atol=0.02)
    t.show("whether the same seed drops the same", lambda: bool((dropped(0.5) == dropped(0.5)).all()))

    def twice() -> bool:
        tt_core.manual_seed(3)
        one, two = (A.scaled_dot_product_attention(q, q, identity, dropout_p=0.5).data for _ in range(2))
        return bool((one == two).all())

    t.show("whether the next call drops the same", twice, why="each call draws a seed from generator()")

    def repeated() -> bool:
        tt_core.manual_seed(3)
        out, seed = A.scaled_dot_product_attention.formula(q, q, identity, dropout_p=0.5)
        return bool(np.allclose(out * 200, A.dropout_scale(np.ones_like(out), 0.5, int(seed)), atol=1e-3))

    t.show("whether the seed that it returns drops the same weights", repeated, why="backward drops them by this seed")


# --- groups


def gradient_of(function: Callable[[Any], Any], x: Any) -> Any:
    """The gradient of the sum of a function's result for its tensor."""
    tensor = Tensor(x).requires_grad_()
    function(tensor).sum().backward()
    return tensor.grad


def heads_are_repeated(t: Trial) -> None:
    """Each head of keys serves a group of query heads that are next to each other."""
    x = counted(2, 1, 2)
    t.call(A.repeat_heads, x, np.zeros((4, 3, 2)), why="heads 0, 0, 1, 1: a group is next to each other")
    t.call(A.repeat_heads, x, np.zeros((2, 3, 2)))
    t.call(A.repeat_heads, t.normal(2, 2, 3, 2), np.zeros((2, 6, 1, 2)), why="dimension -3 has the heads")
    t.call(A.repeat_heads, Tensor(x), np.zeros((4, 3, 2)), why="a tensor has repeat_interleave")
    t.show(
        "the gradient of a tensor (2, 1, 2) whose heads are repeated to 4",
        lambda: gradient_of(lambda tensor: A.repeat_heads(tensor, np.zeros((4, 3, 2))), x),
        why="NumPy's functions make an array of a tensor, and gradients end there; its own methods keep them",
    )


def gradients_of_groups(t: Trial) -> None:
    """The gradient of a shared head is the sum of those of its group."""
    t.call(A.sum_groups, counted(4, 1, 2), 2, why="heads 0 and 1 are a group, then 2 and 3")
    t.call(A.sum_groups, t.normal(2, 6, 3, 2), 3)
    t.call(A.sum_groups, counted(2, 1, 2), 1)
    t.call(A.sum_groups, Tensor(counted(4, 1, 2)), 4)
    t.show(
        "the gradient of a tensor (4, 1, 2) that is summed in groups of 2",
        lambda: gradient_of(lambda tensor: A.sum_groups(tensor, 2), counted(4, 1, 2)),
        why="a tensor has reshape and sum, too",
    )


# --- backward


def backward_by_the_formula(t: Trial) -> None:
    """The gradients of queries, keys and values."""

    def back(text: str, g: Any, q: Any, k: Any, v: Any, mask: Any = None, why: str = "", **how: Any) -> None:
        out, seed = np.zeros(g.shape, np.float32), np.asarray(7) if "dropout_p" in how else None
        wanted = 4 if how.get("mask_gradient") else 3
        t.show(
            f"gradients {text}",
            lambda: list(
                A.scaled_dot_product_attention_backward.formula(g, q, k, v, out, None, None, seed, mask, **how)
            )[:wanted],
            why=why,
            rtol=1e-3,
            atol=1e-5,
        )

    back(
        "one query [0, 0], keys [1, 0], [0, 1], values [2], [4], g = [1]",
        floats([1]),
        floats([0, 0]),
        floats([1, 0], [0, 1]),
        floats([2], [4]),
        why="dv is half of g for each: dv = w^T g",
    )
    back(
        "one query that sees one key",
        floats([1]),
        floats([3]),
        floats([2]),
        floats([5]),
        why="its weight is 1 whatever q and k are, so dq and dk are 0: subtract sum(w a)",
    )
    q, k, v, g = t.normal(2, 4, 3), t.normal(2, 5, 3), t.normal(2, 5, 2), t.normal(2, 4, 2)
    back("random q (2, 4, 3), k (2, 5, 3), v (2, 5, 2)", g, q, k, v, why="dq = scale s k, dk = scale s^T q")
    back("the same with scale=0.7", g, q, k, v, scale=0.7, why="the scale belongs to both")
    back("with is_causal", g, q, k, v, is_causal=True)
    back("with causal_offset=1", g, q, k, v, is_causal=True, causal_offset=1, why="the weights have all options")
    back(
        "with dropout",
        g,
        q,
        k,
        v,
        dropout_p=0.5,
        why="d = dropout_scale(w, dropout_p, int(seed)) multiplies w in dv, and the gradient g v^T of the weights",
    )
    back(
        "with a mask, and its gradient",
        g,
        q,
        k,
        v,
        t.normal(4, 5),
        mask_gradient=True,
        why="the mask was broadcast over the heads, so its gradient is a sum over them: sum_to_shape",
    )
    back(
        "with 2 heads of keys for 6 of queries",
        t.normal(6, 3, 2),
        t.normal(6, 3, 3),
        t.normal(2, 5, 3),
        t.normal(2, 5, 2),
        enable_gqa=True,
        why="repeat_heads before, sum_groups after",
    )


# --- the layer


class Earlier:
    """Keys and values of earlier calls."""

    def __init__(self, k: Any, v: Any) -> None:
        self.k, self.v = Tensor(k), Tensor(v)

    def extend(self, layer: Any, k: Any, v: Any) -> Any:
        """Those of earlier calls, and then these."""
        return tt_core.cat([self.k, k], 2), tt_core.cat([self.v, v], 2)


def layer_attends(t: Trial) -> None:
    """Projections in, attention, and a projection of the joined heads out."""
    tt_core.manual_seed(1)
    layer = MultiHeadAttention(8, 2)
    x = Tensor(t.normal(2, 3, 8))
    t.show(
        "MultiHeadAttention(8, 2)(x), x (2, 3, 8)", lambda: layer(x), why="_projected, _attended, join_heads, out_proj"
    )
    t.show("with need_weights", lambda: layer(x, need_weights=True), why="returns (result, weights)")
    t.show("with memory (2, 5, 8)", lambda: layer(x, Tensor(t.normal(2, 5, 8))))
    t.show("with a mask", lambda: layer(x, attn_mask=Tensor(np.array([True, False, True]))))
    causal = MultiHeadAttention(8, 4, num_kv_heads=2, causal=True)
    t.show("MultiHeadAttention(8, 4, num_kv_heads=2, causal=True)(x)", lambda: causal(x))


def layer_with_positions_and_past(t: Trial) -> None:
    """Rotated queries and keys, and keys and values of earlier calls."""
    tt_core.manual_seed(1)
    layer, turn = MultiHeadAttention(8, 2, causal=True), RotaryEmbedding(4, max_length=16)
    x = Tensor(t.normal(1, 3, 8))
    angles = turn.angles(np.array([4, 5, 6]))
    t.show("with angles", lambda: layer(x, angles=angles), why="rotary turns queries and keys, not values")
    past: Any = Earlier(t.normal(1, 2, 4, 4), t.normal(1, 2, 4, 4))
    t.show("with a past of 4 positions", lambda: layer(x, past=past), why="past.extend gives all keys and values")
    t.show(
        "with angles and a past",
        lambda: layer(x, angles=angles, past=past),
        why="rotate first: keys in the past are rotated already",
    )
    t.show(
        "with memory and a past", lambda: layer(x, x, past=past), why="a memory is read whole; the past is not for it"
    )


EXERCISES = (
    Exercise(
        "scale_of",
        ATTENTION,
        2,
        (
            "A sum of D products grows with sqrt(D); divide by it, so that softmax does not saturate.",
            "D is query.shape[-1]. A scale that is given goes before.",
            "1 / math.sqrt(query.shape[-1]) if scale is None else scale",
        ),
        (scores_keep_their_size,),
    ),
    Exercise(
        "split_heads",
        HEADS,
        4,
        (
            "The features of a token are the heads side by side.",
            "Reshape the last dimension to (all heads, size), then swap tokens and heads.",
            "apart = x.reshape(*x.shape[:-1], sum(heads), size).swapaxes(-2, -3); cut its dimension -3 into parts of "
            "heads[0], heads[1], ...; one part alone is returned as it is.",
        ),
        (features_are_cut,),
    ),
    Exercise(
        "join_heads",
        HEADS,
        3,
        (
            "The steps of split_heads, backwards.",
            "Join the parts along the heads, swap heads and tokens, and make one dimension of heads and size.",
            "np.concatenate([x.swapaxes(-2, -3) for x in parts], -2), then reshape(*shape[:-2], heads * size)",
        ),
        (heads_are_joined,),
    ),
    Exercise(
        "repeat_heads",
        ATTENTION,
        3,
        (
            "There are fewer heads of keys than of queries; each is used by a group.",
            "np.repeat repeats each entry, [0, 0, 1, 1]; np.tile would give [0, 1, 0, 1].",
            "groups = query.shape[-3] // x.shape[-3]; np.repeat(x, groups, -3), or x.repeat_interleave(groups, -3) "
            "of a "
            "tensor.",
        ),
        (heads_are_repeated,),
    ),
    Exercise(
        "attention_weights",
        ATTENTION,
        7,
        (
            "Scores are the products of all queries with all keys, times scale_of; softmax makes weights of them.",
            "To hide a key, make its score -inf: where a boolean mask is False, and where is_causal and j > i + "
            "offset.",
            "np.tri(T, S, causal_offset) is 1 where a query may look. softmax.formula of a row of -inf is nan, so find "
            "these rows first and let np.where put 0 there.",
        ),
        (weights_add_up_to_1, weights_with_masks, weights_in_groups),
    ),
    Exercise(
        "scaled_dot_product_attention",
        ATTENTION,
        5,
        (
            "The weights, times the values.",
            "attention_weights.formula takes the same arguments; values have groups, too. dropout_scale is what the "
            "weights are multiplied by.",
            "seed = int(generator().integers(1 << 62)) if dropout_p else 0; weights * dropout_scale(weights, "
            "dropout_p, "
            "seed) @ value; return the result and np.asarray(seed).",
        ),
        (attention_is_a_mean, weights_are_dropped),
        timed=timing(A.scaled_dot_product_attention, (8, 64, 32), (8, 64, 32), (8, 64, 32)),
    ),
    Exercise(
        "sum_groups",
        ATTENTION,
        3,
        (
            "What was repeated is used several times, and gradients of several uses add up.",
            "Reshape the heads to (shared heads, groups).",
            "x.reshape(*x.shape[:-3], heads // groups, groups, *x.shape[-2:]).sum(-3)",
        ),
        (gradients_of_groups,),
    ),
    Exercise(
        "scaled_dot_product_attention_backward",
        ATTENTION,
        8,
        (
            "The docstring has the formula; compute the weights again from query and key.",
            "a = g v^T is the gradient of the weights; softmax turns it into s = w (a - sum(w a)), by rows.",
            "dq = scale s k, dk = scale s^T q, dv = (w d)^T g; d = dropout_scale(w, dropout_p, int(seed)) or 1. "
            "Keys and values are repeated before and summed after by sum_groups. Return (dq, dk, dv, the gradient of "
            "the mask or an empty array).",
        ),
        (backward_by_the_formula,),
    ),
    Exercise(
        "MultiHeadAttention.forward",
        MULTI_HEAD,
        5,
        (
            "Project, attend, join the heads, and project again.",
            "self._projected gives q, k and v as heads; self._attended gives the result and perhaps the weights.",
            "Rotate q and k by rotary(x, *angles); k, v = past.extend(self, k, v) unless there is a memory; then "
            "self.out_proj(join_heads(out)), with the weights if there are any.",
        ),
        (layer_attends, layer_with_positions_and_past),
    ),
)
