"""Training writes a whole run folder, learns, and goes on from an interruption to the same bits."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygpt.capstone.callbacks
import tinygpt.runs
from tinygpt.capstone import TinyGPT
from tinygpt.capstone.callbacks import Estimate, Sample
from tinygpt.capstone.corpus import Tokens, split_tokens
from tinygpt.capstone.documentation import documentation
from tinygpt.capstone.presets import gpt_config, preset
from tinygpt.capstone.reading import Corpus, read_corpus
from tinygpt.capstone.showcase import sample, usual_opening
from tinygpt.capstone.train import new_optimizer
from tinygpt.cli import main
from tinygpt.runs import RunFolder
from tt_core.command.cli import main as tt
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, BPETokenizer, ByteTokenizer, CharTokenizer
from tt_learn import AdamW, Muon, ProgressBar, Trainer

Train = Callable[..., int]


def figures(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["train_loss"], line["val_loss"]) for line in figures(run)]


def test_leaves_a_whole_run_folder(trained: Path) -> None:
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    written = {"config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl", "samples.jsonl", "loss.svg"}
    assert files == written | {"checkpoint/last.safetensors", "checkpoint/best.safetensors"}


def test_metrics_hold_the_figures_of_each_line(trained: Path) -> None:
    lines = figures(trained)
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert all({"train_loss", "val_loss", "tokens_per_second", "seconds"} <= line.keys() for line in lines)
    assert all(line["tokens_per_second"] > 0 for line in lines)


def test_loss_curve_is_well_formed(trained: Path) -> None:
    root = ElementTree.parse(trained / "loss.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{*}polyline")) == 2


def test_loss_falls_on_a_text_that_can_be_learnt(trained: Path) -> None:
    first, *_, last = figures(trained)
    assert last["val_loss"] < first["val_loss"] - 0.3
    assert last["val_loss"] < 2.0  # log(17 characters) is 2.8


def test_the_same_seed_gives_the_same_bits(train: Train, trained: Path, tmp_path: Path) -> None:
    assert train(tmp_path / "again") == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C; a process that a script started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("step", [4, 10, 17])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    step: int, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ProgressBar):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.step == step:
                signal.raise_signal(signal.SIGINT)

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train(whole, "--dropout", 0.1) == 0
    with monkeypatch.context() as patch:
        patch.setattr(tinygpt.capstone.callbacks, "ProgressBar", Interrupted)
        assert train(halves, "--dropout", 0.1) == 130
    assert f"tinygpt train --resume {halves}" in capsys.readouterr().out
    assert TinyGPT.load(halves).model.num_parameters() > 0  # what was learned can be used at once
    assert main(["train", "--resume", str(halves)]) == 0
    assert (halves / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert losses(halves) == losses(whole)
    assert RunFolder(halves).read_samples() == RunFolder(whole).read_samples()
    assert [sample["step"] for sample in RunFolder(whole).read_samples()] == [10, 20, 30]


def test_a_run_that_ends_before_its_first_model_can_be_resumed(
    train: Train, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is there before the model: never a model that cannot be trained further."""

    def killed(*_: object) -> None:
        raise TinyTorchError("killed while the model is written")

    with monkeypatch.context() as patch:
        patch.setattr(TinyGPT, "save", killed)
        assert train(tmp_path / "run") == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert losses(tmp_path / "run") == losses(trained)


def test_training_is_the_same_bits_without_the_samples(
    train: Train, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "shown", "--dropout", 0.1, "--steps", 20) == 0
    shown = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(tinygpt.capstone.callbacks.Sample, "on_log", lambda *_: None)
    assert train(tmp_path / "hidden", "--dropout", 0.1, "--steps", 20) == 0
    hidden = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in shown if line not in hidden].count("  ") == 2  # one a validation
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("shown", "hidden")]
    assert weights[0] == weights[1]


def test_a_sample_is_one_line_that_fits_the_terminal(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in (12, 60, 500):
        monkeypatch.setenv("COLUMNS", str(columns))
        Sample(TinyGPT.load(trained), RunFolder(tmp_path), print).on_log(SimpleNamespace(step=1), {"val_loss": 1.0})  # type: ignore[arg-type]
        line = capsys.readouterr().out
        assert 2 < len(line.rstrip("\n")) < columns
        assert line.count("\n") == 1


def test_training_says_what_it_will_take(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run", "--steps", 20) == 0
    told = capsys.readouterr().out
    assert re.search(r"model: [\d,]+ parameters; to train it takes about [\d.]+ [kMG]B", told)
    assert len(re.findall(r"time: about .+ ms a step; Ctrl-C saves", told)) == 1


def test_the_estimated_time_is_that_of_the_steps_to_come(trained: Path) -> None:
    said: list[str] = []
    config = preset("tiny", steps=1005, eval_interval=10_000, block_size=16, batch_size=8)
    model = TinyGPT.load(trained).model
    estimate = Estimate(model, config, Tokens(np.arange(0), np.arange(32 * 16), 0), said.append)  # the end takes a step
    for step in range(1, 8):
        estimate.on_step_end(SimpleNamespace(step=step, seconds=100 + 0.1 * step))  # type: ignore[arg-type]
    assert said[0] == "time: about 1 min 40 s, at 100 ms a step; Ctrl-C saves, --resume goes on"
    assert re.fullmatch(r"speed: [\d.e-]+ GFLOP/s, \d+% of what this machine's products reach", said[1])


def test_a_finished_run_takes_more_steps(run: Path) -> None:
    assert main(["train", "--resume", str(run), "--steps", "40"]) == 0
    assert [line["step"] for line in figures(run)] == [10, 20, 30, 40]
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["training"]["steps"] == 40


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_trains_with_each_tokenizer(tokenizer: str, train: Train, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(out, "--tokenizer", tokenizer, "--vocab-size", 280, "--steps", 2) == 0
    loaded = TinyGPT.load(out).tokenizer
    assert isinstance(loaded, {"byte": ByteTokenizer, "bpe": BPETokenizer}[tokenizer])
    assert loaded.decode(loaded.encode("the cat")) == "the cat"


def test_plugins_do_not_change_what_is_learnt(
    train: Train, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--plugin", "profiler") == 0
    assert "linear" in capsys.readouterr().err
    assert losses(tmp_path / "run") == losses(trained)


def test_tt_profile_measures_a_training(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "8", "--tokenizer", "char"]
    given = ["train", "--preset", "tiny", "--corpus", str(corpus), "--out", "run", "--steps", "3", *sizes]
    assert tt(["profile", "--rows", "40", "--", "tinygpt", *given]) == 0
    said = capsys.readouterr().out
    for words in ("step 3/3", "MultiHeadAttention", "AdamW.step", "backward of linear", "bound", "flame.svg"):
        assert words in said
    assert "Held at the peak" in Path("profile/memory.svg").read_text(encoding="utf-8")
    assert tt(["profile", "--", "tinygpt", "generate", "missing"]) == 1
    assert "missing" in capsys.readouterr().err


def test_runs_that_begin_in_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tinygpt.runs.time, "strftime", lambda form: "now")
    for name in ("now", "now_2", "now_3"):
        with RunFolder.begun(None) as folder:
            assert folder.path.name == name
            folder.model.touch()


def test_every_python_carries_the_default_corpus() -> None:
    corpus = read_corpus(None)
    assert len(corpus.text) > 300_000
    assert "expression" in corpus.text


def test_a_folder_is_read_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.txt", "a.md", "inner/c.txt", "picture.png"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert read_corpus(tmp_path).text == "a.md\n\nb.txt\n\ninner/c.txt"


def test_a_run_is_resumed_with_its_own_options_and_not_with_those_of_a_preset(run: Path, tmp_path: Path) -> None:
    """A run that is older than an option was trained with GPT-2's shape and AdamW, whatever the presets are now."""
    older = Path(shutil.copytree(run, tmp_path / "older"))
    written = json.loads((older / "config.json").read_text(encoding="utf-8"))
    for part in ("training", "model"):
        written[part] = {k: v for k, v in written[part].items() if k not in ("position", "norm", "mlp", "optimizer")}
    (older / "config.json").write_text(json.dumps(written), encoding="utf-8")
    for each in (run, older):
        assert main(["train", "--resume", str(each), "--steps", "35"]) == 0
    assert losses(older) == losses(run)
    kept = json.loads((older / "config.json").read_text(encoding="utf-8"))["training"]
    assert (kept["position"], kept["optimizer"], kept["steps"]) == ("learned", "adamw", 35)


def test_a_run_below_its_own_corpus_can_be_resumed(train: Train, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(corpus.read_bytes())
    assert train(tmp_path / "runs" / "one", "--corpus", tmp_path, "--steps", 2) == 0
    assert main(["train", "--resume", str(tmp_path / "runs" / "one"), "--steps", "4"]) == 0


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes("text\r\n".encode("utf-8-sig"))
    assert read_corpus(tmp_path / "text.txt").text == "text\n"


def test_help_says_what_an_option_takes_and_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "--tokenizer TEXT char, byte or bpe [docs: bpe, nanogpt-cpu: char, shakespeare: char, tiny: bpe]" in told
    assert "--seed INTEGER [default: 1337]" in told


def test_validation_windows_never_overlap_training() -> None:
    text = "".join(map(chr, range(100, 200)))
    tokens = split_tokens(Corpus(text, "text"), ByteTokenizer(), 4, 0.25)
    assert [*tokens.train, *tokens.val] == ByteTokenizer().encode(text)
    x, y = tokens.validation(3, 4)[0]
    assert x.shape == (3, 4)
    assert (x[:, 1:] == y[:, :-1]).all()


@pytest.mark.parametrize("first", [0.0, 0.3, 1 - 2**-53])
def test_windows_cover_the_text_evenly(first: float) -> None:
    tokens = Tokens(train=np.arange(1000), val=np.arange(0), val_bytes=0)
    batches = [tokens.batch(step, 4, 10, first) for step in range(250)]  # each token is read 10 times on average
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert x.min() >= 0
    assert y.max() <= 999
    assert (y == x + 1).all()
    read = np.bincount(x.ravel(), minlength=1000)[10:-11]
    assert read.min() >= 7
    assert read.max() <= 13


def test_accumulated_batches_train_as_one_large_batch(train: Train, trained: Path, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--batch-size", 4, "--accumulate", 2) == 0
    pairs = [
        (line["train_loss"], whole["train_loss"])
        for line, whole in zip(figures(tmp_path / "run"), figures(trained), strict=True)
    ]
    assert pairs[0][0] != pairs[-1][0]
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-4)


def test_a_run_that_accumulates_is_resumed_to_the_same_bits(train: Train, tmp_path: Path) -> None:
    options = ("--batch-size", 4, "--accumulate", 3, "--learning-rate", 0.01, "--min-lr", 0.01)
    assert train(tmp_path / "whole", *options) == 0
    assert train(tmp_path / "halves", *options, "--steps", 10) == 0
    assert main(["train", "--resume", str(tmp_path / "halves"), "--steps", "30"]) == 0
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "halves")]
    assert weights[0] == weights[1]


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    tokens = Tokens(np.arange(0), np.arange(10), val_bytes=10)
    assert tokens.bits_per_byte(np.log(2)) == 1
    assert Tokens(np.arange(0), np.arange(10), val_bytes=40).bits_per_byte(4 * np.log(2)) == 1
    text = "aä€" * 30
    assert split_tokens(Corpus(text, "text"), ByteTokenizer(), 4, 0.5).val_bytes == 90
    assert split_tokens(Corpus(text, "text"), CharTokenizer(text), 4, 0.5).val_bytes == 90


def test_depth_sets_what_is_not_given(train: Train, tmp_path: Path) -> None:
    config = preset("tiny", depth=2, batch_size=4, learning_rate=0.5)
    assert (config.n_layer, config.n_head, config.n_embd, config.learning_rate) == (2, 2, 128, 0.5)
    assert config.steps == round(2 * 12 * 2 * 128**2 / (4 * 64))
    assert preset("tiny", depth=2, steps=7, n_head=4).n_head == 4
    assert train(tmp_path / "run", "--depth", 1, "--steps", 2, "--n-embd", 32) == 0
    assert json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["model"]["n_layer"] == 1


def test_depth_gives_muon_a_rate_of_its_own() -> None:
    rates = [preset("tiny", depth=4, optimizer=name).learning_rate for name in ("adamw", "muon")]
    assert rates[1] == pytest.approx(10 * rates[0])


def test_another_optimizer_brings_its_learning_rate() -> None:
    for name, muon, adamw in (("docs", 1e-2, 1e-3), ("shakespeare", 1e-2, 1e-3), ("tiny", 1e-2, 1e-3)):
        assert preset(name, optimizer="muon").learning_rate == pytest.approx(muon)
        assert preset(name, optimizer="adamw").learning_rate == pytest.approx(adamw)
        assert preset(name, optimizer="adamw", learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(TinyTorchError, match="optimizer is sgd, expected adamw, muon"):
        preset("docs", optimizer="sgd")


@pytest.mark.parametrize(("name", "share"), [("docs", 0.0), ("shakespeare", 0.0), ("tiny", 0.1)])
def test_depth_keeps_the_share_of_the_last_learning_rate(name: str, share: float) -> None:
    config = preset(name, depth=3)
    assert config.min_lr == pytest.approx(share * config.learning_rate)


SHAKESPEARE = ["--preset", "shakespeare", "--n-layer", "1", "--n-head", "2", "--n-embd", "32", "--block-size", "16"]
SHAKESPEARE += ["--batch-size", "4", "--steps", "12", "--eval-interval", "4", "--warmup-steps", "2"]


def test_the_best_preset_builds_learns_and_exports(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", "--corpus", str(corpus), "--out", str(run), *SHAKESPEARE]) == 0
    found = [line["val_loss"] for line in figures(run)]
    assert found[-1] < found[0] < np.log(17)  # characters
    gpt = TinyGPT.load(run)
    shape = gpt.model.config
    assert (shape.position, shape.norm, shape.mlp, shape.bias) == ("rotary", "rms", "swiglu", False)
    gpt.save_pretrained(tmp_path / "llama")
    assert json.loads((tmp_path / "llama/config.json").read_text(encoding="utf-8"))["model_type"] == "llama"


@pytest.mark.usefixtures("ctrl_c")
def test_muon_goes_on_to_the_same_bits(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ProgressBar):
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                signal.raise_signal(signal.SIGINT)

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["train", "--corpus", str(corpus), "--out", str(whole), *SHAKESPEARE]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(tinygpt.capstone.callbacks, "ProgressBar", Interrupted)
        assert main(["train", "--corpus", str(corpus), "--out", str(halves), *SHAKESPEARE]) == 130
    assert main(["train", "--resume", str(halves)]) == 0
    assert (halves / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_muon_updates_the_matrices_of_the_layers_alone(position: str) -> None:
    config = preset("shakespeare", n_layer=2, n_head=2, n_embd=16, block_size=8, position=position)
    model = GPT(gpt_config(config, vocab_size=11))
    optimizer = new_optimizer(model, config)
    assert isinstance(optimizer, Muon)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]
    assert groups[0] == {name for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert groups[1] == {"wte.weight", "wpe.weight"} & set(names.values())
    assert sum(map(len, groups)) == len(names)
    assert [group["use_muon"] for group in optimizer.param_groups] == [True, False, False]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {config.learning_rate}
    assert isinstance(new_optimizer(model, preset("tiny")), AdamW)


def test_options_come_from_a_file_and_the_command_wins(corpus: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(f"preset = 'tiny'\ncorpus = '{corpus.as_posix()}'\nsteps = 3\nn_embd = 32\n", encoding="utf-8")
    assert main(["train", "--config", str(file), "--out", str(out), "--steps", "2", "--tokenizer", "byte"]) == 0
    written = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (written["training"]["steps"], written["model"]["n_embd"], written["model"]["n_layer"]) == (2, 32, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step = 3", "no option is called step; did you mean steps"),
        ("steps = '3'", "steps is '3', expected int"),
        ("steps = true", "steps is True, expected int"),
        ("steps =", "is no TOML"),
        ("depth = 0", "depth is 0, expected 1 layer or more"),
        ("[training]\nsteps = 3", "no option is called training"),
    ],
)
def test_a_file_of_options_that_is_wrong_is_one_line(
    text: str, message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    assert message in refused("train", "--config", tmp_path / "run.toml")
    assert "cannot read" in refused("train", "--config", tmp_path / "absent.toml")


def test_python_carries_a_million_characters_of_english() -> None:
    text = documentation()
    assert len(text) > 1_000_000
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) > 5_000
    assert all(p[0].isupper() and "\n" not in p and p[-1] in ".!?:" for p in paragraphs)
    letters = sum(character.isalpha() or character == " " for character in text)
    assert letters > 0.94 * len(text)
    assert documentation() == text


def test_without_sources_another_text_is_asked_for(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinygpt.capstone.reading.documentation", lambda: "")
    assert "name a --corpus FILE" in refused("train", "--preset", "tiny")


def test_training_ends_with_a_sample_and_says_how_many_of_its_words_are_real(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run") == 0
    told = capsys.readouterr().out
    known, words, share = map(int, re.findall(r"\[(\d+) of its (\d+) words occur in the text \((\d+)%\)\]", told)[0])
    assert 0 < known <= words
    assert share == round(100 * known / words)
    assert share > 50  # it has learned to spell the twelve words of this text


def test_words_that_the_text_does_not_have_are_counted() -> None:
    class Writes(TinyGPT):
        def generate(self, prompt: str = "", *given: Any, **options: Any) -> Iterator[str]:
            yield from (" The cat zat", " on the mat, frob", " cu")

    gpt = TinyGPT.__new__(Writes)
    gpt.tokenizer = ByteTokenizer()
    shown = sample(gpt, "the cat sat on\nthe mat")
    assert shown.text == " The cat zat on the mat, frob"
    assert (shown.known, shown.words) == (5, 7)


def test_the_usual_opening_is_the_one_of_most_paragraphs() -> None:
    text = "\n\n".join(["Return the sum of all.", "Return the mean.", "A list of numbers."] * 9)
    assert usual_opening(text) == "Return the"
    assert usual_opening("one two three") == usual_opening("") == "\n"
