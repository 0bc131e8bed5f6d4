"""Worker processes: what they deliver, how they fail, and what they leave behind (nothing)."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import shared_memory
from pathlib import Path

import loader_cases
import numpy as np
import pytest
from loader_cases import Exiting, Failing, Growing, Hanging, Numbers, Slow, Suicidal, Threads, Unloadable

from tt_core.engine.errors import TinyTorchError
from tt_data import DataLoader, MemmapDataset, TensorDataset, WorkerError
from tt_data.dataloader.workers import processes
from tt_data.dataloader.workers.memory import NAME_PREFIX, Arena, load, size_of, store

CASES = Path(loader_cases.__file__).parent
posix = pytest.mark.skipif(os.name == "nt", reason="needs signals")


def segments() -> set[str]:
    """Shared memory of this process's loaders that the system still holds."""
    shm = Path("/dev/shm")
    return {path.name for path in shm.glob(f"{NAME_PREFIX}{os.getpid():x}_*")} if shm.is_dir() else set()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] != "Z"
    except OSError:
        return os.name == "nt"


@pytest.fixture(autouse=True)
def _leaves_nothing():
    yield
    gc.collect()
    assert segments() == set()


def expect_death(loader, pattern, batches=None):
    pids = set()
    with pytest.raises(WorkerError, match=pattern) as caught:
        pids.update(*(loader.worker_pids for _ in batches or loader))
    assert not any(alive(pid) for pid in pids)
    assert segments() == set()
    return str(caught.value)


def within(seconds, loader):
    """The batches of a loader whose two workers have started, however long that took; others must come in time."""
    batches = iter(loader)
    next(batches), next(batches)
    loader._pool._timeout = seconds
    return batches


# --- delivery ---


def test_batches_larger_than_their_slot():
    with DataLoader(Growing(30), batch_size=1, num_workers=2, prefetch=6) as loader:
        for epoch in range(2):
            for i, x in enumerate(loader):
                assert x.shape == (1, (i + 1) * 5000)
                assert (x.numpy() == i).all(), epoch


def test_more_indices_than_a_slot_holds():
    n = 30_000  # 240 kB of indices
    with DataLoader(TensorDataset(np.arange(n)), batch_size=n, num_workers=1) as loader:
        (x,) = next(iter(loader))
    assert (x.numpy() == np.arange(n)).all()


def test_workers_stay_from_epoch_to_epoch_and_end_with_the_loader():
    loader = DataLoader(Numbers(12), batch_size=2, num_workers=2)
    list(loader)
    pids = loader.worker_pids
    list(loader)
    assert loader.worker_pids == pids
    assert loader._pool._arena.segments
    assert segments() == set()  # held by the processes alone, under no name
    loader.close()
    assert not any(alive(pid) for pid in pids)
    assert segments() == set()
    assert len(list(loader)) == 6  # and it starts new ones
    loader.close()


def test_a_forgotten_loader_ends_its_workers():
    loader = DataLoader(Numbers(12), batch_size=2, num_workers=2)
    next(iter(loader))
    pids = loader.worker_pids
    del loader
    gc.collect()
    assert not any(alive(pid) for pid in pids)


def test_a_large_array_of_a_dataset_is_shared_not_sent():
    data = TensorDataset(np.arange(1 << 20, dtype=np.float32).reshape(-1, 4))
    with DataLoader(data, batch_size=64, num_workers=2) as loader:
        batches = iter(loader)
        (x,) = next(batches)
        assert (x.numpy() == data.arrays[0][:64]).all()
        sizes = [segment.size for segment in loader._pool._arena.segments]
        assert sum(size >= data.arrays[0].nbytes for size in sizes) == 1  # once, for both workers


def test_workers_have_one_blas_thread_and_the_main_process_keeps_its_own():
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    with DataLoader(Threads(2), batch_size=2, num_workers=1) as loader:
        assert next(iter(loader)) == ["1", "1"]
    assert os.environ.get("OPENBLAS_NUM_THREADS") == before


def test_each_worker_is_initialised():
    with DataLoader(Numbers(4), num_workers=2, worker_init_fn=loader_cases.mark_worker) as loader:
        assert len(list(loader)) == 4


@posix
def test_fork_works_as_spawn_does():
    with DataLoader(Numbers(9), 2, num_workers=2, multiprocessing_context="forkserver") as loader:
        assert len(list(loader)) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it is multi-threaded is the point
@pytest.mark.parametrize("way", [{"prefetch": 2}, {"num_workers": 1}], ids=str)
def test_a_forked_child_has_a_pool_of_its_own(way):
    with DataLoader(Numbers(6), 2, **way) as loader:
        list(loader)
        assert not loader._pool.closed
        child = os.fork()
        if not child:
            os._exit(3 if loader._pool.closed else 4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert len(list(loader)) == 3


def test_few_tasks_wait_in_a_pipe_however_many_batches_are_under_way():
    """Thousands filled the pipe, and both sides then waited for the other to read."""
    with DataLoader(Numbers(150), num_workers=1, prefetch=100) as loader:
        batches = iter(loader)
        (worker,) = loader._pool._workers
        assert len(worker.pending) <= 16
        assert [y.item() for _, y in batches] == [-i for i in range(150)]
        next(iter(loader))  # an epoch left with tasks that no worker has yet
        assert [y.item() for _, y in loader] == [-i for i in range(150)]


def test_store_and_load_are_inverse():
    batch = {"a": np.arange(5, dtype=np.int8), "b": (np.ones((0, 3)), ["text", np.array([["x"]])], np.float64(2))}
    buffer = memoryview(bytearray(size_of(batch)))
    back = load(store(batch, buffer), buffer)
    buffer[:] = bytes(len(buffer))  # what was loaded is a copy
    np.testing.assert_equal(back, batch)
    assert back["a"].dtype == np.int8


# --- failure ---


def test_an_exception_in_a_worker_comes_with_its_traceback_in_place_of_its_batch():
    loader = DataLoader(Failing(40), batch_size=2, num_workers=2)
    delivered = []
    with pytest.raises(WorkerError, match=r"worker \d \(pid \d+\) failed on batch 6") as caught:
        delivered.extend(y.tolist() for _, y in loader)
    assert delivered == [[-i, -i - 1] for i in range(0, 12, 2)]
    assert "loader_cases.py" in str(caught.value)
    assert "sample thirteen is cursed" in str(caught.value)
    assert loader.worker_pids == []


@posix
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_worker_is_named_with_its_signal(sign):
    loader = DataLoader(Suicidal(40, int(sign)), batch_size=2, num_workers=2)
    message = expect_death(loader, rf"worker \d \(pid \d+\) was killed by {sign.name} on batch 6")
    assert "\n" not in message


def test_a_worker_that_exits_is_named_with_its_code():
    expect_death(DataLoader(Exiting(40), batch_size=2, num_workers=2), r"worker \d .* exit code 7 on batch 6")


def test_a_worker_that_hangs_in_an_epoch_that_was_left_is_named_in_the_next():
    loader = DataLoader(Hanging(40), batch_size=2, num_workers=2, prefetch=8)
    within(5, loader)  # the batch that hangs is under way already
    with pytest.raises(WorkerError, match=r"worker [01] \(pid \d+\) did not deliver batch 6 within 5 s"):
        next(iter(loader))
    assert segments() == set()


def test_a_worker_that_hangs_is_named_after_the_timeout():
    loader = DataLoader(Hanging(40), batch_size=2, num_workers=2)
    expect_death(loader, r"worker \d .* did not deliver batch 6 within 5.* s", within(5, loader))


@posix
def test_a_worker_that_ignores_sigterm_is_killed():
    loader = DataLoader(Hanging(40), 2, num_workers=2, worker_init_fn=loader_cases.ignore_sigterm)
    expect_death(loader, "did not deliver batch 6", within(5, loader))


@pytest.mark.parametrize("where", ["wait", "submit", "reset"])
def test_an_interruption_in_the_middle_of_a_message_ends_the_workers(monkeypatch, where):
    """The rest of the message would be taken for the next one; the next epoch starts other workers."""
    loader = DataLoader(Numbers(40), batch_size=2, num_workers=2)
    expected = [x.tolist() for x, *_ in loader]
    pids = loader.worker_pids

    def interrupted(*_):
        raise KeyboardInterrupt

    batches = iter(loader)
    next(batches)
    with monkeypatch.context() as patch:
        if where == "reset":
            del batches
            patch.setattr(processes.ProcessPool, "reset", interrupted)
            batches = loader
        else:
            name = "_hand_out" if where == "submit" else "_handle_message"
            patch.setattr(processes.ProcessPool, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(batches)
    assert not any(alive(pid) for pid in pids)
    assert [x.tolist() for x, *_ in loader] == expected
    loader.close()


def test_an_interruption_of_a_loop_with_a_thread_leaves_no_thread(monkeypatch):
    loader = DataLoader(Numbers(400), batch_size=2, prefetch=4)
    expected, batches = [x.tolist() for x, *_ in loader], iter(loader)
    next(batches)
    thread = loader._pool._thread

    class Interrupted:
        def get(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(loader._pool, "_results", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert not thread.is_alive()
    assert [x.tolist() for x, *_ in loader] == expected


def test_a_worker_that_cannot_start_says_why():
    expect_death(DataLoader(Unloadable(4), num_workers=1), r"(?s)worker 0 .* could not start.*cannot be set up here")
    failing = DataLoader(Numbers(4), num_workers=2, worker_init_fn=loader_cases.fail_at_start)
    expect_death(failing, r"(?s)could not start.*finds no disk")


def test_what_cannot_be_sent_is_one_line():
    with pytest.raises(WorkerError, match="num_workers=0") as caught:
        iter(DataLoader(Numbers(4), num_workers=1, collate_fn=lambda samples: samples))
    assert "\n" not in str(caught.value)


def test_a_loader_works_again_after_a_failure():
    loader = DataLoader(Failing(40), batch_size=2, num_workers=2)
    for _ in range(2):
        with pytest.raises(WorkerError, match="batch 6"):
            list(loader)


def test_a_full_shared_memory_is_an_error_not_a_signal(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    arena = Arena()
    monkeypatch.setattr("tt_data.dataloader.workers.memory._reserve", full)
    with pytest.raises(TinyTorchError, match=r"no room for 4,096 bytes .*No space left.*--shm-size"):
        arena.create(4096)
    arena.close()


def kill_one_mid_epoch(chance: random.Random) -> None:
    loader = DataLoader(Slow(4000), batch_size=4, num_workers=2)
    batches = iter(loader)
    for _ in range(chance.randrange(1, 4)):
        next(batches)
    pids = loader.worker_pids
    time.sleep(chance.random() * 0.05)
    victim = chance.choice(pids)
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"worker {pids.index(victim)} \(pid {victim}\) was killed by SIGKILL"):
        for _ in batches:
            pass
    assert not any(alive(pid) for pid in pids)
    assert segments() == set()


@posix
@pytest.mark.parametrize("seed", range(3))
def test_killing_a_random_worker_mid_epoch(seed):
    kill_one_mid_epoch(random.Random(seed))


@posix
@pytest.mark.crash
def test_killing_a_random_worker_mid_epoch_200_times():
    for seed in range(200):
        kill_one_mid_epoch(random.Random(1000 + seed))


# --- the main process ends ---

SCRIPT = """
    import os, signal, sys, time
    sys.path.append({cases!r})
    from loader_cases import Slow
    from tt_data import DataLoader

    if __name__ == "__main__":
        loader = DataLoader(Slow(4000), batch_size=4, num_workers=3)
        batches = iter(loader)
        for _ in range({batches}):
            next(batches)
        print(*loader.worker_pids, *[segment.name for segment in loader._pool._arena.segments], flush=True)
        {end}
"""


def run_script(tmp_path, end, batches=1):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(cases=str(CASES), end=end, batches=batches), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    words = process.stdout.readline().split()
    _, errors = process.communicate(timeout=300)
    return [int(word) for word in words[:3]], words[3:], errors


def left_over(pids, names, seconds=60.0):
    """The processes that still run after some seconds, and the memory that the system still holds.

    A killed process closes its pipes, which is what `communicate` waits for, before the system lists it as dead.
    """
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    held = []
    for name in names:
        try:
            shared_memory.SharedMemory(name).close()
            held.append(name)
        except FileNotFoundError:
            pass
    return [pid for pid in pids if alive(pid)], held


@posix
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGTERM"])
def test_workers_notice_that_the_main_process_was_killed(tmp_path, sign):
    pids, names, _ = run_script(tmp_path, f"os.kill(os.getpid(), signal.{sign})")
    assert len(names) >= 6
    assert left_over(pids, [])[0] == []
    if Path("/dev/shm").is_dir():
        deadline = time.monotonic() + 60
        while any(Path("/dev/shm", name).exists() for name in names) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [name for name in names if Path("/dev/shm", name).exists()]


@posix
def test_nothing_is_left_when_all_processes_are_killed_at_once(tmp_path):
    """As a container's memory limit does: with them goes the resource tracker, which cleans up otherwise."""
    pids, names, _ = run_script(tmp_path, "os.killpg(0, signal.SIGKILL)", batches=20)
    assert left_over(pids, names) == ([], [])


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise ValueError('in training')", "loader.close()"])
def test_a_script_that_ends_in_mid_epoch_leaves_nothing(tmp_path, end):
    pids, names, errors = run_script(tmp_path, end)
    assert left_over(pids, names) == ([], [])
    assert "leaked" not in errors
    assert ("in training" in errors) == ("in training" in end)


def test_a_script_without_main_guard_is_told_so(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        f"import sys\nsys.path.append({str(CASES)!r})\nfrom loader_cases import Numbers\n"
        "from tt_data import DataLoader\nnext(iter(DataLoader(Numbers(4), num_workers=1)))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1
    assert "WorkerError: DataLoader: worker 0" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 1  # the script's own, and none of the worker


def test_an_error_of_the_system_in_a_dataset_is_no_end_of_the_pipe(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(100))
    data = MemmapDataset(tmp_path / "x.npy")
    (tmp_path / "x.npy").unlink()
    expect_death(DataLoader(data, num_workers=2), r"(?s)could not start.*FileError: .*x.npy: no such file")
