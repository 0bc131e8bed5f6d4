"""Fine-tuning: answers are learned with their end, prompts are not trained, runs resume, adapters merge."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinygpt.capstone.finetune
import tinygpt.memory
import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.capstone.examples import IGNORED, Example, Examples, example_of, made_examples, padded, read_records
from tinygpt.chat import OWN_TEMPLATE, ChatError, encode_chat
from tinygpt.cli import main
from tt_core import tensor
from tt_language import GPT, BPETokenizer, ByteTokenizer, GPTConfig, generate, next_token_loss
from tt_learn import ProgressBar, Trainer

Refused = Callable[..., str]
NAMES = ["ann", "bob", "cid", "dan", "eve"]
FAST = ["--learning-rate", "0.01", "--batch-size", "16", "--block-size", "24", "--eval-interval", "1000"]


def pairs(count: int) -> list[dict[str, str]]:
    """A name, and an answer of one to three words."""
    draw = random.Random(0)
    found = []
    for _ in range(count):
        name, other = draw.choice(NAMES), draw.choice(NAMES)
        found.append(
            {"prompt": f"{name} {other}:", "completion": f" {other}" if name < other else f" {name} and {name}"}
        )
    return found


def talks(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": pair["prompt"]},
                {"role": "assistant", "content": pair["completion"]},
            ]
        }
        for pair in pairs(count)
    ]


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def tokenizer() -> BPETokenizer:
    text = "<|user|>\n<|assistant|>\n" + " ".join(f"{a} and {b}:" for a in NAMES for b in NAMES)
    return BPETokenizer.train(text, 300)


def model(vocab_size: int, **changes: Any) -> GPT:
    tt_core.manual_seed(0)
    shape = {"vocab_size": vocab_size, "block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 32, **changes}
    return GPT(GPTConfig(**shape)).eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ours, whose tokenizer has no token that ends a text."""
    folder, tokens = tmp_path_factory.mktemp("base") / "run", tokenizer()
    TinyGPT(model(tokens.vocab_size), tokens).save(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face's format, with an end token and a vocabulary that is padded."""
    folder, tokens = tmp_path_factory.mktemp("llama") / "hf", tokenizer().with_special_tokens(["<|end|>"])
    tokens.eos_token = "<|end|>"
    shape = {"position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "n_kv_head": 1}
    TinyGPT(model(320, **shape), tokens).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    data = write(folder / "pairs.jsonl", pairs(200))
    assert (
        main(["finetune", str(base), "--data", str(data), "--out", str(folder / "run"), "--steps", "150", *FAST]) == 0
    )
    return folder / "run"


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    data = write(folder / "talks.jsonl", talks(60))
    out = folder / "run"
    command = ["finetune", str(llama), "--data", str(data), "--out", str(out), "--lora", "--steps", "12", *FAST]
    assert main(command) == 0
    return out


# --- what is learned


def test_the_end_follows_the_answer(tuned: Path) -> None:
    gpt = TinyGPT.load(tuned)
    (end,) = gpt.model.config.end_ids
    assert gpt.tokenizer.decode([end]) == "<|endoftext|>"
    ended = right = 0
    for pair in pairs(200):
        new = generate(gpt.model, gpt.tokenizer.encode(pair["prompt"]), 16, temperature=0, tokenizer=gpt.tokenizer)[0]
        ended += new[-1] == end
        right += gpt.tokenizer.decode(new, skip_special_tokens=True) == pair["completion"]
    assert ended >= 190
    assert right >= 180


def test_the_vocabulary_grew_by_the_end(tuned: Path, base: Path) -> None:
    before, after = TinyGPT.load(base), TinyGPT.load(tuned)
    assert after.model.config.vocab_size == before.model.config.vocab_size + 1
    text = "bob and cid"
    assert after.tokenizer.encode(text) == before.tokenizer.encode(text)


@pytest.mark.parametrize(
    ("record", "trained"),
    [({"prompt": "bob:", "completion": " cid"}, " cid<|end|>"),
     ({"prompt": "", "completion": " cid"}, " cid<|end|>"),
     ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "bob"},
                    {"role": "assistant", "content": "cid"}, {"role": "user", "content": "eve"},
                    {"role": "assistant", "content": "dan"}]}, "cid<|end|>dan<|end|>")],
)  # fmt: skip
def test_only_answers_and_their_ends_are_trained(record: dict[str, Any], trained: str) -> None:
    tokens = tokenizer().with_special_tokens(["<|end|>"])
    tokens.eos_token, tokens.chat_template = "<|end|>", OWN_TEMPLATE
    example = example_of(record, tokens)
    assert tokens.decode([i for i, yes in zip(example.ids, example.trained) if yes]) == trained
    x, y = padded([example, Example([1, 2], [False, True])])
    assert y[0][y[0] != IGNORED].tolist() == [i for i, yes in zip(example.ids, example.trained) if yes]
    assert x.shape == y.shape == (2, len(example.ids) - 1)


def test_the_loss_is_that_of_the_answer_alone() -> None:
    gpt = model(300)
    x, y = padded([Example([5, 6, 7, 20, 21], [False] * 3 + [True] * 2)])
    assert y.tolist() == [[IGNORED, IGNORED, 20, 21]]
    logits = gpt(tensor(x)).numpy()[0].astype(np.float64)
    surprise = np.log(np.exp(logits).sum(-1)) - logits[np.arange(4), [0, 0, 20, 21]]
    assert next_token_loss(gpt(tensor(x)), tensor(y)).item() == pytest.approx(surprise[2:].mean(), rel=1e-5)


def test_long_examples_keep_their_end() -> None:
    data, cut = made_examples([{"prompt": "b" * 99, "completion": "cd"}] * 4, ByteTokenizer(), 2, 10, 0.5, 0)
    assert cut == 4
    assert all(len(example.ids) == 11 for example in data.train)
    assert data.train[0].ids[-2:] == [99, 100]


def test_each_example_is_read_once_an_epoch() -> None:
    examples = [Example([i, i + 1], [False, True]) for i in range(7)]
    data = Examples(examples, examples[:1], 3, 5)
    seen = [int(row[0]) for step in range(7) for row in data.batch(step)[0]]
    assert [sorted(seen[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert seen[:7] != seen[7:14]


# --- conversations


def test_conversations_keep_their_template(adapter: Path) -> None:
    gpt = TinyGPT.load(adapter)
    assert gpt.tokenizer.chat_template == OWN_TEMPLATE
    assert gpt.tokenizer.eos_token == "<|end|>"
    assert isinstance("".join(gpt.chat([{"role": "user", "content": "ann bob:"}], 5, temperature=0)), str)
    config = json.loads((adapter / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["chat_template"] == OWN_TEMPLATE


def test_chat_answers_each_line_of_a_pipe(
    adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"ann bob:\n\n/help\n/reset\nann bob:\n/exit\nnever read\n" + b"\xff\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    assert main(["chat", str(adapter), "--temperature", "0", "--max-new-tokens", "4", "--system", "hi"]) == 0
    first, told, second = capsys.readouterr().out.splitlines()
    assert first == second  # after /reset the conversation is a new one
    assert told.startswith("/reset")


def test_old_messages_make_room(adapter: Path) -> None:
    from tinygpt.capstone.talk import shortened

    gpt = TinyGPT.load(adapter)
    turns = [{"role": role, "content": f"bob {i}"} for i in range(9) for role in ("user", "assistant")]
    long = [{"role": "system", "content": "s"}, *turns[:-1]]
    kept = shortened(gpt, long, 8)
    assert kept[0] == long[0]
    assert kept[-1] == long[-1]
    assert kept == [long[0], *long[len(long) - len(kept) + 1 :]]
    assert len(encode_chat(kept, gpt.tokenizer)) <= 24 or len(kept) <= 3


# --- adapters


def test_the_base_is_not_written_to_and_not_copied(adapter: Path, llama: Path) -> None:
    assert not (adapter / "model.safetensors").exists()
    assert (adapter / "adapter_model.safetensors").stat().st_size < (llama / "model.safetensors").stat().st_size
    checkpoint = load_file(adapter / "checkpoint" / "last.safetensors")
    weights = {name for name in checkpoint if name.startswith("model.")}
    assert weights
    assert all("lora" in name for name in weights)


def test_merging_writes_the_same_model(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(adapter), "--out", str(tmp_path / "whole")]) == 0
    assert "rounding moved no weight by more than" in capsys.readouterr().out
    ids = tensor([[1, 5, 9, 200]])
    with_adapter, whole = TinyGPT.load(adapter), TinyGPT.load(tmp_path / "whole")
    assert with_adapter.adapter is not None
    np.testing.assert_allclose(whole.model(ids).numpy(), with_adapter.model(ids).numpy(), atol=1e-4)
    assert whole.tokenizer.chat_template == OWN_TEMPLATE
    assert whole.model.config.end_ids == with_adapter.model.config.end_ids
    assert list(whole.generate("ann bob:", 5, temperature=0)) == list(
        with_adapter.generate("ann bob:", 5, temperature=0)
    )


def test_an_adapter_goes_with_other_plugins(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    for extra in ([], ["--plugin", "kv-cache"], ["--plugin", "int8"]):
        assert main(["generate", str(adapter), "--prompt", "ann", "--temperature", "0", *extra]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]


# --- plain text, and going on


def test_plain_text_is_read_in_windows(base: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("ann and bob: " * 100, encoding="utf-8")
    out = tmp_path / "run"
    command = ["finetune", str(base), "--data", str(tmp_path / "text.txt"), "--out", str(out), "--steps", "20", *FAST]
    assert main(command) == 0
    assert TinyGPT.load(out).model.config.vocab_size == TinyGPT.load(base).model.config.vocab_size
    figures = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert figures[-1]["train_loss"] < 3
    assert main(["generate", str(out), "--max-new-tokens", "3"]) == 0


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("how", [["--lora", "--lora-dropout", "0.1"], []], ids=["lora", "full"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    how: list[str], llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ProgressBar):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                signal.raise_signal(signal.SIGINT)

    data = write(tmp_path / "data.jsonl", talks(20))
    command = ["finetune", str(llama), "--data", str(data), "--steps", "9", *FAST, *how]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(tinygpt.capstone.finetune, "ProgressBar", Interrupted)
        assert main([*command, "--out", str(tmp_path / "halves")]) == 130
    assert "tinygpt finetune --resume" in capsys.readouterr().out
    assert main(["finetune", "--resume", str(tmp_path / "halves")]) == 0
    name = "adapter_model.safetensors" if how else "model.safetensors"
    assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# --- what can be wrong


@pytest.mark.parametrize(
    ("lines", "said"),
    [("", "has 0 examples"), ('{"prompt": "a", "completion": "b"}', "has 1 examples, and one is held out"),
     ("{", "line 1: not JSON"), ("[1]", "line 1: a JSON list"), ('{"text": "a"}', "it has text"),
     ('\n{"prompt": "a"}', "line 2: needs texts prompt and completion"),
     ('{"prompt": "a", "completion": ""}', "an empty completion"),
     ('{"prompt": 1, "completion": "b"}', "needs texts prompt"),
     ('{"messages": []}', "line 1: messages are an empty list"),
     ('{"messages": [{"role": "user", "content": "a"}]}', "no message of the assistant"),
     ('{"messages": [{"role": "tool", "content": "a"}]}', "has role 'tool'")],
)  # fmt: skip
def test_damaged_examples_name_their_line(lines: str, said: str, base: Path, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(lines, encoding="utf-8")
    assert said in refused("finetune", base, "--data", tmp_path / "data.jsonl", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    record = {"prompt": "a\u2028b\x85", "completion": "c"}
    text = json.dumps(record, ensure_ascii=False)
    (tmp_path / "data.jsonl").write_bytes(f"\ufeff{text}\r\n\n{text}".encode())
    assert read_records(tmp_path / "data.jsonl") == [record, record]


def test_what_cannot_be_tuned(
    base: Path, trained: Path, tuned: Path, adapter: Path, refused: Refused, tmp_path: Path
) -> None:
    data = write(tmp_path / "data.jsonl", talks(5))
    given = ("--data", data, "--out", tmp_path / "run")
    assert "give what to train on: --data" in refused("finetune", base)
    assert "cannot read" in refused("finetune", base, "--data", tmp_path / "no.jsonl", "--out", tmp_path / "run")
    assert "no run folder" in refused("finetune", tmp_path / "no", *given)
    assert "an adapter cannot add one" in refused("finetune", base, *given, "--lora")
    assert "a tokenizer of characters has no token that ends" in refused("finetune", trained, *given)
    assert "is an adapter; merge it first" in refused("finetune", adapter, *given)
    assert "block_size is 99, the model's context has 32" in refused("finetune", base, *given, "--block-size", 99)
    assert "holds a run already" in refused("finetune", base, "--data", data, "--out", tuned)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("lora-r", 0), ("lora-alpha", 0), ("lora-dropout", 1), ("steps", -1), ("batch-size", 0), ("block-size", -1),
     ("learning-rate", "nan"), ("weight-decay", -1), ("grad-clip", "inf"), ("eval-interval", -1), ("val-fraction", 0),
     ("seed", -1)],
)  # fmt: skip
def test_options_out_of_range(option: str, value: object, base: Path, refused: Refused, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", talks(5))
    line = refused("finetune", base, "--data", data, "--out", tmp_path / "run", f"--{option}", value)
    assert option.replace("-", "_") in line


def test_unknown_layers_to_adapt(llama: Path, refused: Refused, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", talks(5))
    out = tmp_path / "run"
    line = refused("finetune", llama, "--data", data, "--out", out, "--lora", "--lora-targets", "q_proj,c_attn")
    assert "no linear layer is called 'c_attn'; it has" in line
    assert not out.exists()


def test_what_cannot_be_resumed(
    tuned: Path, trained: Path, refused: Refused, tmp_path: Path, train: Callable[..., int]
) -> None:
    assert "takes the run's own options" in refused("finetune", "--resume", tuned, "--lora-r", 3)
    assert "holds no fine-tuning" in refused("finetune", "--resume", trained)
    assert "has done 150 steps already, --steps 3 is fewer" in refused("finetune", "--resume", tuned, "--steps", 3)
    data = tuned.parent / "pairs.jsonl"
    kept = data.read_bytes()
    try:
        data.write_bytes(kept + kept[:40])
        assert "put it back as it was" in refused("finetune", "--resume", tuned, "--steps", 160)
    finally:
        data.write_bytes(kept)


def test_too_little_memory_is_said_before_anything_is_written(
    base: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tinygpt.memory, "_of_the_system", lambda: 10**5)
    data = write(tmp_path / "data.jsonl", pairs(5))
    assert "this training needs" in refused("finetune", base, "--data", data, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_merged(adapter: Path, llama: Path, tuned: Path, refused: Refused, tmp_path: Path) -> None:
    assert "is a whole model; there is no adapter" in refused("merge", llama)
    assert "holds a run already" in refused("merge", adapter, "--out", tuned)
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    config = moved / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    for name, said in (("gpt2", "which is no folder here"), (None, "does not name the model"),
                       (str(moved), "is an adapter too; merge that one first")):  # fmt: skip
        config.write_text(json.dumps({**values, "base_model_name_or_path": name}), encoding="utf-8")
        assert said in refused("merge", moved)


def test_templates_that_rewrite_history_are_refused() -> None:
    pytest.importorskip("jinja2")
    tokens = tokenizer()
    tokens.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
    with pytest.raises(ChatError, match="writes earlier messages differently"):
        example_of({"messages": talk}, tokens)


def test_chat_needs_a_template(tuned: Path, refused: Refused) -> None:
    assert "has no chat template; train it on conversations" in refused("chat", tuned)


def test_an_adapter_of_a_model_that_no_format_names(train: Callable[..., int], corpus: Path, tmp_path: Path) -> None:
    """Rotary positions with LayerNorm: trained, saved, gone on with, merged."""
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    assert train(run, "--position", "rotary", "--steps", 3) == 0
    assert main(["finetune", str(run), "--data", str(corpus), "--lora", "--steps", "2", "--out", str(tuned)]) == 0
    assert main(["finetune", "--resume", str(tuned), "--steps", "3"]) == 0
    assert main(["merge", str(tuned)]) == 0
    texts = ["".join(TinyGPT.load(path).generate("the ", 9, seed=1)) for path in (tuned, tmp_path / "tuned-merged")]
    assert texts[0] == texts[1]
