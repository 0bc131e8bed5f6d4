"""Module 17: what each kind of cache promises, as checks against a computation without it.

Sabotaged versions of the module must fail them, and so must a model of zeros, for which any cache would look right.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.plugins import manager
from tt_language import GPT, GPTConfig, generate
from tt_learn import AdamW, evaluating
from tt_perf import Int8WeightOnly, Profiler, prune_, quantize_
from tt_perf.memoization import (
    DynamicCache,
    KVCache,
    KVCachePlugin,
    MemoizePlugin,
    files,
    formats,
    load_prompt_cache,
    memoizing,
    prefixes,
    results,
    save_prompt_cache,
    storage,
    window,
)
from tt_perf.memoization import cache as cache_module
from tt_perf.memoization.cache import arrays_of
from tt_perf.versions import Version

Array = np.ndarray
VOCAB, BLOCK, W = 50, 64, 12
LOGIT_ERROR, GAP = 1e-4, 1e-3

FAMILIES: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"position": "rotary", "norm": "rms", "mlp": "swiglu", "n_head": 4, "n_kv_head": 2},
}


@functools.cache
def model_of(family: str) -> GPT:
    """A model whose next token depends on the text; nobody may change it."""
    return new_model(family)


def new_model(family: str, zeros: bool = False, scale: int = 4) -> GPT:
    tt.manual_seed(1)
    model = GPT(GPTConfig(**{"vocab_size": VOCAB, "block_size": BLOCK, "n_layer": 2, "n_head": 2, "n_embd": 16,
                             **FAMILIES[family]})).eval()  # fmt: skip
    with tt.no_grad():
        for parameter in model.parameters():
            parameter *= 0 if zeros else scale if parameter.ndim > 1 else 1
    return model


def texts(*lengths: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCAB, n).tolist() for n in lengths]


def logits_of(model: GPT, ids: list[list[int]], **options: Any) -> Array:
    with evaluating(model):
        return model(tt.tensor(ids), **options).numpy()


def demand(holds: Any, what: str) -> None:
    if not holds:
        raise AssertionError(f"memoization (module 17): {what}")


def demand_equal(found: Array, expected: Array, error: float = LOGIT_ERROR) -> None:
    demand(found.shape == expected.shape, f"the logits have shape {found.shape}, not {expected.shape}")
    difference = np.abs(found - expected).max()
    demand(difference <= error, f"the logits differ by {difference:.2g} from those without a cache")
    rows = expected.reshape(-1, expected.shape[-1])
    demand(np.ptp(rows, axis=0).max() > 0.1, "all logits are the same, so their equality says nothing")


def demand_same_tokens(model: GPT, prompt: list[int], found: list[int], expected: list[int]) -> None:
    """The same, up to the first place where the two best tokens without a cache are nearly as good."""
    demand(len(found) == len(expected), f"{len(found)} tokens were generated, not {len(expected)}")
    for i, (a, b) in enumerate(zip(found, expected)):
        if a != b:
            text = (prompt + expected[:i])[-BLOCK:]
            best = np.sort(logits_of(model, [text])[0, -1])
            demand(best[-1] - best[-2] <= GAP, f"token {i} is {a}, without a cache {b}")
            return


def demand_error(function: Callable[[], Any], words: str, what: str) -> None:
    try:
        function()
    except tt.TinyTorchError as error:
        demand(words in str(error) and "\n" not in str(error), f"{what}: the error is {error}")
    else:
        demand(False, f"{what}: there was no error")


def demand_different(tokens: list[list[int]]) -> None:
    demand(len({token for row in tokens for token in row}) > 3, "all tokens are the same, so equality says nothing")


def in_turns(model: GPT, cache: Any, text: list[int], turns: list[int]) -> Array:
    """Logits of all positions of a text that is read in pieces of these lengths, then token by token."""
    found, at = [], 0
    for n in [*turns, *[1] * (len(text) - sum(turns))]:
        found.append(logits_of(model, [text[at : at + n]], past=cache))
        at += n
    return np.concatenate(found, axis=1)


# --- the KV cache

Models = Callable[[str], GPT]


def check_logits(model_of: Models = model_of) -> None:
    """Cached logits are those of one pass over the whole text, for each family and each kind of cache."""
    for family in FAMILIES:
        model, (text,) = model_of(family), texts(40)
        expected = logits_of(model, [text])
        for cache in (DynamicCache(), KVCache(), KVCache(static=True, length=40)):
            for turns in ([7], [1, 5, 9]):
                cache.clear()
                demand_equal(in_turns(model, cache, text, turns), expected)
        exact = new_model(family).to("float64")
        demand_equal(in_turns(exact, KVCache(), text, [7]), logits_of(exact, [text]), 1e-11)  # all else is rounding


def check_greedy(model_of: Models = model_of, prompts: int = 6, count: int = 24) -> None:
    """Greedy tokens are those without a cache wherever the two best logits differ; past the block, too."""
    for family in FAMILIES:
        model, given = model_of(family), texts(*(1 + 7 * i % 50 for i in range(prompts)), seed=3)
        plain = [generate(model, [text], count, temperature=0)[0] for text in given]
        with tt.use(KVCachePlugin()):
            cached = [generate(model, [text], count, temperature=0)[0] for text in given]
        for prompt, found, expected in zip(given, cached, plain):
            demand_same_tokens(model, prompt, found, expected)
        demand_different(plain)


def check_unequal_lengths(model_of: Models = model_of) -> None:
    """Six prompts of different length in one batch get what each gets alone, with learned and rotary positions."""
    for family in FAMILIES:
        model, given = model_of(family), texts(3, 1, 17, 40, 8, 29, seed=4)
        alone = [generate(model, [text], 30, temperature=0)[0] for text in given]
        for options in ({}, {"static": True}):
            with tt.use(KVCachePlugin(**options)):
                together = generate(model, given, 30, temperature=0)
            for prompt, found, expected in zip(given, together, alone):
                demand_same_tokens(model, prompt, found, expected)
        demand_different(alone)


def check_rows(model_of: Models = model_of) -> None:
    """Rows that are reordered, repeated or cropped go on as if they had been read so."""
    for family in FAMILIES:
        model, given = model_of(family), texts(9, 9, 9, seed=5)
        (more,) = texts(4, seed=6)
        for kind in (DynamicCache, KVCache):
            cache = kind()
            logits_of(model, given, past=cache)
            cache.reorder_cache(np.array([2, 0]))
            cache.batch_repeat_interleave(2)
            cache.crop(-3)
            demand(cache.get_seq_length() == 6, "crop(-3) of 9 positions does not leave 6")
            rows = [given[row][:6] for row in (2, 2, 0, 0)]
            found = logits_of(model, [more] * 4, past=cache)
            demand_equal(found, logits_of(model, [row + more for row in rows])[:, 6:])


def masked(model: GPT, text: list[int], most: int, keep: int) -> Array:
    """The oracle of the window: one pass over the whole text, with all keys hidden that have left it."""
    i = np.arange(len(text))
    visible = (i[None] <= i[:, None]) & ((i[None] > i[:, None] - most) | (i[None] < keep))
    config = GPTConfig(**{**model.config.to_dict(), "block_size": 4096})
    long = GPT(config).eval()
    long.load_state_dict(model.state_dict())
    return logits_of(long, [text], attn_mask=tt.tensor(visible[None, None]))


def check_window(model_of: Models = model_of) -> None:
    """A window is a full recompute with a mask, at and around its length, in one turn and in two."""
    model = model_of("rotary")
    for keep in (0, 3):
        for n in (W - 1, W, W + 1, 2 * W + 3, 2 * BLOCK + 9):
            (text,) = texts(n, seed=n)
            expected = masked(model, text, W, keep)
            for turns in ([n], [1], [W - 1], [W], [5, W - 5, n - W]):
                if sum(turns) <= n and min(turns) > 0:
                    cache = KVCache(window=W, keep=keep)
                    demand_equal(in_turns(model, cache, text, turns), expected)
                    demand(cache.nbytes <= KVCache.nbytes.fget(_filled(model, 600)), "the window keeps all positions")
                    demand(cache.length == n, f"{n} positions were read, the cache says {cache.length}")


def _filled(model: GPT, positions: int) -> KVCache:
    cache = KVCache(length=positions, static=True)
    logits_of(model, texts(3), past=cache)
    return cache


def check_window_rows(model_of: Models = model_of) -> None:
    """Rows of different length slide each at its own position."""
    model, given = model_of("rotary"), texts(3, W + 2, 2 * W + 3, 1, W, seed=8)
    with tt.use(KVCachePlugin(window=W, keep=2)):
        together = generate(model, given, 2 * BLOCK, temperature=0)
    for prompt, new in zip(given, together):
        logits = masked(model, prompt + new, W, 2)[0, len(prompt) - 1 : -1]
        best = np.sort(logits)[:, -2:]
        same = logits.argmax(-1) == np.array(new)
        demand((same | (best[:, 1] - best[:, 0] <= GAP)).all(), "a row of a batch gets other tokens than alone")
    demand_different(together)


def check_beyond(model_of: Models = model_of) -> None:
    """Past the block: `crop` is generation without a cache, `error` ends there, `window` needs rotary positions."""
    for family in FAMILIES:
        model, (prompt,) = model_of(family), texts(BLOCK - 2, seed=9)
        plain = generate(model, [prompt], 40, temperature=0)[0]
        with tt.use(KVCachePlugin(beyond="crop")):
            demand_same_tokens(model, prompt, generate(model, [prompt], 40, temperature=0)[0], plain)
        demand_different([plain])
        with tt.use(KVCachePlugin(beyond="error")):
            found = generate(model, [prompt], 3, temperature=0)[0]  # the last one is not read
            demand_same_tokens(model, prompt, found, plain[:3])
            for count, given in ((4, prompt), (1, [*prompt, 1, 2, 3])):
                run = functools.partial(generate, model, [given], count, temperature=0)
                demand_error(run, f"65 tokens, the context {BLOCK}", "a text past the block")
    with tt.use(KVCachePlugin(beyond="window")):
        run = functools.partial(generate, model_of("learned"), [[1]], 1)
        demand_error(run, "needs rotary positions", "a window with learned positions")


def check_int8(model_of: Models = model_of) -> None:
    """Keys and values are bytes with scales; each is off by half a scale at most; logits hardly move."""
    for family in FAMILIES:
        model, (text,) = model_of(family), texts(40, seed=10)
        size = model.config.head_size
        plain, small = KVCache(length=40, static=True), KVCache(length=40, static=True, dtype="int8")
        expected = in_turns(model, plain, text, [30])
        found = in_turns(model, small, text, [30])
        demand_equal(found, expected, 0.2 * float(expected.std()))
        demand(small.nbytes == plain.nbytes * (size + 4) // (4 * size), f"int8 takes {small.nbytes} bytes")
        arrays, floats = arrays_of(small), arrays_of(plain)
        codes, scale = arrays["layer.0.values"], arrays["layer.0.values_scale"]
        demand(codes.dtype == np.int8, f"int8 is kept as {codes.dtype}")
        error = np.abs(codes * scale - floats["layer.0.values"])
        demand((error <= scale * 0.501 + 1e-6).all(), "values are off by more than half a scale")
        demand(np.abs(codes).max() == 127, "the integers do not use their range")
    x, whole, pieces = tt.randn(1, 2, 9, 4), KVCache(dtype="int8"), KVCache(dtype="int8")
    whole.update(x, x, 0)
    for start, end in ((0, 4), (4, 5), (5, 9)):
        found = pieces.update(x[:, :, start:end], x[:, :, start:end], 0)[0].numpy()
    demand(np.array_equal(found, whole.update(x[:, :, :0], x[:, :, :0], 0)[0].numpy()), "pieces are kept otherwise")


def cold(model: GPT, prompt: list[int], count: int = 12) -> list[int]:
    with tt.use(KVCachePlugin()):
        return generate(model, [prompt], count, temperature=0)[0]


def check_prefixes(model_of: Models = model_of) -> None:
    """A known beginning is not read again, and changes no token."""
    for family in FAMILIES:
        model, (first, second, third) = model_of(family), texts(30, 9, 12, seed=11)
        plugin = KVCachePlugin(reuse=64)
        with tt.use(plugin, report=False):
            answer = generate(model, [first], 6, temperature=0)[0]
            demand(answer == cold(model, first, 6), "the first prompt gets other tokens")
            for prompt in (first[:20] + second, first + answer[:5] + second, first, [*first[:7], 1], second):
                demand_same_tokens(model, prompt, generate(model, [prompt], 12, temperature=0)[0], cold(model, prompt))
            several = [first[:25] + second, first[:22] + second[::-1], first[:22]]
            for prompt, found in zip(several, generate(model, several, 12, temperature=0)):
                demand_same_tokens(model, prompt, found, cold(model, prompt))
            generate(model, [third, second + first], 1, temperature=0)  # the third is padded here, and known afterwards
            found = generate(model, [third + second], 12, temperature=0)[0]
            demand_same_tokens(model, third + second, found, cold(model, third + second))
        demand((plugin.store.hits, plugin.store.misses) == (6, 3), f"{plugin.store.hits} prompts found a prefix, not 6")
        reused = 20 + 35 + 29 + 7 + 3 * 21 + 12
        demand(
            plugin.store.positions_reused == reused, f"{plugin.store.positions_reused} positions reused, not {reused}"
        )
        demand_different([cold(model, first)])


def step(model: GPT) -> None:
    optimizer = AdamW(model.parameters(), lr=0.1)
    model(tt.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def merge(model: GPT) -> None:
    weight = model.blocks[0].attention.in_proj.weight
    with tt.no_grad():
        weight += tt.ones(weight.shape[0], 1) @ tt.ones(1, weight.shape[1]) * 0.5


def write(model: GPT) -> None:
    model.wte.weight.data[...] = np.roll(model.wte.weight.data, 1, axis=0)


CHANGES: dict[str, Callable[[GPT], Any]] = {
    "load_state_dict": lambda model: model.load_state_dict({k: v * 1.3 for k, v in model.state_dict().items()}),
    "an optimizer step": step,
    "a merge": merge,
    "quantize_": lambda model: quantize_(model, Int8WeightOnly(), verbose=False),
    "prune_": lambda model: prune_(model, 0.5),
    "NumPy": write,
}


def check_versions(model_of: Models = new_model) -> None:
    """After a weight has changed, nothing is used again: prompt, change, prompt is a cold run with 0 hits."""
    for name, change in CHANGES.items():
        model, (prompt,) = model_of("rotary"), texts(30, seed=12)
        plugin = KVCachePlugin(reuse=64)
        with tt.use(plugin, report=False):
            before = generate(model, [prompt], 12, temperature=0)[0]
            change(model)
            after = generate(model, [prompt], 12, temperature=0)[0]
        demand(plugin.store.hits == 0, f"a cache from before {name} was used again")
        demand(after == cold(model, prompt), f"after {name}, the tokens are not those of a cold run")
        demand_different([before, after])
        with tt.use(plugin, report=False):
            generate(model, [prompt], 12, temperature=0)
        demand(plugin.store.hits == 1, f"nothing is found again after {name}")


def check_samples(model_of: Models = model_of) -> None:
    """Several samples of one prompt read it once, and are those of a batch without a cache."""
    model, (prompt, other) = model_of("rotary"), texts(20, 7, seed=13)
    given = [prompt, other, prompt, prompt]
    plain = generate(model, given, 10, seed=3)
    seen: list[tuple[int, ...]] = []
    handle = model.register_forward_pre_hook(lambda layer, inputs: seen.append(tuple(inputs[0].shape)))
    try:
        with tt.use(KVCachePlugin()):
            demand(generate(model, given, 10, seed=3) == plain, "samples differ from those without a cache")
    finally:
        handle.remove()
    demand_equal(logits_of(model, [prompt], past=KVCache()), logits_of(model, [prompt]))
    demand(seen == [(2, 20), *[(4, 1)] * 9], f"the model read {seen[:2]}, not the two prompts once")
    demand(len({tuple(row) for row in plain}) == 4, "all samples are the same, so equality says nothing")


def check_files(folder: Path, model_of: Models = model_of) -> None:
    """A cache on disk goes on where it was saved, and only with the model that filled it."""
    for dtype in (None, "int8"):
        model, (text,) = model_of("rotary"), texts(30, seed=14)
        cache, path = KVCache(dtype=dtype), folder / f"{dtype}.safetensors"
        expected = in_turns(model, cache, text, [20])
        cache.crop(20)
        save_prompt_cache(path, cache, model)
        loaded = load_prompt_cache(path, model)
        demand(loaded.tokens == [text[:20]], "the tokens are not those that were read")
        demand_equal(in_turns(model, loaded, text[20:], [5]), expected[:, 20:])
        plugin = KVCachePlugin(reuse=64, dtype=dtype)
        plugin.load(path, model)
        with tt.use(plugin, report=False):
            found = generate(model, [text], 8, temperature=0)[0]
        demand(plugin.store.positions_reused == 20, "a loaded prompt was read again")
        if dtype is None:
            demand_same_tokens(model, text, found, cold(model, text, 8))
        changed = new_model("rotary")
        with tt.no_grad():
            changed.norm.weight += 0.01
        run = functools.partial(load_prompt_cache, path, changed)
        demand_error(run, "another model, or of other weights", "the cache of another model")


# --- results of ops and layers


def check_edited_results() -> None:
    """Nobody changes a kept result: not by the first result, nor by a later one, nor by the input."""
    x = tt.tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    expected = np.exp(x.numpy())
    with tt.use(MemoizePlugin("exp"), report=False) as plugin:
        for i in range(3):
            result = tt.exp(x)
            demand(np.array_equal(result.numpy(), expected), f"result {i} was changed from outside")
            result += 100
        demand((plugin.hits, plugin.misses) == (2, 1), "a call is not found again")
        x += 1
        demand(np.allclose(tt.exp(x).numpy(), expected * np.e), "a changed input gets the old result")


def check_keys() -> None:
    """Shape, dtype, strides, -0.0, nan and attributes are told apart, and each is found again."""
    flat = np.zeros(6, np.float32)
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    cases = [flat, flat.reshape(2, 3), flat.reshape(3, 2), flat.astype(np.int32), np.zeros(3, np.float64), -flat,
             flat * np.nan, square, np.asfortranarray(square), square.T, np.zeros(3, np.int64)]  # fmt: skip
    plain = [tt.tanh(tt.tensor(x) if x.flags.c_contiguous else tt.from_numpy(x)).numpy() for x in cases]
    with tt.use(MemoizePlugin("tanh", "sum"), report=False) as plugin:
        for turn in range(2):
            for x, expected in zip(cases, plain):
                found = tt.tanh(tt.from_numpy(x)).numpy()
                same = found.dtype == expected.dtype and found.shape == expected.shape
                demand(same and found.tobytes() == expected.tobytes(), f"{x.dtype} {x.shape} got another's result")
            counts = plugin.hits, plugin.misses
            demand(counts == (turn * len(cases), len(cases)), f"{counts} hits and misses of {len(cases)} inputs")
        sums = [tt.tensor(square).sum(dim=dim).numpy() for dim in (0, 1, 0, 1)]
        demand(np.array_equal(sums[2], sums[0]) and not np.array_equal(sums[0], sums[1]), "dim is no part of the key")
    signs = np.signbit(plain[5])
    demand(signs.all() and not np.signbit(plain[0]).any(), "the case -0.0 says nothing")


def check_gradients() -> None:
    """A call that a gradient passes through is computed each time, and a kept result has no history."""
    w = tt.tensor(np.full((2, 2), 0.5, np.float32)).requires_grad_()
    layer, x = tt.Linear(2, 2).eval(), tt.ones(1, 2)
    with tt.use(MemoizePlugin("exp", layer), report=False) as plugin:
        for _ in range(2):
            w.grad = None
            y = tt.exp(w)
            demand(y.requires_grad, "a kept result was given where a gradient passes through")
            y.sum().backward()
            demand(w.grad is not None and np.allclose(w.grad.numpy(), np.exp(0.5)), "the gradient of exp is lost")
            layer.zero_grad()
            y = layer(x)
            demand(y.requires_grad, "a layer's kept result was given where a gradient passes through")
            y.sum().backward()
            demand(layer.weight.grad is not None, "the gradient of a layer is lost")
        demand(plugin.hits + plugin.misses == 0, "a call with a gradient was kept")
        with evaluating(layer):
            found = layer(x), layer(x)
        demand(plugin.hits == 1, "a layer in evaluation is not found again")
        demand(not any(y.requires_grad for y in found), "a kept result requires gradients")


def check_layers() -> None:
    """A layer's results go when its weights change; in training, and where it draws, nothing is kept."""

    class Drawing(tt.Layer):
        def forward(self, x: Any) -> Any:
            return tt.dropout(x, p=0.5, training=True)

    layer, drawing, x = tt.Sequential(tt.Linear(3, 3), tt.Dropout(0.5)), Drawing(), tt.ones(40, 3)
    with tt.use(MemoizePlugin(layer, drawing), report=False) as plugin, tt.no_grad():
        layer.train()
        demand(not np.array_equal(layer(x).numpy(), layer(x).numpy()), "a layer in training gets a kept result")
        layer.eval(), drawing.eval()
        demand(not np.array_equal(drawing(x).numpy(), drawing(x).numpy()), "a layer that draws gets a kept result")
        before = layer(x).numpy()
        demand(np.array_equal(layer(x).numpy(), before), "a kept result differs")
        demand(plugin.hits == 1, f"{plugin.hits} hits, not 1")
        layer.load_state_dict({name: entry * 2 for name, entry in layer.state_dict().items()})
        demand(np.allclose(layer(x).numpy(), before * 2), "changed weights get the old result")
        demand(plugin.hits == 1, "a result from before the change was used")


def check_bound() -> None:
    """Kept results have at most `max_bytes`; those that were not used for longest go first."""
    inputs = [tt.full((100,), float(i)) for i in range(4)]
    with tt.use(MemoizePlugin("exp", max_bytes=1200), report=False) as plugin:
        for i in (0, 1, 2, 0, 3):  # 1 is the one that was not used for longest
            tt.exp(inputs[i])
        demand(plugin.results.nbytes <= 1200, f"{plugin.results.nbytes} bytes are kept, not 1200")
        hits = plugin.hits
        for i in (0, 2, 3):
            tt.exp(inputs[i])
        demand(plugin.hits == hits + 3, "a result that was used lately is gone")
        tt.exp(inputs[1])
        demand(plugin.hits == hits + 3, "the oldest result is still there")
        tt.exp(tt.ones(1000))
        demand(plugin.results.nbytes <= 1200, "a result larger than everything was kept")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
EQUALITIES = [check_logits, check_greedy, check_unequal_lengths, check_rows, check_window, check_window_rows,
              check_beyond, check_int8, check_prefixes, check_versions, check_samples, check_files]  # fmt: skip


def run_check(check: Callable[..., None], folder: Path, **options: Any) -> None:
    check(folder, **options) if check is check_files else check(**options)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_the_module_keeps_its_promises(check: Callable[..., None], tmp_path: Path) -> None:
    run_check(check, tmp_path)


@pytest.mark.parametrize("check", EQUALITIES, ids=lambda check: check.__name__[6:])
def test_a_model_of_zeros_fails_each_equality(check: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"memoization \(module 17\)"):
        run_check(check, tmp_path, model_of=functools.partial(new_model, zeros=True))


def test_threads_share_prefixes() -> None:
    model, prompts = model_of("rotary"), texts(20, 24, 17, 30, seed=16)
    given = [[*prompts[0], *prompts[i]][:40] for i in (1, 2, 3)]
    expected = {i: generate(model, [given[i], prompts[i]], 12, temperature=0) for i in range(3)}
    wrong: list[int] = []
    with tt.use(KVCachePlugin(reuse=64), report=False) as plugin:

        def work(seed: int) -> None:
            for i in np.random.default_rng(seed).integers(0, 3, 12).tolist():
                if generate(model, [given[i], prompts[i]], 12, temperature=0) != expected[i]:
                    wrong.append(i)
                if generate(model, [given[i]], 12, temperature=0)[0] != expected[i][0]:
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert plugin.store.hits


@pytest.mark.fuzz
def test_200_prompts_of_128_tokens() -> None:
    check_greedy(prompts=200, count=128)
    for family in FAMILIES:
        model = new_model(family, scale=3)  # logits up to 10; with 4, rounding alone reaches 1.3e-4
        for text in texts(*[BLOCK] * 200, seed=15):
            demand_equal(in_turns(model, KVCache(), text, [10]), logits_of(model, [text]))


# --- sabotage: each must turn its check red


def nothing_remembered(self: Any, layer: Any, k: Any, v: Any) -> Any:
    memory = self._memory_of(layer, k.shape[2])
    memory.extend(k.data, v.data)
    return k, v


def zeros_remembered(self: Any, rows: int, end: int, real: Any = formats.Floats.read) -> Array:
    return real(self, rows, end) * 0


def values_for_keys(self: Any, k: Array, v: Array, real: Any = storage.LayerMemory.extend) -> Any:
    keys, values = real(self, k, v)
    return keys, tt.from_numpy(np.concatenate([keys.data[:, :, :-1], values.data[:, :, -1:]], axis=2))


def shared_memory(self: Any, rows: list[int], start: int, end: int, room: int) -> list[Array]:
    return [part[rows[0] : rows[0] + 1, :, start:] for part in self.parts]


def wrong_axis(self: Any, rows: list[int], length: int) -> None:
    for part in self.parts:
        part[:, : min(len(rows), part.shape[1]), :length] = part[:, [row % part.shape[1] for row in rows]][
            :, : part.shape[1], :length
        ]


def half_the_scale(self: Any, x: Array, real: Any = formats.Int8.encode) -> list[Array]:
    codes, scale = real(self, x)
    return [codes, scale / 2]


def floats_for_int8(self: Any, x: Array, real: Any = formats.Int8.encode) -> list[Array]:
    codes, scale = real(self, x)
    return [codes.astype(np.float32), scale]


def one_scale_for_all(self: Any, x: Array) -> list[Array]:
    scale = np.full((*x.shape[:-1], 1), max(np.abs(x).max(initial=0), 1e-9) / 127, np.float32)
    return [np.rint(x / scale).astype(np.int8), scale]


def one_position_early(query: Array, key: Array, window: int, keep: int, real: Any = window.seen) -> Array:
    return real(query, key, window - 1, keep)


def without_the_first(query: Array, key: Array, window: int, keep: int, real: Any = window.seen) -> Array:
    return real(query, key, window, 0)


def never_slides(query: Array, key: Array, window: int, keep: int, real: Any = window.seen) -> Array:
    return real(query, key, 1 << 40, keep)


def all_real(attn_mask: Any, rows: int, new: int) -> Array:
    return np.ones((rows, new), bool)


def not_cropped(self: Any, max_length: int) -> None:
    self.tokens = [text[:max_length] for text in self.tokens]


def by_shape_alone(value: Any, real: Any = results.key_of) -> Any:
    return value.data.shape if isinstance(value, tt.Tensor) else real(value)


def by_value(value: Any, real: Any = results.key_of) -> Any:
    if isinstance(value, tt.Tensor):
        return value.data.dtype.str, value.data.shape, value.data.strides, tuple(value.data.ravel().tolist())
    return tuple([by_value(part) for part in value]) if isinstance(value, tuple) else real(value)


def by_bytes_alone(value: Any, real: Any = results.key_of) -> Any:
    if isinstance(value, tt.Tensor):
        return value.data.tobytes()
    return tuple([by_bytes_alone(part) for part in value]) if isinstance(value, tuple) else real(value)


def newest_first(self: Any, key: Any) -> Any:
    return None if key not in self._kept else results.wrap(results._copied(self._kept[key]))


def not_copied(arrays: Any) -> Any:
    return arrays


Sabotage = tuple[Any, str, Any, Callable[..., None]]
SABOTAGES: dict[str, Sabotage] = {
    "nothing is remembered": (KVCache, "extend", nothing_remembered, check_logits),
    "zeros are remembered": (formats.Floats, "read", zeros_remembered, check_logits),
    "the last value for the last key": (storage.LayerMemory, "extend", values_for_keys, check_logits),
    "off by one": (KVCache, "length", property(lambda self: max(0, len(self.tokens[0]) - 1) if self.tokens else 0),
                   check_greedy),
    "padding taken for tokens": (cache_module, "_real", all_real, check_prefixes),
    "rows along the wrong axis": (formats.Floats, "move", wrong_axis, check_rows),
    "rows not moved": (formats.Floats, "move", lambda self, rows, length: None, check_rows),
    "crop forgets to crop": (KVCache, "crop", not_cropped, check_rows),
    "the window is one too short": (window, "seen", one_position_early, check_window),
    "the window never slides": (window, "seen", never_slides, check_window),
    "the first few are dropped": (window, "seen", without_the_first, check_window),
    "half the scale": (formats.Int8, "encode", half_the_scale, check_int8),
    "one scale for all": (formats.Int8, "encode", one_scale_for_all, check_int8),
    "int8 as floats": (formats.Int8, "encode", floats_for_int8, check_int8),
    "tokens not compared": (prefixes, "common_length", lambda texts: min(map(len, texts)), check_prefixes),
    "a prefix in shared memory": (formats.Floats, "take", shared_memory, check_prefixes),
    "nothing is ever found": (prefixes.PrefixStore, "add", lambda self, model, cache: None, check_prefixes),
    "a stale cache": (Version, "holds", lambda self, model: True, check_versions),
    "the clock not read": (Version, "holds", lambda self, model: len(self._layers) == len(list(model.layers())),
                           check_versions),
    "the error never comes": (KVCachePlugin, "_new", lambda self, *_: KVCache(), check_beyond),
    "an empty cache is loaded": (files, "restored", lambda *_: KVCache(), check_files),
    "another model's cache": (files, "digest_of", lambda model: "the same", check_files),
    "copies not made": (results, "_copied", not_copied, check_edited_results),
    "keys without values": (results, "key_of", by_shape_alone, check_keys),
    "-0.0 is 0.0": (results, "key_of", by_value, check_keys),
    "keys without dtype and shape": (results, "key_of", by_bytes_alone, check_keys),
    "gradients from the cache": (memoizing, "is_grad_enabled", lambda: False, check_gradients),
    "a layer's gradients": (memoizing, "_is_still", lambda layer, arguments: True, check_gradients),
    "draws not noticed": (memoizing, "generator", lambda: np.random.default_rng(0), check_layers),
    "a layer's old results": (memoizing, "Version", lambda layer: Version(tt.Layer()), check_layers),
    "without a bound": (results, "_size", lambda arrays: 0, check_bound),
    "the oldest stays": (results.Results, "get", newest_first, check_bound),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_turns_a_check_red(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place, attribute, broken, check = SABOTAGES[name]
    monkeypatch.setattr(place, attribute, broken)
    manager.rebind()
    with pytest.raises((AssertionError, tt.TinyTorchError)) as caught:
        run_check(check, tmp_path)
    assert any(word in str(caught.value) for word in ("memoization (module 17)", "kv-cache", "memoize"))


def test_with_the_cache_each_token_reads_one_position() -> None:
    model, (prompt,) = model_of("rotary"), texts(20)
    with tt.use("kv-cache"), Profiler() as profiler:
        generate(model, [prompt], 10, temperature=0)
    calls = {entry.name: entry.calls for entry in profiler.entries()}
    assert calls["embedding"] == 10
