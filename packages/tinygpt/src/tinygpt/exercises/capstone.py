"""The exercises of module 20, capstone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import tt_core
from tinygpt import needs as memory
from tinygpt.capstone import corpus, train
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import Tokens
from tinygpt.capstone.presets import TrainConfig
from tinygpt.capstone.reading import Corpus
from tt_core.course.exercises import Exercise
from tt_core.course.trial import Trial
from tt_language import GPT, BPETokenizer, ByteTokenizer, CharTokenizer, GPTConfig
from tt_language.errors import TokenizerError

CORPUS, TRAIN, CAPSTONE = (f"tinygpt.capstone.{name}" for name in ("corpus", "train", "capstone"))
NEEDS = "tinygpt.needs"


def small(vocab_size: int = 256, **options: Any) -> Any:
    """A model of one block, the same each time."""
    tt_core.manual_seed(20)
    config = GPTConfig(vocab_size=vocab_size, block_size=8, n_layer=1, n_head=2, n_embd=8, **options)
    return GPT(config)


def ids(t: Trial, count: int, vocab_size: int) -> Any:
    """Random tokens."""
    return t.rng.integers(0, vocab_size, count)


# --- windows


def windows_and_their_next(t: Trial) -> None:
    """Rows of consecutive tokens, and the same rows one token further."""
    text = np.array([10, 20, 30, 40, 50, 60])
    t.call(corpus._windows, text, np.array([0, 2]), 3, why="inputs begin at each start; targets one token later")
    t.call(corpus._windows, text, np.array([3]), 2, why="the target of the last input is the token after the window")
    t.call(corpus._windows, ids(t, 40, 99), np.array([5, 0, 31]), 8)
    t.call(corpus._windows, text, np.zeros(0, int), 3, why="no starts give arrays of shape (0, 3)")


def starts_of(t: Trial, tokens: Any, step: int, batch: int, block: int, first: float, why: str = "") -> None:
    """Record one batch."""
    text = f"Tokens({len(tokens.train)} tokens to train on).batch({step}, {batch}, {block}, first={first:.4g})"
    t.show(text, lambda: tokens.batch(step, batch, block, first), why)


def batches_are_spread(t: Trial) -> None:
    """Each window starts a golden section further through the text than the one before."""
    tokens = Tokens(np.arange(101), np.arange(10), 0)
    starts_of(t, tokens, 0, 1, 1, 0.0, "the first window starts `first` of the way through the text")
    starts_of(t, tokens, 0, 4, 1, 0.0, "GOLDEN_SECTION further each time, % 1, times the number of possible starts")
    starts_of(t, tokens, 0, 3, 21, 0.25, "a window must fit: the last possible start is len(train) - block_size - 1")


def batches_go_on(t: Trial) -> None:
    """A step begins where the one before ended."""
    tokens = Tokens(ids(t, 500, 99), np.arange(10), 0)
    first = float(t.rng.random())
    starts_of(t, tokens, 1, 4, 8, first, "windows are counted through all steps: step * batch_size + 0, 1, 2, ...")
    starts_of(t, tokens, 1000, 3, 16, first)
    starts_of(t, tokens, 7, 5, 499, first, "one window alone fits")


def validation_side_by_side(t: Trial) -> None:
    """Windows that do not overlap, in batches."""
    tokens = Tokens(np.arange(9), np.arange(100, 114), 0)

    def show(batch: int, block: int, most: int | None, why: str) -> None:
        text = f"Tokens(14 tokens to validate on).validation({batch}, {block}{f', {most}' if most else ''})"
        t.show(text, lambda: tokens.validation(batch, block, most), why)

    show(10, 4, None, "starts 0, 4, 8: each window needs a token after it")
    show(2, 4, None, "the last batch holds what is left")
    show(2, 13, None, "one window")
    show(4, 2, 3, "three of six, evenly spread, the first and the last among them")
    show(4, 4, 7, "there are only three")


def the_end_is_held_out(t: Trial) -> None:
    """The last part of the text is for validation, the first for training."""
    text = Corpus("".join(chr(97 + int(i)) for i in t.rng.integers(0, 26, 200)), "a text")

    def parts(block: int, *fraction: float) -> Any:
        tokens = corpus.split_tokens(text, ByteTokenizer(), block, *fraction)
        return [tokens.train, tokens.val, tokens.val_bytes]

    t.show("split_tokens(200 letters, ByteTokenizer(), 8)", lambda: parts(8),
           why="a tenth: a random tenth would have been seen, since it overlaps what is trained on")  # fmt: skip
    t.show("split_tokens(200 letters, ByteTokenizer(), 8, 0.25)", lambda: parts(8, 0.25))
    accents = Corpus("ab\u00e9\u20ac" * 40, "a text")
    t.show("bytes of the last 16 of 160 characters, of which a quarter has 2 bytes and a quarter 3",
           lambda: corpus.split_tokens(accents, CharTokenizer(accents.text), 8).val_bytes,
           why="len(tokenizer.decode(ids).encode()) of the ids to validate on")  # fmt: skip
    letters = CharTokenizer(text.text)
    t.show("the dtype of ids", lambda: corpus.split_tokens(text, letters, 8).train[:9], why="int64, for the embedding")


def losses_of_tokenizers(t: Trial) -> None:
    """A loss by token becomes one by byte, in bits, which does not depend on the tokenizer."""

    def bits(count: int, size: int, loss: float, why: str) -> None:
        tokens = Tokens(np.arange(9), np.arange(count), size)
        t.show(f"bits_per_byte({loss:.4g}) of {count} tokens and {size} bytes", lambda: tokens.bits_per_byte(loss), why)

    bits(10, 10, 5.545177, "the logarithm to base 2 of 256 is 8; the loss is one to base e")
    bits(10, 40, 5.545177, "a token of 4 bytes spreads its bits over them")
    bits(30, 10, float(t.rng.random()), "loss / log(2) * tokens / bytes")
    bits(0, 0, 1.0, "no text has no bits, and must not divide by 0")


# --- training


def matrices_decay(t: Trial) -> None:
    """Matrices decay; biases and the scales of norms do not."""
    model = small(bias=True)
    config = TrainConfig(weight_decay=0.3, learning_rate=0.02, beta1=0.8, beta2=0.95)
    t.step("optimizer_for(model, config)")
    optimizer = train.optimizer_for(model, config)
    groups = {str(group["weight_decay"]): group for group in optimizer.param_groups}
    t.see("weight_decay of the groups", sorted(groups), why="one group decays, the other has a decay of 0")
    for decay in sorted(groups):
        shapes = sorted(str(p.shape) for p in groups[decay]["params"])
        t.see(f"shapes of the parameters with weight_decay={decay}", shapes, why="a matrix has p.ndim >= 2")
    group = optimizer.param_groups[0]
    t.see("lr and betas", [group["lr"], *group["betas"]], why="learning_rate, beta1 and beta2 of the config")
    t.see("the class of the optimizer", type(optimizer).__name__)


def validation_is_a_mean(t: Trial) -> None:
    """The mean loss over all tokens, also where the last batch is smaller."""
    config = TrainConfig(batch_size=1, block_size=8)
    model = small(16)
    tokens = Tokens(ids(t, 20, 16), ids(t, 30, 16), 0)

    def loss(windows: int | None) -> float:
        return train.validate(model, tokens, config, windows)

    t.show("validate(model, 1 window)", lambda: loss(1), why="next_token_loss(model(x), y).item()")
    t.show("validate(model, 2 and 1 windows)", lambda: loss(None),
           why="weigh each batch by its tokens: the mean of two means counts the last window twice")  # fmt: skip
    t.show("it is a Python number", lambda: type(loss(2)).__name__)


def validation_does_not_train(t: Trial) -> None:
    """The model is in evaluation meanwhile, and in training again afterwards."""
    config = TrainConfig(batch_size=1, block_size=8)
    model = small(16, dropout=0.5)
    model.train()
    tokens = Tokens(ids(t, 20, 16), ids(t, 30, 16), 0)
    why = "with evaluating(model): ..."
    t.show("validate(a model with dropout)", lambda: train.validate(model, tokens, config, None), why)
    t.see("the model is in training afterwards", model.training, why)


def memory_of_weights(t: Trial) -> None:
    """16 bytes for each weight: itself, its gradient, and two moments of Adam."""
    config = TrainConfig(n_layer=1, n_head=1, n_embd=10, block_size=100, batch_size=1)
    needed(t, "weights", config, 50, "12 n_layer n_embd^2 in the blocks, (vocab_size + block_size) n_embd around them")
    needed(t, "saving", config, 50, "_SAVED bytes a weight")
    needed(t, "weights", TrainConfig(), 1024, "times _TRAINED")


def memory_of_activations(t: Trial) -> None:
    """What backward keeps of each token, in each block, times the tokens of a batch."""
    base = {"n_layer": 2, "n_head": 2, "n_embd": 16, "batch_size": 4}
    long = TrainConfig(**base, block_size=512)  # type: ignore[arg-type]
    needed(t, "activations", long, 64, "16 floats a feature and block, and 3 for each entry of the vocabulary")
    short = TrainConfig(**base, block_size=32)  # type: ignore[arg-type]
    needed(t, "activations", short, 64, "up to a context of _KEPT_SCORES, n_head block_size scores in each block too")
    gated = TrainConfig(**base, block_size=32, mlp="swiglu", dropout=0.1)  # type: ignore[arg-type]
    needed(t, "activations", gated, 64, "2 floats more for swiglu, and 2 more for dropout")
    turned = TrainConfig(**base, block_size=32, position="rotary")  # type: ignore[arg-type]
    needed(t, "weights", turned, 64, "only learned positions are weights")
    needed(t, "activations", turned, 64, "2 floats more for rotary positions")
    needed(t, "total", gated, 64, "activations and the copy for saving are not there at the same time")


def needed(t: Trial, what: str, config: TrainConfig, vocab_size: int, why: str) -> None:
    """Record one number of `needs`."""
    options = f"n_layer={config.n_layer}, n_embd={config.n_embd}, block_size={config.block_size}, mlp={config.mlp!r}"
    options += f", position={config.position!r}"
    text = f"needs(TrainConfig({options}, ...), {vocab_size}).{what}"
    t.show(text, lambda: int(getattr(memory.needs(config, vocab_size), what)), why)


# --- generating


def a_text_begins(t: Trial) -> None:
    """A line break, or the first entry where the tokenizer never saw one."""
    with_break, without = CharTokenizer("b\n\ta"), CharTokenizer("ba")
    t.show("the opening with a vocabulary of \\t, \\n, a, b", lambda: TinyGPT(small(4), with_break).opening(),
           why='self.tokenizer.encode("\\n")')  # fmt: skip
    t.show("the opening with a vocabulary of a, b", lambda: TinyGPT(small(2), without).opening(),
           why="encode raises TokenizerError for a character that is not in the vocabulary")  # fmt: skip
    t.show("the opening with bytes", lambda: TinyGPT(small(), ByteTokenizer()).opening())


def pieces(gpt: TinyGPT, tokens: Iterable[int]) -> list[str]:
    """What _texts yields, without empty pieces."""
    return [piece for piece in gpt._texts(iter(tokens)) if piece]


def texts_of_whole_characters(t: Trial) -> None:
    """A piece of text for each token, and never half a character."""
    gpt = TinyGPT(small(), ByteTokenizer())
    t.show("the pieces of the bytes of 'hi'", lambda: pieces(gpt, [104, 105]),
           why="a piece for each token, and decoder.finish() at the end")  # fmt: skip
    t.show("the pieces of the bytes of 'a\u00e9'", lambda: pieces(gpt, "a\u00e9".encode()),
           why="\u00e9 has two bytes: decoder.feed keeps the first back until the second comes")  # fmt: skip
    t.show("the pieces of half a character", lambda: pieces(gpt, "\u20ac".encode()[:2]),
           why="decoder.finish() gives what is left")  # fmt: skip
    special = BPETokenizer.train("abab", 258, special_tokens=["<end>"])
    end = special.special_tokens["<end>"]
    t.show("the pieces of 'ab' and the token <end>",
           lambda: pieces(TinyGPT(small(special.vocab_size), special), [*special.encode("ab"), end]),
           why="skip_special_tokens=True")  # fmt: skip


def texts_come_at_once(t: Trial) -> None:
    """Each piece comes before the next token is computed."""
    order: list[str] = []

    def tokens() -> Iterator[int]:
        for i in (104, 105, 33):
            order.append(f"token {i}")
            yield i

    gpt = TinyGPT(small(), ByteTokenizer())
    t.step("texts = gpt._texts(tokens); then next(texts) twice", why="yield inside of the loop over the tokens")
    texts = gpt._texts(tokens())
    order.append(f"text {next(texts)!r}")
    order.append(f"text {next(texts)!r}")
    t.see("the order of tokens and texts", order, why="yield inside of the loop over the tokens")


def prompts_are_continued(t: Trial) -> None:
    """A prompt as ids, the model's continuation, and that as text."""
    gpt = TinyGPT(small().eval(), ByteTokenizer())

    def text(prompt: str, **options: Any) -> str:
        return "".join(gpt.generate(prompt, 6, **options))

    t.show("generate('Hi', 6, temperature=0)", lambda: text("Hi", temperature=0.0), why="stream(self.model, ids, ...)")
    t.show("generate('Hi', 6, seed=1)", lambda: text("Hi", seed=1), why="**sampling goes on to stream")
    t.show("generate('', 6, seed=1)", lambda: text("", seed=1), why="an empty prompt begins with self.opening()")
    t.show("generate('\\n', 6, seed=1)", lambda: text("\n", seed=1), why="a line break is the opening")
    whole = text("Hi", seed=1)
    t.show("generate('Hi', 6, seed=1, stop=[the third character])", lambda: text("Hi", seed=1, stop=(whole[2],)),
           why="stop and the tokenizer go on to stream")  # fmt: skip


def unknown_characters_are_told_early(t: Trial) -> None:
    """A character that the tokenizer never saw is an error of the call, not of the first piece."""
    gpt = TinyGPT(small(3).eval(), CharTokenizer("abc"))
    why = "a function with `yield` runs when its first piece is asked for: encode first, then return self._texts(...)"
    t.step("gpt.generate('xyz') with a vocabulary of a, b, c", why)
    told = "no error"
    try:
        gpt.generate("xyz")
    except TokenizerError:
        told = "TokenizerError"
    t.see("gpt.generate('xyz') raises", told, why)


EXERCISES = (
    Exercise(
        "_windows",
        CORPUS,
        2,
        (
            "Each position of a window is a task: guess the next token. What are the targets?",
            "A column of starts plus a row of 0, 1, 2, ... gives all positions at once, by broadcasting.",
            "at = starts[:, None] + np.arange(length); return ids[at], and the same one further.",
        ),
        (windows_and_their_next,),
    ),
    Exercise(
        "Tokens.batch",
        CORPUS,
        5,
        (
            "Number all windows of the whole training: window i of step s is number s * batch_size + i.",
            "Window n starts (first + n GOLDEN_SECTION) % 1 of the way through all possible starts.",
            "starts = (first + order * GOLDEN_SECTION) % 1 * (len(self.train) - block_size), as integers.",
        ),
        (batches_are_spread, batches_go_on),
    ),
    Exercise(
        "Tokens.validation",
        CORPUS,
        4,
        (
            "Windows side by side: each starts where the one before ended.",
            "np.arange(0, len(self.val) - block_size, block_size) are the starts; np.linspace over their numbers picks "
            "`most` of them, evenly.",
            "starts[np.linspace(0, len(starts) - 1, most).astype(int)] if there are more than `most`; then a list of "
            "_windows(self.val, starts[i : i + batch_size], block_size).",
        ),
        (validation_side_by_side,),
    ),
    Exercise(
        "split_tokens",
        CORPUS,
        3,
        (
            "Encode the text, and cut the row of ids once.",
            "The last val_fraction is held out. ids are int64.",
            "at = int(len(ids) * (1 - val_fraction)); Tokens(ids[:at], ids[at:], bytes of the text behind ids[at:]). "
            "The framework's version also raises CorpusError where a part is shorter than a window.",
        ),
        (the_end_is_held_out,),
    ),
    Exercise(
        "Tokens.bits_per_byte",
        CORPUS,
        3,
        (
            "A tokenizer with long tokens has a larger loss by token and fewer tokens. What is the same for both?",
            "The surprise of the whole text: loss * tokens. By byte of the text, and in bits: divide by log(2).",
            "loss / math.log(2) * len(self.val) / max(self.val_bytes, 1)",
        ),
        (losses_of_tokenizers,),
    ),
    Exercise(
        "optimizer_for",
        TRAIN,
        4,
        (
            "Decay pulls a weight to 0. Which parameters may be pulled there, and which would lose the signal?",
            "Two groups for AdamW: parameters with two or more dimensions decay, the others do not.",
            "AdamW([{'params': ..., 'weight_decay': config.weight_decay}, {'params': ..., 'weight_decay': 0.0}], "
            "config.learning_rate, (config.beta1, config.beta2)); leave out a group without parameters.",
        ),
        (matrices_decay,),
    ),
    Exercise(
        "validate",
        TRAIN,
        5,
        (
            "As `evaluate` of module 07: the loss of each batch counts by its tokens.",
            "tokens.validation(2 * config.batch_size, config.block_size, windows) gives the batches; from_numpy makes "
            "tensors of arrays.",
            "with evaluating(model): total += next_token_loss(model(from_numpy(x)), from_numpy(y)).item() * x.size",
        ),
        (validation_is_a_mean, validation_does_not_train),
    ),
    Exercise(
        "needs",
        NEEDS,
        6,
        (
            "Three parts: the weights with what Adam keeps, what a checkpoint copies, and what waits for backward.",
            "A block has 12 n_embd^2 weights. For backward, a token keeps 16 floats a feature and block (2 more for "
            "swiglu, 2 more for dropout), its scores in a short context, and 3 for each entry of the vocabulary.",
            "token = layers * (floats * width + scores) + 3 * vocab_size, with scores = n_head * block_size up to a "
            "context of _KEPT_SCORES, else 0; activations = 4 bytes * token * batch_size * block_size; "
            "Needs(_TRAINED * weights, _SAVED * weights, activations).",
        ),
        (memory_of_weights, memory_of_activations),
    ),
    Exercise(
        "TinyGPT.opening",
        CAPSTONE,
        2,
        (
            "A model needs a token to begin with. After which character does a text begin?",
            "A tokenizer of characters may never have seen a line break; it raises TokenizerError then.",
            'try: return self.tokenizer.encode("\\n"); except TokenizerError: return [0]',
        ),
        (a_text_begins,),
    ),
    Exercise(
        "TinyGPT._texts",
        CAPSTONE,
        4,
        (
            "Text is to appear while the model writes, and a token may be half a character.",
            "StreamDecoder(self.tokenizer, skip_special_tokens=True) is fed one token after the other.",
            "for token in tokens: yield decoder.feed(token); at the end, yield decoder.finish().",
        ),
        (texts_of_whole_characters, texts_come_at_once),
    ),
    Exercise(
        "TinyGPT.generate",
        CAPSTONE,
        4,
        (
            "Ids, tokens, texts: three steps, and two of them exist already.",
            "stream(self.model, ids, max_new_tokens, ...) gives the tokens, self._texts makes text of them. An empty "
            'prompt, or "\\n", begins with self.opening().',
            "return self._texts(stream(self.model, ids, max_new_tokens, stop=stop, tokenizer=self.tokenizer, "
            "**sampling)); without yield, so that encode runs when generate is called.",
        ),
        (prompts_are_continued, unknown_characters_are_told_early),
    ),
)
