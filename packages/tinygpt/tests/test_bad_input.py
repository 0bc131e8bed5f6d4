"""What a user can get wrong, and what can happen to files: one line, exit code 1, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tinygpt.capstone.reading
import tinygpt.memory
import tinygpt.needs
from tinygpt.cli import main
from tinygpt.runs import RunFolder
from tt_core.engine.errors import TinyTorchError
from tt_language import ByteTokenizer

Refused = Callable[..., str]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the text


def test_a_corpus_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    assert "cannot read corpus" in refused("train", "--corpus", tmp_path / "no.txt", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "holds no text"), (b" \n\n", "holds no text"), (b"caf\xe9 au lait", "not UTF-8 (byte 3)"),
     (b"short", "a smaller --block-size")],
    ids=["empty", "blank", "latin-1", "short"],
)  # fmt: skip
def test_a_corpus_that_cannot_be_trained_on(data: bytes, said: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(data)
    assert said in refused("train", "--corpus", tmp_path / "text.txt", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_text(refused: Refused, tmp_path: Path) -> None:
    assert "has no text files" in refused("train", "--corpus", tmp_path, "--out", tmp_path / "run")


# --- names and options


def test_unknown_names_come_with_the_near_ones(refused: Refused, trained: Path) -> None:
    assert "did you mean nanogpt-cpu?" in refused("train", "--preset", "nanogpt_cpu")
    assert "did you mean profiler?" in refused("train", "--plugin", "profilr")
    assert "did you mean kv-cache or kv-cache-int8?" in refused("generate", trained, "--plugin", "kvcache")


@pytest.mark.parametrize(
    ("option", "value"),
    [("steps", 0), ("batch-size", 0), ("block-size", 0), ("n-head", 5), ("n-layer", 0), ("val-fraction", 1),
     ("eval-interval", 0), ("eval-windows", 0), ("seed", -1), ("beta1", 1.5), ("learning-rate", -1),
     ("learning-rate", "inf"), ("dropout", 2), ("mlp", "glu"), ("tokenizer", "word"),
     ("position", "absolute"), ("norm", "batch"), ("optimizer", "sgd")],
)  # fmt: skip
def test_options_out_of_range_are_named_before_anything_is_written(
    option: str, value: object, refused: Refused, corpus: Path, tmp_path: Path
) -> None:
    arguments = ("--corpus", corpus, "--tokenizer", "byte", "--block-size", 16)
    line = refused("train", *arguments, "--out", tmp_path / "run", f"--{option}", value)
    assert option.replace("-", "_") in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("temperature", -1), ("temperature", "nan"), ("top-k", 0), ("top-p", 2), ("stop", "")]
)
def test_sampling_out_of_range_is_said_before_text_appears(
    option: str, value: object, refused: Refused, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert option.replace("-", "_") in refused("generate", trained, f"--{option}", value)


def test_a_prompt_with_characters_never_seen(
    refused: Refused, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "'€' not among" in refused("generate", trained, "--prompt", "the €")


def test_nothing_of_a_refused_prompt_is_printed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(trained), "--prompt", "the €"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("default:generate. prompt")
def test_a_prompt_longer_than_the_context_is_a_warning_in_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(trained), "--prompt", "the cat sat on the mat", "--max-new-tokens", "3"]) == 0
    warned = capsys.readouterr().err
    assert warned.startswith("warning: generate: prompt 0 has 22 tokens, the context 16")
    assert warned.count("\n") == 1


# --- the folder


def test_a_folder_that_holds_a_run_is_not_written_to(
    refused: Refused, train: Callable[..., int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert train(run) == 1
    assert "--resume" in capsys.readouterr().err
    assert contents(run) == before


def test_an_out_that_is_a_file(refused: Refused, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    line = refused("train", "--corpus", corpus, "--preset", "tiny", "--block-size", 16, "--out", tmp_path / "file")
    assert "cannot create folder" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_run_that_is_not_there(refused: Refused, run: Path, tmp_path: Path) -> None:
    (tmp_path / "rum").mkdir()  # near, but no run
    assert refused("generate", tmp_path / "runn").endswith(f"did you mean {run}?\n")
    assert "train one with" in refused("generate", tmp_path / "elsewhere" / "x")
    assert "is no run" in refused("info", tmp_path)


def test_no_run_at_all(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "train one with: tinygpt train" in refused("generate")


def test_a_run_without_model_or_checkpoint(refused: Refused, run: Path) -> None:
    (run / "model.safetensors").unlink()
    assert "tinygpt train --resume" in refused("generate", run)
    (run / "checkpoint" / "last.safetensors").unlink()
    assert "start it again" in refused("generate", run)
    assert "no checkpoint/last.safetensors" in refused("train", "--resume", run)


def test_resuming_with_other_options(refused: Refused, run: Path) -> None:
    for option in (("--seed", 1), ("--preset", "docs"), ("--out", "other")):
        assert "only --steps, --plugin and --threads" in refused("train", "--resume", run, *option)


def test_the_tokenizer_of_another_run(refused: Refused, run: Path) -> None:
    ByteTokenizer().save(run / "tokenizer.json")
    for command in (("train", "--resume", run), ("generate", run)):
        assert "has 256 entries, the model knows" in refused(*command)


@pytest.mark.parametrize("fraction", ["1e-17", "1e-320"])
def test_a_fraction_of_which_nothing_is_left(fraction: str, refused: Refused, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "use more text" in refused("train", "--corpus", corpus, "--val-fraction", fraction, "--out", out)


def test_resuming_on_another_text(refused: Refused, train: Callable[..., int], corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(corpus.read_bytes())
    assert train(tmp_path / "run", "--corpus", text, "--steps", 2) == 0
    text.write_bytes(corpus.read_bytes().replace(b"dog", b"cat"))
    before = contents(tmp_path / "run")
    assert "is not the text" in refused("train", "--resume", tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_resuming_to_fewer_steps_than_were_done(refused: Refused, run: Path) -> None:
    before = contents(run)
    assert "has done 30 steps already" in refused("train", "--resume", run, "--steps", 20)
    assert contents(run) == before


def test_two_trainings_cannot_write_to_one_run(
    refused: Refused, train: Callable[..., int], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(run).writing():
        assert "another training is writing" in refused("train", "--resume", run)
        assert main(["generate", str(run), "--max-new-tokens", "3"]) == main(["info", str(run)]) == 0
    with RunFolder.begun(tmp_path / "new") as folder:
        assert train(folder.path) == 1
        assert "another training is writing" in capsys.readouterr().err
    assert main(["train", "--resume", str(run)]) == 0
    assert not list(run.glob(".*"))


def test_a_lock_file_that_a_crash_left_locks_nothing(run: Path) -> None:
    (run / ".tinygpt-lock").touch()
    assert main(["train", "--resume", str(run)]) == 0


def test_a_run_that_was_killed_before_it_saved_anything(
    refused: Refused, train: Callable[..., int], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    (runs / "killed").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "metrics.jsonl"):
        (runs / "killed" / name).write_bytes((run / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert "no run under runs/ has a model yet" in refused("generate")
    run.rename(runs / "whole")
    os.utime(runs / "whole" / "model.safetensors", (1, 1))
    assert main(["generate", "--max-new-tokens", "3"]) == 0  # of the one that has a model
    assert train(runs / "killed", "--steps", 2) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, TinyTorchError])
def test_a_run_that_ends_before_it_saved_anything_is_removed(error: Any, tmp_path: Path) -> None:
    def end(name: str) -> None:
        with RunFolder.begun(tmp_path / name) as folder:
            folder.write_config({"training": {}})
            folder.checkpoint.mkdir()
            raise error

    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        with pytest.raises(error):
            end(name)
    assert contents(tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # which was there before


def test_what_was_meant(refused: Refused, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    assert main(["generate", str(run / "model.safetensors"), "--max-new-tokens", "3"]) == 0
    assert f"name the run: {run}" in refused("generate", run / "checkpoint" / "best.safetensors")
    for text in ("Hello", "Hello world. It is", "x" * 5000):  # the last is too long for a name
        assert f'tinygpt generate --prompt "{text[:100]}' in refused("generate", text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("train", "--lr", "1"), "No such option --lr; here it is --learning-rate (see: tinygpt train --help)"),
     (("train", "--epochs=3"), "here it is --steps"), (("train", "--stepz", "3"), "--steps"),
     (("generate", "--max_tokens", "3"), "--max-new-tokens"), (("generate", "--lr", "3"), "No such option '--lr'"),
     (("train", "--steps"), "requires an argument"), (("trian",), "trian"), (("train", "--steps", "x"), "not a valid")],
    ids=str,
)  # fmt: skip
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert said in line


def test_options_may_have_underscores(refused: Refused) -> None:
    assert "batch_size is 0" in refused("train", "--batch_size", 0)


# --- damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "noise": lambda data: b"\xff\x00" * 40,
    "list": lambda data: b"[1]",
    "object": lambda data: b"{}",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "checkpoint/last.safetensors"])
def test_a_damaged_file_is_named_and_left_alone(file: str, damage: str, refused: Refused, run: Path) -> None:
    path = run / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = contents(run)
    command = ["train", "--resume"] if file.startswith("checkpoint") else ["generate"]
    assert path.name in refused(*command, run)
    assert contents(run) == before


def test_names_that_are_no_utf8(train: Callable[..., int], run: Path, corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "text\udcff.txt"
    try:
        text.write_bytes(corpus.read_bytes())
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    assert train(tmp_path / "other", "--corpus", text, "--steps", 2) == 0
    assert main(["train", "--resume", str(tmp_path / "other"), "--steps", "4"]) == 0
    assert main(["generate", str(run), "--stop", "\udcff", "--max-new-tokens", "3"]) == 0


def test_who_reads_a_run_leaves_the_files_that_a_training_is_writing(run: Path) -> None:
    half = run / "model.safetensors.tmp-tinytorch-1-1"
    half.touch()
    assert main(["generate", str(run), "--max-new-tokens", "3"]) == main(["info", str(run)]) == 0
    assert half.exists()
    assert main(["train", "--resume", str(run)]) == 0  # a training that was killed left it
    assert not half.exists()


def test_figures_that_are_damaged(refused: Refused, run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe")
    assert "metrics.jsonl is damaged" in refused("info", run)


def test_what_cannot_be_read_is_not_called_damaged(refused: Refused, run: Path) -> None:
    for name in ("metrics.jsonl", "config.json"):
        (run / name).unlink()
        (run / name).mkdir()  # which no system reads as a file
        assert f"cannot read {run / name}" in refused("info", run)


@pytest.mark.parametrize(
    "option",
    ["batch-size", "n-embd", "n-layer", "block-size", "vocab-size"],
)
def test_sizes_larger_than_memory_are_refused_before_anything_is_allocated(
    option: str, refused: Refused, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, large = tmp_path / "run", 1 << 40
    if option == "vocab-size":  # bpe learns no more entries than the text has
        monkeypatch.setattr(tinygpt.needs, "available_memory", lambda: 10**6)
        large = 600
    line = refused("train", "--corpus", corpus, "--tokenizer", "bpe", f"--{option}", large, "--out", out)
    assert "this training needs" in line
    assert f"--{option}" in line
    assert "are free" in line
    assert not out.exists()


def test_a_batch_as_large_as_advised_fits(
    refused: Refused, train: Callable[..., int], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tinygpt.needs, "available_memory", lambda: 6 * 10**6)
    tiny = ("--preset", "tiny", "--tokenizer", "char", "--n-layer", 1, "--n-embd", 32, "--block-size", 16)
    given = ("--corpus", corpus, *tiny, "--out", tmp_path / "run", "--steps", 1)
    most = re.search(r"up to (\d+)", refused("train", *given, "--batch-size", 10**6))
    assert most is not None
    assert "up to" in refused("train", *given, "--batch-size", int(most[1]) + 1)
    assert train(tmp_path / "run", "--steps", 1, "--batch-size", int(most[1])) == 0


def test_a_text_larger_than_memory(
    refused: Refused, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tinygpt.capstone.reading, "available_memory", lambda: 24 * 1000)
    endless = [Path("/dev/zero")] if Path("/dev/zero").is_char_device() else []
    for path in (corpus, corpus.parent, *endless):
        assert "does not fit in memory" in refused("train", "--corpus", path)


def test_the_system_says_how_much_memory_is_free() -> None:
    free = tinygpt.memory.available_memory()
    assert free is None or 10**6 < free < 10**15


def test_a_flipped_bit_in_a_checkpoint(refused: Refused, run: Path) -> None:
    path = run / "checkpoint" / "last.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "differs from what was saved" in refused("train", "--resume", run)


def set_entry(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("command", "keys", "to"),
    [("generate", ("model",), [1]), ("generate", ("model", "n_embd"), "a"), ("generate", ("model", "n_embd"), 64),
     ("generate", ("model", "n_embd"), 10**9), ("generate", ("model", "n_layer"), 10**9),
     ("generate", ("model", "block_size"), 10**9), ("generate", ("model", "new"), 1), ("train", ("training",), [1]),
     ("train", ("training", "steps"), "many"), ("train", ("training", "new"), 1), ("train", ("corpus",), []),
     ("train", ("corpus", "path"), 3), ("train", ("corpus", "path"), "gone.txt"), ("info", ("model",), [1])],
    ids=str,
)  # fmt: skip
def test_a_config_that_does_not_fit(command: str, keys: tuple[str, ...], to: Any, refused: Refused, run: Path) -> None:
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    set_entry(*keys, to=to)(config)
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(command, *(["--resume"] if command == "train" else []), run)


# --- a disk that is full


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_the_start(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fsync", full)
    assert train(tmp_path / "run") == 1
    line = capsys.readouterr().err
    assert os.strerror(errno.ENOSPC) in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["loss.svg", "tokenizer.json", "model.safetensors", "checkpoint/last.safetensors"])
def test_a_disk_that_fills_while_a_file_is_saved(
    name: str, refused: Refused, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fsync = contents(run), os.fsync

    def fills(descriptor: int) -> None:
        if list(run.glob(f"{name}.tmp-*")):  # the file beside the old one, which is to replace it
            full()
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        assert os.strerror(errno.ENOSPC) in refused("train", "--resume", run, "--steps", 40)
    assert contents(run)[name] == before[name]
    assert not list(run.rglob("*.tmp-*"))
    assert main(["generate", str(run), "--max-new-tokens", "3"]) == 0
    assert main(["train", "--resume", str(run), "--steps", "40"]) == 0  # once there is room again


def test_commands_say_what_is_in_the_way_and_what_to_do(run: Path, refused: Refused, tmp_path: Path) -> None:
    assert refused("finetune", run, "--data", tmp_path / "none.jsonl").count("none.jsonl") == 1
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["finetuning"] = config.pop("training")
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "continue with: tinygpt finetune --resume" in refused("train", "--resume", tmp_path / "tuned")
    assert "give one of --int8 and --int4" in refused("quantize", run, "--int8", "--int4")
    assert "--resume" not in refused("quantize", run, "--out", run)  # there is no training to continue
    assert "is a folder; name a file" in refused("story", run, "--out", tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "cannot create folder" in refused("story", run, "--out", tmp_path / "file" / "story.html")


def test_info_describes_a_fine_tuning(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "text.txt"
    data.write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    assert main(["finetune", str(run), "--data", str(data), "--steps", "2", "--out", str(tmp_path / "tuned")]) == 0
    assert f"let it write: tinygpt generate {tmp_path / 'tuned'}\n" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "tuned")]) == 0
    told = capsys.readouterr().out
    assert f"base: {run}" in told
    assert "finetuning: lora=False" in told
    assert "unknown" not in told
