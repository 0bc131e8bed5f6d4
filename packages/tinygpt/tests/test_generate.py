"""Generation streams, can be repeated, and is the same with keys and values remembered."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.cli import main
from tt_language import GPT, BPETokenizer, ByteTokenizer, CharTokenizer, GPTConfig
from tt_perf import load_prompt_cache

SIZES = {"vocab_size": 256, "block_size": 12, "n_layer": 2, "n_embd": 16}
SHAPES = {
    "learned": GPTConfig(**SIZES, n_head=2),
    "rotary": GPTConfig(**SIZES, n_head=4, n_kv_head=2, position="rotary", norm="rms", mlp="swiglu"),
}


@pytest.fixture(params=SHAPES)
def gpt(request: pytest.FixtureRequest) -> TinyGPT:
    tt_core.manual_seed(3)
    model = GPT(SHAPES[request.param]).eval()
    for parameter in model.parameters():  # as far apart as a trained model's, or all logits would be nearly equal
        parameter.data *= 8
    return TinyGPT(model, ByteTokenizer())


def test_streams_a_token_at_a_time(trained: Path) -> None:
    pieces = list(TinyGPT.load(trained).generate("the ", 20, seed=0))
    assert len(pieces) == 21  # the last one is what was held back of a character: nothing here
    assert all(len(piece) == 1 for piece in pieces[:-1])


def test_a_tokenizer_without_line_breaks_begins_with_what_it_has(gpt: TinyGPT) -> None:
    one_line = TinyGPT(gpt.model, CharTokenizer("".join(map(chr, range(32, 288)))))
    for prompt in ("\n", ""):
        assert len("".join(one_line.generate(prompt, 5, seed=0))) == 5


def test_writes_what_it_learnt(trained: Path) -> None:
    text = "".join(TinyGPT.load(trained).generate("the ", 200, seed=0, temperature=0.5))
    assert {"the", "cat", "dog", "mat"} & set(text.split())


def test_a_seed_repeats_and_another_differs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    for seed in (1, 1, 2):
        assert main(["generate", str(trained), "--prompt", "a dog", "--seed", str(seed)]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] != written[2]
    assert all(text.startswith("a dog") and len(text) == 5 + 200 + 1 for text in written)


def test_stops_at_a_text(trained: Path) -> None:
    text = "".join(TinyGPT.load(trained).generate("the ", 200, seed=0, temperature=0.5, stop=["at"]))
    assert text.endswith("at")
    assert len(text) < 200


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.0, "top_k": 40}, {"top_p": 0.9}], ids=str)
@pytest.mark.parametrize("prompt", ["x", "a prompt longer than the window of twelve"], ids=["short", "long"])
@pytest.mark.filterwarnings("ignore:generate. prompt")
def test_kv_cache_gives_the_same_tokens(gpt: TinyGPT, prompt: str, sampling: dict[str, Any]) -> None:
    plain = "".join(gpt.generate(prompt, 40, seed=5, **sampling))  # 40 is past the context's end several times
    with tt_core.use("kv-cache"):
        cached = "".join(gpt.generate(prompt, 40, seed=5, **sampling))
    assert cached == plain
    assert len(set(plain)) > 3


def test_kv_cache_on_the_command_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    for extra in ([], ["--plugin", "kv-cache"]):
        assert main(["generate", str(trained), "--seed", "0", *extra]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]


def test_a_prompt_is_kept_in_a_file(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, written = tmp_path / "prompt.safetensors", []
    command = ["generate", str(trained), "--prompt", "a dog", "--max-new-tokens", "4", "--temperature", "0"]
    for extra in ([], ["--prompt-cache", str(file)], ["--prompt-cache", str(file)]):
        assert main([*command, *extra]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] == written[2]
    assert load_prompt_cache(file, TinyGPT.load(trained).model).length == len("a dog") + 3
    file.write_bytes(file.read_bytes()[:-1])
    assert main([*command, "--prompt-cache", str(file)]) == 1
    assert "is not a safetensors file, or is damaged" in capsys.readouterr().err


def test_a_saved_model_generates_the_same(gpt: TinyGPT, tmp_path: Path) -> None:
    from tinygpt.runs import RunFolder

    with RunFolder.begun(tmp_path / "run") as folder:
        folder.write_config({"model": gpt.model.config.to_dict()})
        gpt.save(folder)
    again = TinyGPT.load(folder.path)
    assert list(again.generate("x", 10, seed=1)) == list(gpt.generate("x", 10, seed=1))


def test_the_newest_run_is_the_default(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "only")
    monkeypatch.chdir(tmp_path)
    assert TinyGPT.load().model.num_parameters() > 0


def hugging_face_folder(folder: Path) -> dict[str, np.ndarray]:
    """A GPT-2 of one block with random weights, in the names and orders of Hugging Face."""
    tokenizer = BPETokenizer.train("the cat sat on the mat. " * 20, 270)
    width, context, vocab = 8, 16, tokenizer.vocab_size
    shapes = {"wte.weight": (vocab, width), "wpe.weight": (context, width)}
    matrices = {"attn.c_attn": 3 * width, "attn.c_proj": width, "mlp.c_fc": 4 * width, "mlp.c_proj": width}
    for name, out in matrices.items():  # stored as (in, out)
        inner = 4 * width if name == "mlp.c_proj" else width
        shapes |= {f"h.0.{name}.weight": (inner, out), f"h.0.{name}.bias": (out,)}
    for name in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {"model_type": "gpt2", "vocab_size": vocab, "n_positions": context, "n_layer": 1, "n_head": 2,
              "n_embd": width}  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(weights, folder / "model.safetensors")
    tokenizer.save(folder / "tokenizer.json")
    return weights


def test_loads_hugging_faces_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = hugging_face_folder(tmp_path / "gpt2")
    gpt = TinyGPT.load(tmp_path / "gpt2")
    projection = dict(gpt.model.named_parameters())["blocks.0.attention.in_proj.weight"]
    np.testing.assert_array_equal(projection.numpy(), weights["h.0.attn.c_attn.weight"].T)
    assert main(["generate", str(tmp_path / "gpt2"), "--prompt", "the cat", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("the cat")
    assert main(["info", str(tmp_path / "gpt2")]) == 0
    assert "n_embd=8" in capsys.readouterr().out
    assert main(["train", "--resume", str(tmp_path / "gpt2")]) == 1
    assert "no training to continue" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no shell that closes the output")
def test_an_output_that_was_closed_from_the_start_is_no_error(trained: Path) -> None:
    program = "import sys; from tinygpt.cli import main; sys.exit(main(['generate', sys.argv[1]]))"
    shell = ["sh", "-c", f'"{sys.executable}" -c "{program}" "{trained}" >&-']
    assert subprocess.run(shell, stderr=subprocess.PIPE, check=True).stderr == b""


def test_info_says_what_a_run_holds(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(trained)]) == 0
    told = capsys.readouterr().out
    assert "n_embd=32" in told
    assert "last figures: step=30, epoch=0, train_loss=" in told


def test_damaged_figures_are_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "tr', encoding="utf-8")  # killed while it wrote
    assert main(["info", str(run)]) == 1
    assert "metrics.jsonl is damaged: its last line is no object\n" in capsys.readouterr().err


def test_every_command_that_computes_takes_plugins() -> None:
    from tinygpt.cli import cli as tinygpt
    from tt_core.command.cli import cli as tt

    computing = [tinygpt.commands[name] for name in tinygpt.commands.keys() - {"info"}]
    computing += [tt.commands[name] for name in ("milestone", "run") if name in tt.commands]
    for command in computing:
        assert any("--plugin" in option.opts for option in command.params), command.name


def test_each_command_shows_its_summary_and_two_examples() -> None:
    from tinygpt.cli import cli
    from tinygpt.commands import SUMMARIES

    assert list(cli.commands) == list(SUMMARIES)
    for name, command in cli.commands.items():
        assert command.name == name
        assert (command.help or "").splitlines()[0] == SUMMARIES[name]
        assert (command.epilog or "").count(f"tinygpt {name}") == 2, name


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from tinygpt.cli import main; code = main(['--help']); "
        "sys.exit(code or 'tt_learn' in sys.modules or 'tinygpt.commands.train' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_ctrl_c_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def interrupted(name: str, *args: Any, **options: Any) -> Any:
        if name == "tt_core.command.common":
            raise KeyboardInterrupt
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert main(["generate"]) == 130
    assert capsys.readouterr() == ("", "")
