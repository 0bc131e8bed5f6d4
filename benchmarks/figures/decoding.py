"""Module 17: what a token with a cache costs, beside the least that reading its bytes from memory would take.

    python benchmarks/figures/decoding.py [--layers 12 --width 768] [--plugin jit] [--busy]

To choose a token, every weight is read once, and every key and value of the cache. Bytes over the bandwidth of this
machine is therefore the least time, as long as the weights fit in no cache of the processor (here 85 million and more).
The tokens from position 32 to 1,000 may take 1.2 times as long.

The bandwidth is measured between every 32 tokens, by the faster of two ways to pass over memory: a copy, where each
byte counts twice, and products of a matrix with one row. Medians of both sides are compared, since other programs slow
both down. `--busy` compares processor time on one thread, which they disturb less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from figures import Figures

import tt_core
from tt_core import use
from tt_language import GPT, GPTConfig, stream
from tt_perf import KVCachePlugin

FIRST, LAST, BLOCK = 32, 1000, 32
SIDE = 4096  # of the matrix that is passed over: 64 MiB


def passes(threads: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Bytes that each way to pass over memory moves, and the way, shared by threads."""
    matrix, other = np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32)
    row, pool = np.ones(SIDE, np.float32), ThreadPoolExecutor(threads)
    parts = np.array_split(np.arange(SIDE), threads)
    rows = [slice(part[0], part[-1] + 1) for part in parts]

    def each(work: Callable[[slice], object]) -> Callable[[], object]:
        return (lambda: work(rows[0])) if threads == 1 else lambda: list(pool.map(work, rows))

    return {
        "copy": (2 * matrix.nbytes, each(lambda some: np.copyto(other[some], matrix[some]))),
        "product": (matrix.nbytes, each(lambda some: matrix[some] @ row)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in {"layers": 12, "heads": 12, "width": 768, "vocabulary": 8192}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    clock = time.thread_time if options.busy else time.perf_counter
    if options.busy:
        tt_core.set_num_threads(1)
    config = GPTConfig(options.vocabulary, 1024, options.layers, options.heads, options.width, dropout=0.0)
    model = GPT(config).eval()
    arrays = {id(p.data): p.nbytes for p in model.parameters()}
    weights = sum(arrays.values()) - 4 * config.block_size * config.n_embd  # of the positions, one row is read
    ways = passes(tt_core.get_num_threads())
    seconds: list[float] = []
    bandwidths: dict[str, list[float]] = {name: [] for name in ways}
    with use(KVCachePlugin(), *options.plugin, report=False):
        list(stream(model, [1, 2, 3], 3, temperature=0, ignore_eos=True))  # compiles what a plugin compiles
        tokens = stream(model, list(range(FIRST)), LAST - FIRST, temperature=0, ignore_eos=True)
        next(tokens)  # reads the prompt
        for position in range(FIRST, LAST - 1):
            if position % BLOCK == 0:
                for name, (moved, way) in ways.items():
                    start = clock()
                    way()
                    bandwidths[name].append(moved / (clock() - start))
            start = clock()
            next(tokens)
            seconds.append(clock() - start)
    middles = {name: statistics.median(found) for name, found in bandwidths.items()}
    bandwidth = max(middles.values())
    cache = [8 * config.n_layer * config.n_embd * (FIRST + i) for i in range(len(seconds))]
    print(f"{weights / 1e6:.0f} MB of weights, {cache[-1] / 1e6:.0f} MB of cache at the end")
    print("from memory: " + ", ".join(f"{rate / 1e9:.1f} GB/s by {name}" for name, rate in middles.items()))
    least = [(weights + held) / bandwidth for held in cache]
    for at in range(0, len(seconds) - BLOCK, 8 * BLOCK):
        middle, expected = statistics.median(seconds[at : at + BLOCK]), statistics.median(least[at : at + BLOCK])
        print(f"  position {FIRST + at:4}: {middle * 1e3:6.2f} ms, reading the bytes {expected * 1e3:6.2f} ms")
    blocks = range(0, len(seconds) - BLOCK + 1, BLOCK)
    ratio = statistics.median(
        statistics.median(seconds[at : at + BLOCK]) / statistics.median(least[at : at + BLOCK]) for at in blocks
    )
    figures = Figures()
    figures.at_most("time a token, over that of reading its bytes", ratio, 1.2)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
