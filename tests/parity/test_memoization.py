"""Module 17 beside the caches of `transformers`: the same keys under the same names, the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_language import GPT, generate
from tt_perf import DynamicCache, KVCache, KVCachePlugin

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install transformers")

WINDOW = 24


def loaded(family: str, folder: Path) -> tuple[GPT, Any]:
    """A small model of ours and theirs, with weights far enough apart for tokens that differ."""
    torch.manual_seed(0)
    if family == "gpt2":
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0,
        ))  # fmt: skip
    else:
        theirs = transformers.MistralForCausalLM(transformers.MistralConfig(
            vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, sliding_window=WINDOW,
        ))  # fmt: skip
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    theirs.eval().save_pretrained(folder)
    return GPT.from_pretrained(folder), theirs


def test_a_window_is_that_of_mistral(tmp_path: Path) -> None:
    ours, theirs = loaded("mistral", tmp_path)
    ids = np.random.default_rng(1).integers(0, 97, (2, 4 * WINDOW + 5))
    with torch.no_grad(), tt.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
        for turns in ([ids.shape[1]], [5, WINDOW, 1, 1, WINDOW + 3]):
            cache, found, at = KVCache(window=WINDOW), [], 0
            for n in [*turns, *[1] * (ids.shape[1] - sum(turns))]:
                found.append(ours(tt.tensor(ids[:, at : at + n]), past=cache).numpy())
                at += n
            np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-4, atol=1e-4)


def test_tokens_far_past_the_window_of_mistral(tmp_path: Path) -> None:
    ours, theirs = loaded("mistral", tmp_path)
    prompt = [5, 6, 7]
    expected = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=100, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    with tt.use(KVCachePlugin(beyond="window")):
        assert generate(ours, prompt, 100, temperature=0, ignore_eos=True)[0] == expected[3:]


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_a_padded_batch(family: str, tmp_path: Path) -> None:
    ours, theirs = loaded(family, tmp_path)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(1, 97, n).tolist() for n in (3, 1, 11, 7)]
    wide = max(map(len, prompts))
    ids = torch.tensor([[0] * (wide - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (wide - len(p)) + [1] * len(p) for p in prompts])
    expected = theirs.generate(
        ids, attention_mask=mask, max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0
    )[:, wide:].tolist()
    with tt.use(KVCachePlugin()):
        assert generate(ours, prompts, 10, temperature=0, ignore_eos=True) == expected


@pytest.mark.parametrize("kind", [DynamicCache, KVCache])
def test_methods_of_a_cache(kind: type[DynamicCache]) -> None:
    ours, theirs = kind(), transformers.DynamicCache()
    rng = np.random.default_rng(3)
    steps: list[tuple[int, int, Callable[..., Any]]] = [
        (3, 5, lambda cache, lib: cache.reorder_cache(lib([2, 0, 1]))),
        (3, 1, lambda cache, lib: cache.crop(-2)),
        (3, 3, lambda cache, lib: cache.batch_repeat_interleave(2)),
        (6, 2, lambda cache, lib: None),
    ]
    for rows, new, then in steps:
        for layer in (0, 1):
            k, v = rng.standard_normal((2, rows, 2, new, 4), np.float32)
            found = ours.update(tt.tensor(k), tt.tensor(v), layer)
            expected = theirs.update(torch.tensor(k), torch.tensor(v), layer)
            for a, b in zip(found, expected):
                np.testing.assert_array_equal(a.numpy(), b.numpy())
        then(ours, np.array)
        then(theirs, torch.tensor)
        assert ours.get_seq_length() == theirs.get_seq_length()
