"""The exercises of module 13, transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core
from tt_core import Tensor
from tt_core.course.exercises import Exercise, floats, timing
from tt_core.course.trial import Trial
from tt_core.layers import Dropout, LayerNorm
from tt_language.embeddings.rotary import RotaryEmbedding
from tt_language.transformers import blocks, generation, gpt, sampling
from tt_language.transformers import normalization as N
from tt_language.transformers.config import GPTConfig
from tt_language.transformers.feed_forward import FeedForward, SwiGLU

NORMALIZATION, FEED_FORWARD, BLOCKS, MODEL, SAMPLING, GENERATION = (
    f"tt_language.transformers.{name}"
    for name in ("normalization", "feed_forward", "blocks", "gpt", "sampling", "generation")
)


# --- normalization


def vectors_get_one_length(t: Trial) -> None:
    """Each vector is divided by its root mean square."""
    t.call(N.rms_norm, floats(3, 4), why="the mean of the squares is 12.5")
    t.call(N.rms_norm, floats([3, 4], [30, 40], [-1, 1]), why="each row by its own; the mean is not subtracted")
    t.call(N.rms_norm, t.normal(2, 3, 5), t.normal(5), why="times the weight")
    t.call(N.rms_norm, floats(3, 4), eps=1.0, why="eps is added to the mean of the squares, inside the root")
    t.call(N.rms_norm, floats([0, 0]), why="a vector of zeros is not divided by 0: eps_of(x, eps)")


def gradients_of_rms_norm(t: Trial) -> None:
    """The size of a vector depends on all of its elements, so each gradient reaches all of them."""
    x = floats([3, 4])
    t.call(N.rms_norm_backward, floats([1, 0]), x, why="r (u - n mean(u n)), with r = 1 / rms and n = x r")
    t.call(N.rms_norm_backward, x, x, why="a longer vector gives the same result: the gradient along x is about 0")
    g, x, weight = t.normal(2, 3, 5), t.normal(2, 3, 5), t.normal(5)
    t.call(N.rms_norm_backward, g, x, None, weight, why="u = g weight; the weight's gradient is the sum of g n")
    t.call(N.rms_norm_backward, g, x, None, weight, eps=0.5)


# --- feed-forward


def positions_are_transformed(t: Trial) -> None:
    """Up, the activation, and down."""
    tt_core.manual_seed(2)
    x = Tensor(t.normal(2, 3, 4))

    def layer(kind: str) -> None:
        made = FeedForward(4, 6, kind)
        t.show(f"FeedForward(4, 6, {kind!r})(x)", lambda: made(x), why="ACTIVATIONS[self.activation]")

    for kind in ("gelu", "gelu_tanh", "relu"):
        layer(kind)


def gates_open(t: Trial) -> None:
    """One projection, by silu, decides how much of the other goes through."""
    tt_core.manual_seed(2)
    layer = SwiGLU(4, 6)
    t.show("SwiGLU(4, 6)(x)", lambda: layer(Tensor(t.normal(2, 3, 4))), why="down(silu(gate(x)) * up(x))")


# --- blocks


def square(x: Any) -> Any:
    """A part that is easy to follow."""
    return x * x


def what_is_added(t: Trial) -> None:
    """The input stays, and something is added to it."""
    norm, keep = LayerNorm(3), Dropout(0.0)
    x = Tensor(floats([1, 2, 5]))
    t.show(
        "add_residual([1, 2, 5], square, norm, dropout, norm_first=True)",
        lambda: blocks.add_residual(x, square, norm, keep, True),
        why="x + part(norm(x)): x itself is not normalized",
    )
    t.show("norm_first=False", lambda: blocks.add_residual(x, square, norm, keep, False), why="norm(x + part(x))")
    all_gone = Dropout(1.0)
    t.show(
        "with a dropout of 1, norm_first=True",
        lambda: blocks.add_residual(x, square, norm, all_gone, True),
        why="dropout is on what is added, not on the sum",
    )
    t.show("norm_first=False", lambda: blocks.add_residual(x, square, norm, all_gone, False))


def blocks_in_their_forms(t: Trial) -> None:
    """Attention, then the feed-forward layer, each added to its input."""
    tt_core.manual_seed(4)
    x = Tensor(t.normal(2, 3, 8))

    def block(why: str = "", **options: Any) -> None:
        made = blocks.TransformerBlock(8, 2, **options)
        told = ", ".join(f"{name}={value!r}" for name, value in options.items())
        t.show(f"TransformerBlock({', '.join(['8, 2', *([told] if told else [])])})(x)", lambda: made(x), why=why)

    block("self._add(x, attention, norm1), then self._add(x, mlp, norm2)")
    block("the second part reads the sum, not x", causal=True)
    block(norm="rms", mlp="swiglu")
    block("norm_first is in add_residual", norm_first=False)
    block("with parallel, both parts read norm1(x)", parallel=True)
    block("self.dropout is on what is added", dropout=1.0, parallel=True)


def blocks_with_more(t: Trial) -> None:
    """A mask, and the output of an encoder."""
    tt_core.manual_seed(4)
    x, memory = Tensor(t.normal(2, 3, 8)), Tensor(t.normal(2, 4, 8))
    block, cross = blocks.TransformerBlock(8, 2), blocks.TransformerBlock(8, 2, cross=True)
    t.show("with a mask", lambda: block(x, Tensor(np.array([True, False, True]))))
    t.show("with a past", lambda: block(x, past=Earlier()), why="attention gets angles and past, too")
    angles = RotaryEmbedding(4).angles(np.arange(3))
    t.show("with the angles of rotary positions", lambda: block(x, angles=angles), why="attention(..., angles=angles)")
    t.show(
        "with memory", lambda: cross(x, memory=memory), why="between the two: cross_attention(h, memory, memory_mask)"
    )
    t.show(
        "with memory and its mask",
        lambda: cross(x, memory=memory, memory_mask=Tensor(np.array([True, True, False, True]))),
    )


# --- the model


def small(**options: Any) -> Any:
    """A model of two blocks, the same each time."""
    tt_core.manual_seed(6)
    return gpt.GPT(GPTConfig(vocab_size=7, block_size=8, n_layer=2, n_head=2, n_embd=8, **options)).eval()


def logits_of_ids(t: Trial) -> None:
    """Embeddings, blocks, a last normalization, and a logit for each token."""
    ids = Tensor(np.array([[1, 2, 3], [4, 5, 6]]))
    model = small()
    t.show("GPT(learned positions)(ids), ids (2, 3)", lambda: model(ids),
           why="wte(ids) + wpe(positions), the blocks, norm, lm_head")  # fmt: skip
    t.show(
        "with logits_to_keep=1", lambda: model(ids, logits_to_keep=1), why="keep the last before lm_head: it is large"
    )
    t.show("with logits_to_keep=2", lambda: model(ids, logits_to_keep=2))
    t.show("with positions [3, 4, 5]", lambda: model(ids, positions=Tensor(np.array([3, 4, 5]))))
    turning = small(position="rotary", norm="rms", mlp="swiglu", bias=False)
    t.show("GPT(rotary positions)(ids)", lambda: turning(ids), why="angles = self.rotary.angles(positions, endless)")
    hidden = Tensor(np.array([[True, False, True], [True, True, True]])[:, None, None])
    t.show("with a mask", lambda: model(ids, attn_mask=hidden), why="each block gets attn_mask, angles and past")
    full = Tensor(np.array([[0, 1, 2, 3, 4, 5, 6, 0]]))
    t.show("with as many ids as block_size", lambda: model(full, logits_to_keep=1))
    model.dropout.train().p = 1.0
    t.show("with a dropout of 1", lambda: model(ids), why="self.dropout is on the sum of the embeddings")


class Earlier:
    """A cache that knows how long the text is, and gives other keys and values."""

    length = 4

    def extend(self, layer: Any, k: Any, v: Any) -> Any:
        """Twice the keys, and half the values."""
        return k * 2, v / 2


class Choosy(Earlier):
    """A cache that is told what is read before, and hides the second token."""

    def begin(self, ids: Any, positions: Any, attn_mask: Any) -> Any:
        """A mask in place of the given one."""
        return Tensor(np.array([True, False, True]))


def positions_go_on(t: Trial) -> None:
    """Positions continue those of the past."""
    ids, past = Tensor(np.array([[1, 2, 3]])), Earlier()
    model = small()
    t.show(
        "GPT(ids, past=a past of 4 tokens)", lambda: model(ids, past=past), why="positions 4, 5, 6: past.length tells"
    )
    t.show(
        "with a past that has begin()",
        lambda: model(ids, past=Choosy()),
        why="before the blocks, attn_mask = past.begin(ids, positions, attn_mask) where the past has it",
    )


def loss_of_the_next_token(t: Trial) -> None:
    """The mean cross entropy over all positions."""
    t.call(
        gpt.next_token_loss, np.zeros((1, 3, 10), np.float32), np.array([[1, 2, 3]]), why="log(10): 10 equal choices"
    )
    t.call(gpt.next_token_loss, floats([[0, 9], [9, 0]]), np.array([[1, 0]]))
    logits, targets = t.normal(2, 3, 5), t.rng.integers(0, 5, (2, 3))
    t.call(gpt.next_token_loss, logits, targets, why="join batch and length: cross_entropy takes (N, classes)")
    targets[0, :2] = -100
    t.call(gpt.next_token_loss, logits, targets, why="ignore_index")
    x = tt_core.tensor(logits, requires_grad=True)
    t.step("backward() of next_token_loss")
    gpt.next_token_loss(x, Tensor(np.where(targets < 0, 1, targets)), ignore_index=1).backward()
    t.see("gradient of the logits, with ignore_index=1", x.grad, why="positions that are left out have the gradient 0")


# --- sampling


def repetition_is_punished(t: Trial) -> None:
    """Logits of tokens that the text has become smaller."""
    twice = sampling.Sampling(repetition_penalty=2.0)
    logits = floats(2, -2, 4, 0)
    t.call(twice.penalized, logits, [0, 1], why="a positive logit is divided, a negative one multiplied: both fall")
    t.see("the logits afterwards", logits, why="change a copy")
    t.call(twice.penalized, logits, [2, 2, 2], why="a token that comes three times is punished once")
    t.call(twice.penalized, logits, [])
    t.call(sampling.Sampling().penalized, logits, [0, 1])


def likely_tokens_are_kept(t: Trial) -> None:
    """The most likely tokens that together reach top_p."""
    p = np.array([0.1, 0.5, 0.3, 0.1])
    t.call(sampling._nucleus, p, 0.5, why="the first alone has 0.5")
    t.call(sampling._nucleus, p, 0.6, why="the token with which they reach 0.6 is kept, too")
    t.call(sampling._nucleus, p, 0.01, why="at least one is kept")
    t.call(sampling._nucleus, p * 8, 0.6, why="p need not add up to 1: compare with top_p of its sum")
    t.call(sampling._nucleus, p, 0.85, why="of equal ones, the first")


def normalized(logits: Any, **options: Any) -> Any:
    """Probabilities that add up to 1."""
    p = np.asarray(sampling.Sampling(**options).probabilities(logits), np.float64)
    return p / p.sum()


def filters_in_order(t: Trial) -> None:
    """Temperature, then top_k, top_p and min_p."""
    logits = floats(1, 3, 0, 2)
    t.show("probabilities([1, 3, 0, 2]), divided by their sum", lambda: normalized(logits), why="exp(logits)")
    t.show("whether one of them is negative", lambda: bool((sampling.Sampling().probabilities(logits) < 0).any()))
    t.show("temperature=0.5", lambda: normalized(logits, temperature=0.5), why="logits / temperature, before exp")
    t.show("top_k=2", lambda: normalized(logits, top_k=2), why="below the second largest, the logit becomes -inf")
    t.show("top_k=3", lambda: normalized(logits, top_k=3))
    t.show("top_k=9", lambda: normalized(logits, top_k=9), why="there are only four")
    t.show("top_p=0.7", lambda: normalized(logits, top_p=0.7), why="_nucleus")
    t.show(
        "temperature=4, top_p=0.5",
        lambda: normalized(logits, temperature=4.0, top_p=0.5),
        why="the probabilities at this temperature decide",
    )
    t.show("top_k=2, top_p=0.7", lambda: normalized(logits, top_k=2, top_p=0.7), why="top_k before top_p")
    t.show("min_p=0.1", lambda: normalized(logits, min_p=0.1), why="at least this share of the largest, not of the sum")
    t.show("logits of 1000", lambda: normalized(floats(1000, 999)), why="subtract the largest before exp")
    t.show("logits of which one is -inf", lambda: normalized(floats(1, -np.inf, 0)))
    t.show("temperature=0.001", lambda: normalized(logits, temperature=0.001))


def tokens_are_drawn(t: Trial) -> None:
    """The most likely token at temperature 0; otherwise each by its probability."""
    logits = floats(0, 2, 1, -np.inf)
    greedy = sampling.Sampling(temperature=0)
    rng = np.random.default_rng
    t.show("the token at temperature 0", lambda: int(greedy.choose(logits, [], rng(0))))
    punished = sampling.Sampling(temperature=0, repetition_penalty=3.0)
    t.show(
        "at temperature 0, with a penalty of 3 and 1 in the text",
        lambda: int(punished.choose(logits, [1], rng(0))),
        why="self.penalized first",
    )

    apart = sampling.Sampling(temperature=0, no_repeat_ngram_size=2)
    t.show(
        "after [1, 3, 1], where no pair may come twice",
        lambda: int(apart.choose(floats(0, 1, 2, 3), [1, 3, 1], rng(0))),
        why="then self.without_repeats; it gives -inf to tokens that would repeat",
    )

    def shares(**options: Any) -> Any:
        made, random = sampling.Sampling(**options), rng(5)
        return lambda: np.bincount([made.choose(logits, [], random) for _ in range(3000)], minlength=4) / 3000

    t.show("share of each token in 3000 draws", shares(), why="self.probabilities; their sum is not 1", atol=0.06)
    t.show("with top_k=2", shares(top_k=2), atol=0.06)
    t.show("with temperature=0.5", shares(temperature=0.5), atol=0.06)
    t.show(
        "whether the same generator draws the same",
        lambda: (
            [sampling.Sampling().choose(logits, [], rng(seed)) for seed in range(9)]
            == [sampling.Sampling().choose(logits, [], rng(seed)) for seed in range(9)]
        ),
        why="draw from `random`",
    )


# --- generation


class Counter:
    """A reader of a model that knows how to count up to 5, and notes what it reads."""

    def __init__(self, prompts: list[list[int]], end: int | None = None) -> None:
        self.prompts, self.model, self.rows = prompts, small(eos_token_id=end), len(prompts)
        self.log: list[Any] = []

    def logits(self, texts: Any) -> Any:
        """A large logit for the number after the last, and a smaller one for 0."""
        self.log.append([list(text) for text in texts])
        self.log.append(f"training={self.model.training}")
        found = np.eye(6, dtype=np.float32)[[(text[-1] + 1) % 6 for text in texts]] * 50
        found[:, 0] += 10
        return found

    def select(self, rows: Any) -> None:
        """Note the rows that go on, where some do and some do not."""
        if 0 < len(rows) < self.rows:  # nothing is read after the last row has ended
            self.log.append(f"select {[int(row) for row in rows]}")
        self.rows = len(rows)


def greedy(*prompts: list[int], most: int, end: int = -1, least: int = 0) -> tuple[Any, Any]:
    """The steps of a greedy generation, and what was read."""
    reader: Any = Counter([list(prompt) for prompt in prompts], end if least else None)
    greedily = sampling.Sampling(temperature=0)
    steps = generation._steps(reader, most, greedily, lambda new: new[-1] == end, 0, min_new_tokens=least)
    return [list(step) for step in steps], reader.log


def one_token_after_another(t: Trial) -> None:
    """The model reads the text so far, and a token is chosen for each row."""
    t.show("rows and tokens after [1], 3 steps", lambda: greedy([1], most=3)[0], why="the model counts: 2, 3, 4")
    t.show("what the model read", lambda: greedy([1], most=3)[1], why="the prompt and the new tokens; model.eval()")
    t.show("after [1, 2] and [4], 2 steps", lambda: greedy([1, 2], [4], most=2)[0], why="first all rows of a step")
    t.show("no steps", lambda: greedy([1], most=0)[0])


def rows_end(t: Trial) -> None:
    """A row that has ended leaves the batch; the others go on."""
    t.show(
        "after [1] and [3] until 4, at most 9 steps",
        lambda: greedy([1], [3], most=9, end=4)[0],
        why="ended(new[row]) after each step; the numbers of the rows stay",
    )
    t.show(
        "what was read and selected",
        lambda: greedy([1], [3], most=9, end=4)[1],
        why="reader.select(positions of those that go on), when there are fewer",
    )


def whole_text_counts(t: Trial) -> None:
    """A token is chosen by the prompt and all new tokens."""
    reader: Any = Counter([[4]])
    once = sampling.Sampling(temperature=0, repetition_penalty=1000.0)
    steps = generation._steps(reader, 6, once, lambda new: False, 0)
    t.show(
        "after [4], 6 steps, with a penalty of 1000",
        lambda: [list(step) for step in steps],
        why="sampling.choose is given the prompt and the new tokens",
    )
    reader = Counter([[2, 1]])
    once = sampling.Sampling(temperature=0, repetition_penalty=1000.0)
    t.show(
        "after [2, 1], a step with a penalty of 1000",
        lambda: [list(step) for step in generation._steps(reader, 1, once, lambda new: False, 0)],
        why="2 is in the prompt",
    )


def ends_must_wait(t: Trial) -> None:
    """The ids that end a text are not chosen in the first `min_new_tokens` steps."""
    t.show(
        "after [1], where 2 ends a text, with min_new_tokens=2",
        lambda: greedy([1], most=9, end=2, least=2)[0],
        why="in these steps, -inf for the logits of the ids reader.model.config.end_ids, in a copy",
    )


def rows_draw_apart(t: Trial) -> None:
    """Each row has random numbers of its own, which the seed decides."""
    model = small()

    def texts(prompts: Any, seed: Any) -> Any:
        return generation.generate(model, prompts, 12, temperature=3.0, seed=seed)

    t.show("whether the same seed gives the same text", lambda: texts([[1]], 1) == texts([[1]], 1))
    t.show("whether another seed gives another text", lambda: texts([[1]], 1) != texts([[1]], 2))
    t.show(
        "whether the first of two rows is as if alone",
        lambda: texts([[1], [2]], 1)[0] == texts([[1]], 1)[0],
        why="a generator for each row: np.random.default_rng([base, row])",
    )
    t.show(
        "whether two rows of the same prompt differ",
        lambda: len({tuple(x) for x in texts([[1], [1]], 1)}) == 2,
        why="the number of the row decides, too",
    )
    t.show("whether two calls without a seed differ", lambda: texts([[1]], None) != texts([[1]], None))


EXERCISES = (
    Exercise(
        "rms_norm",
        NORMALIZATION,
        3,
        (
            "The root mean square is the root of the mean of the squares.",
            "np.mean(x * x, -1, keepdims=True) + eps_of(x, eps) is what the root is taken of.",
            "y = x / np.sqrt(...); then y * weight, if there is one.",
        ),
        (vectors_get_one_length,),
        timed=timing(N.rms_norm, (512, 512)),
    ),
    Exercise(
        "rms_norm_backward",
        NORMALIZATION,
        6,
        (
            "The docstring has the formula. In y = x r, both x and r depend on x.",
            "r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps)); n = x * r; u = g * weight.",
            "dx = r * (u - n * mean of u * n over the last dimension, keepdims=True); the weight's gradient is g * n, "
            "summed over all dimensions but the last.",
        ),
        (gradients_of_rms_norm,),
    ),
    Exercise(
        "FeedForward.forward",
        FEED_FORWARD,
        2,
        (
            "The class's docstring has the formula.",
            "ACTIVATIONS[self.activation] is the function between self.up and self.down.",
            "return self.down(ACTIVATIONS[self.activation](self.up(x)))",
        ),
        (positions_are_transformed,),
    ),
    Exercise(
        "SwiGLU.forward",
        FEED_FORWARD,
        2,
        (
            "The class's docstring has the formula.",
            "The gate goes through silu; what it is multiplied by does not.",
            "return self.down(silu(self.gate(x)) * self.up(x))",
        ),
        (gates_open,),
    ),
    Exercise(
        "add_residual",
        BLOCKS,
        3,
        (
            "A block changes its input only by adding to it, so gradients reach the first block.",
            "GPT-2 normalizes what the part reads; in 2017, the sum was normalized.",
            "x + dropout(part(norm(x))) with norm_first, else norm(x + dropout(part(x)))",
        ),
        (what_is_added,),
    ),
    Exercise(
        "TransformerBlock.forward",
        BLOCKS,
        6,
        (
            "x becomes x + attention, and that becomes itself + the feed-forward layer.",
            "self._add(x, part, norm) adds a part. The part of attention needs the mask, angles and past, so write a "
            "function of h for it.",
            "attend = lambda h: self.attention(h, None, attn_mask, angles=angles, past=past). If self.parallel: h = "
            "self.norm1(x); x + self.dropout(attend(h) + self.mlp(h)). A cross_attention comes between the two parts.",
        ),
        (blocks_in_their_forms, blocks_with_more),
    ),
    Exercise(
        "GPT.forward",
        MODEL,
        6,
        (
            "Ids become vectors, blocks change the vectors, and a linear layer makes logits of them.",
            "Positions are np.arange(before, before + T), with before = past.length. Learned ones are vectors to add, "
            "rotary ones angles for each block. What a past may have is in hookspecs.Past: before the blocks, its "
            "begin(ids, positions, attn_mask) gives their mask.",
            "x = self.wte(ids), + self.wpe(positions) if there is one; self.dropout; each block(x, attn_mask, "
            "angles=angles, past=past); the last logits_to_keep, if not 0; self.lm_head(self.norm(x)).",
        ),
        (logits_of_ids, positions_go_on),
    ),
    Exercise(
        "next_token_loss",
        MODEL,
        3,
        (
            "Each position is a classification: which of the tokens comes next?",
            "cross_entropy takes logits (N, classes) and targets (N,).",
            "cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=ignore_index)",
        ),
        (loss_of_the_next_token,),
    ),
    Exercise(
        "Sampling.penalized",
        SAMPLING,
        3,
        (
            "Make the tokens of the text less likely, whatever the sign of their logits.",
            "Take the logits of np.unique(text): divide the positive ones, multiply the others.",
            "seen = np.unique(text); logits = logits.copy(); old = logits[seen]; logits[seen] = np.where(old > 0, "
            "old / penalty, old * penalty). An empty text changes nothing.",
        ),
        (repetition_is_punished,),
    ),
    Exercise(
        "_nucleus",
        SAMPLING,
        5,
        (
            "Sort the tokens by probability, and add up from the largest.",
            "A token is kept if those before it have less than top_p of the sum.",
            'order = np.argsort(-p, kind="stable"); before = np.cumsum(p[order]) - p[order]; keep order[before < '
            "top_p * "
            "p.sum()], and 0 for all others.",
        ),
        (likely_tokens_are_kept,),
    ),
    Exercise(
        "Sampling.probabilities",
        SAMPLING,
        5,
        (
            "Divide the logits by the temperature, take exp, and put 0 where a filter removes a token.",
            "Subtract the largest logit first. The k-th largest is np.partition(scaled, -k)[-k].",
            "scaled = (logits - max) / temperature; -inf where it is below the k-th largest; p = exp(scaled); "
            "_nucleus(p, "
            "top_p); 0 where p is below min_p * p.max().",
        ),
        (filters_in_order,),
    ),
    Exercise(
        "Sampling.choose",
        SAMPLING,
        5,
        (
            "At temperature 0 take the largest logit; otherwise a random number decides.",
            "Add the probabilities up; a random point below the sum falls into the interval of a token.",
            "below = self.probabilities(logits).cumsum(); np.searchsorted(below, random.random() * below[-1], "
            'side="right"). '
            "First of all, logits = self.without_repeats(self.penalized(logits, text), text).",
        ),
        (tokens_are_drawn,),
    ),
    Exercise(
        "_steps",
        GENERATION,
        8,
        (
            "Read, choose, append, and again: each token depends on all before it.",
            "Keep the numbers of the rows that are alive. reader.logits takes the prompt and new tokens of each; "
            "sampling.choose(logits, text, random) gives a token.",
            "In each step: with evaluating(reader.model): logits = reader.logits([...]); before step min_new_tokens, "
            "logits of reader.model.config.end_ids become -inf in a copy; choose, append and yield (row, token) for "
            "each; then drop the rows that have ended, by reader.select(their places among the alive).",
        ),
        (one_token_after_another, rows_end, rows_draw_apart, whole_text_counts, ends_must_wait),
    ),
)
