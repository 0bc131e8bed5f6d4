"""Loading, the first token and serving of a model of GPT-2's shape: 124 million random weights, 50,257 tokens.

    python benchmarks/serve.py [--rounds 5] [--plugin kv-cache ...] [--small] [--folder FOLDER]

The folder in Hugging Face's format is made in a temporary one, or in FOLDER, where it is kept. Then, in processes of
their own and in turn:

- load: `TinyGPT.load` in a process that has imported everything. Weights are mapped, so their bytes are read by the
  first token.
- first token: the whole command `tinygpt generate --max-new-tokens 1`, from the start of Python to its end.
- serve: tokens a second over HTTP, of one stream and of sixteen at once, and their ratio within each round.

Each has wall time, which other programs disturb, and processor time, which they disturb little. `--small` measures
serving with a GPT of 4 layers and 128 features too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "packages" / "tinygpt" / "tests" / "server" / "load_client.py"
VOCAB = 50_257
LOAD = """
import sys, time
from tinygpt.capstone.capstone import TinyGPT
wall, processor = time.perf_counter(), time.process_time()
TinyGPT.load(sys.argv[1])
print(time.perf_counter() - wall, time.process_time() - processor)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="of each stream")
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the model there, or take the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made) / "gpt2"
        if not (folder / "model.safetensors").exists():
            write_gpt2(folder)
        size = (folder / "model.safetensors").stat().st_size
        print(f"GPT-2's shape: {size / 1e6:.0f} MB in model.safetensors")
        plugins = [f"--plugin={name}" for name in options.plugin]
        starts(folder, plugins, options.rounds)
        streams("GPT-2's shape", folder, plugins, options.rounds, options.tokens)
        if options.small:
            write_small(Path(made) / "small")
            streams("4 layers, 128 features", Path(made) / "small", plugins, options.rounds, 150)


# --- models


def write_gpt2(folder: Path) -> None:
    import tt_core
    from tinygpt import TinyGPT
    from tt_language import GPT, GPTConfig

    tt_core.manual_seed(0)
    TinyGPT(GPT(GPTConfig(VOCAB, 1024, 12, 12, 768)), large_tokenizer()).save_pretrained(folder)


def large_tokenizer() -> object:
    """As many tokens and merges as GPT-2's tokenizer: those of Python's documentation, and random ones after them."""
    from tinygpt.capstone.documentation import documentation
    from tt_language import BPETokenizer

    learned = BPETokenizer.train(documentation(), VOCAB - 1)
    vocab, merges, draw = dict(learned.vocab), list(learned.merges), random.Random(0)
    tokens = list(vocab)
    while len(vocab) < VOCAB - 1:
        pair = (draw.choice(tokens), draw.choice(tokens))
        if pair[0] + pair[1] not in vocab:
            vocab[pair[0] + pair[1]] = len(vocab)
            merges.append(pair)
    return BPETokenizer(vocab, merges, learned.pattern, special_tokens=["<|endoftext|>"])


def write_small(folder: Path) -> None:
    from tinygpt import TinyGPT
    from tt_language import GPT, ByteTokenizer, GPTConfig

    TinyGPT(GPT(GPTConfig(256, 256, 4, 4, 128)), ByteTokenizer()).save(folder)


# --- loading, and the first token


def starts(folder: Path, plugins: Sequence[str], rounds: int) -> None:
    commands = {
        "load": [sys.executable, "-c", LOAD, str(folder)],
        "first token, from a cold start": generate(folder, plugins, 1),
        "17 tokens, from a cold start": generate(folder, plugins, 17),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(timed(command, itself=name == "load"))
    for name, times in found.items():
        print(f"{name}: {spread([wall for wall, _ in times])}, processor {spread([cpu for _, cpu in times])}")


def generate(folder: Path, plugins: Sequence[str], count: int) -> list[str]:
    options = ["--prompt", "The first", "--max-new-tokens", str(count), "--seed", "0"]
    return [sys.executable, "-m", "tinygpt.cli", "generate", str(folder), *options, *plugins]


def timed(command: Sequence[str], itself: bool) -> tuple[float, float]:
    """Wall and processor seconds of a process; `itself`: it prints them."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    if itself:
        wall, processor = map(float, done.stdout.split())
        return wall, processor
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.3f} s at best, median {statistics.median(seconds):.3f}"


# --- serving


def streams(name: str, folder: Path, plugins: Sequence[str], rounds: int, tokens: int) -> None:
    with serving(folder, plugins) as (port, processor):
        ask(port, 16, 4)
        one, many = [], []
        for _ in range(rounds):
            one.append(measured(port, 1, tokens, processor))
            many.append(measured(port, 16, tokens, processor))
    wall = statistics.median(b[0] / a[0] for a, b in zip(one, many))
    print(
        f"{name}, served: one stream {speeds(one)}, sixteen {speeds(many)}; sixteen give {wall:.1f} times the tokens/s"
    )
    if one[0][1]:
        costs = [[found[1] for found in side] for side in (one, many)]
        ratio = statistics.median(a / b for a, b in zip(*costs))
        alone, each = min(costs[0]), min(costs[1])
        print(f"  processor time of a token: {alone:.1f} ms alone, {each:.1f} of sixteen, {ratio:.1f} times less")


def speeds(found: Sequence[tuple[float, float]]) -> str:
    rates = [rate for rate, _ in found]
    return f"{max(rates):.0f} tokens/s at best, median {statistics.median(rates):.0f}"


@contextmanager
def serving(folder: Path, plugins: Sequence[str]) -> Iterator[tuple[int, Callable[[], float]]]:
    """A server while the block runs: its port, and what says how much processor time it has used."""
    command = [sys.executable, "-m", "tinygpt.cli", "serve", str(folder), "--port", "0", *plugins]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        address = re.search(r"http://[\d.]+:(\d+)", line)
        if address is None:
            raise SystemExit(f"the server did not start: {line}")
        print(f"the server listens after {time.perf_counter() - start:.2f} s")
        yield int(address[1]), lambda: processor_seconds(process.pid)
    finally:
        process.terminate()
        process.wait()


def processor_seconds(pid: int) -> float:
    """Of a running process; 0 where the system does not say (Linux does)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 0.0


def measured(port: int, count: int, tokens: int, processor: Callable[[], float]) -> tuple[float, float]:
    """Tokens a second of so many streams at once, and the server's milliseconds of processor time for each token."""
    before = processor()
    rate = ask(port, count, tokens)
    return rate, (processor() - before) * 1000 / (count * tokens)


def ask(port: int, count: int, tokens: int) -> float:
    command = [sys.executable, str(CLIENT), str(port), "speed", str(count), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["tokens_per_second"])


if __name__ == "__main__":
    main()
