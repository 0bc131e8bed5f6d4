"""How loops are compiled, kept on disk and loaded, and what is said meanwhile."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tt_core.engine.errors import PluginError
from tt_perf.acceleration import compiling, loops, plain
from tt_perf.acceleration.compiling import Loops, Progress, compiled, import_numba
from tt_perf.command.cli import jit
from tt_perf.kernels import arrays, image_loops, planes

numba = pytest.importorskip("numba")

RELU = """
import numpy as np
from tt_perf.acceleration.compiling import compiled
g, out = np.arange(5, dtype=np.float32), np.empty(5, np.float32)
compiled()["relu_backward"](g, np.array([0, 1, 0, 1, 1], np.float32), out)
print(out.tolist())
"""
SLOPES = "[0.0, 1.0, 0.0, 3.0, 4.0]\n"


def test_no_two_loops_have_one_name() -> None:
    """They are looked up by name, so one of them would be called in the other's place."""
    named = [
        name
        for module in compiling.MODULES
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
    ]
    assert sorted(set(named)) == sorted(named)


def start(folder: Path, code: str = RELU) -> subprocess.Popen[str]:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=-1, stderr=-1, text=True)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*relu_backward*.nb?"))


def relu(functions: dict[str, Any]) -> list[float]:
    out = np.empty(3, np.float32)
    functions["relu_backward"](np.float32([1, 2, 3]), np.float32([0, 5, np.nan]), out)
    return out.tolist()  # type: ignore[no-any-return]


def test_a_kernel_is_compiled_once_and_then_loaded_without_a_word(tmp_path: Path) -> None:
    out, said = start(tmp_path).communicate()
    assert out == SLOPES
    assert said.startswith("jit: compiling kernel 1 of ")
    assert said.count("\n") == 1
    assert "`tt jit warm`" in said
    before = [(path, path.stat().st_mtime_ns) for path in files(tmp_path)]
    assert len(before) == 2  # an index and the code
    assert start(tmp_path).communicate() == (SLOPES, "")
    assert before == [(path, path.stat().st_mtime_ns) for path in files(tmp_path)]


def test_processes_that_start_at_once_on_an_empty_folder(tmp_path: Path) -> None:
    together = [start(tmp_path) for _ in range(8)]
    assert [process.communicate()[0] for process in together] == [SLOPES] * 8
    assert len(files(tmp_path)) == 2
    assert start(tmp_path).communicate() == (SLOPES, "")


def test_damaged_files_are_written_again(tmp_path: Path) -> None:
    start(tmp_path).communicate()
    for kind in (".nbi", ".nbc"):
        for path in files(tmp_path):
            if path.suffix == kind:
                path.write_bytes(path.read_bytes()[:40])
        out, said = start(tmp_path).communicate()
        assert out == SLOPES
        assert "compiling kernel" in said
        assert start(tmp_path).communicate() == (SLOPES, "")


def test_files_of_another_source_are_left_alone(tmp_path: Path) -> None:
    start(tmp_path).communicate()
    code = "from tt_perf.acceleration import compiling as c; c.Loops._digest = 'another'\n" + RELU
    out, said = start(tmp_path, code).communicate()
    assert out == SLOPES
    assert "compiling kernel" in said
    assert len(files(tmp_path)) == 4
    assert start(tmp_path).communicate() == (SLOPES, "")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(import_numba().config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_a_full_disk_is_said_once(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    from numba.core.caching import IndexDataCacheFile

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    functions = compiled()
    assert relu(functions) == [0, 2, 3]
    functions["gelu_tanh"](np.zeros(2, np.float32), np.empty(2, np.float32))
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "cannot keep" in line] == [
        f"jit: cannot keep compiled kernels in {functions.folder} (No space left on device)"
    ]
    assert not files(elsewhere)


def test_without_a_folder_kernels_stay_in_memory(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from numba.core.caching import CacheImpl

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    functions = compiled()
    assert functions.folder is None
    assert relu(functions) == [0, 2, 3]
    said = capfd.readouterr().err
    assert said.count("found no folder to keep compiled kernels in; set NUMBA_CACHE_DIR to one") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a current folder cannot be deleted there")
def test_without_a_current_folder_nothing_is_compiled(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = elsewhere / "gone"
    gone.mkdir()
    functions = compiled()
    with monkeypatch.context() as inside:
        inside.chdir(gone)
        gone.rmdir()
        with pytest.raises(PluginError, match=r"^jit cannot compile: the current folder was deleted; change to"):
            functions["relu_backward"]
        with pytest.raises(PluginError, match="the current folder was deleted"):
            functions.address("sgd_piece")
        os.chdir(elsewhere)
    assert relu(functions) == [0, 2, 3]


def test_a_loop_without_types_is_compiled_for_what_it_is_called_with() -> None:
    functions = compiled()
    assert "exp_below_0" not in functions.ahead
    assert functions["exp_below_0"](np.float32(0)) == 1
    with pytest.raises(KeyError):
        functions["no_loop"]


def test_a_piece_may_be_what_is_compiled_first(tmp_path: Path) -> None:
    first = "from tt_perf.acceleration import compiled as c; f = c(); f.address('sgd_piece'); f['relu_backward']"
    worker = start(tmp_path, first)
    said = worker.communicate()[1]
    assert not worker.returncode, said
    assert said.startswith("jit: compiling kernel 1 of ")


def test_a_loop_takes_read_only_arrays_and_no_others_than_its_own() -> None:
    functions = compiled()
    g = np.ones(3, np.float32)
    g.flags.writeable = False
    functions["relu_backward"](g, g, np.empty(3, np.float32))
    with pytest.raises(TypeError, match="No matching definition"):
        functions["relu_backward"](np.ones(3), g, np.empty(3, np.float32))
    with pytest.raises(TypeError, match="No matching definition"):
        functions["relu_backward"](g, g, g)


def test_every_loop_that_a_kernel_calls_can_be_compiled_ahead() -> None:
    names = [name for name, loop in plain().items() if callable(loop) and getattr(loop, "__module__", "") in __loops()]
    hinted = {name for name in names if arrays.signature(plain()[name])}
    assert hinted == set(compiled().ahead)
    assert {"attend", "attend_backward", "adam_group", "correlate", "gelu_tanh", "layer_norm"} <= hinted


def __loops() -> set[str]:
    return {module.__name__ for module in compiling.MODULES}


def test_warm_compiles_all() -> None:
    done = CliRunner().invoke(jit, ["warm"])
    assert done.exit_code == 0
    functions = compiled()
    assert {"product_piece", "adam_piece", "sgd_piece", "blas_piece", "cross_entropy_piece"} <= set(functions.pieces)
    assert f"{len(functions.ahead) + len(functions.pieces)} kernels in " in done.stdout
    again = CliRunner().invoke(jit, ["warm"])
    assert "; 0 compiled now, in 0 s" in again.stdout
    assert not again.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_goes_away() -> None:
    out = Terminal()
    progress = Progress({"one": 100, "two": 300}, out)
    progress.begin("one")
    assert out.getvalue() == "\rjit: compiling kernel 1 of 2, one, at most 1 s left; `tt jit warm` does it ahead\x1b[K"
    progress.end("one")
    progress.end("two")  # loaded
    assert out.getvalue().endswith("\r\x1b[K")
    assert progress.compiled == 1


def test_the_time_left_follows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: next(now))
    out = Terminal()
    progress = Progress({"one": 100, "two": 300}, out)
    progress.begin("one")
    progress.end("one")
    progress.begin("two")
    assert "kernel 2 of 2, two, at most 30 s left" in out.getvalue()


@pytest.mark.parametrize(
    ("name", "features", "given", "expected"),
    [
        ("sapphirerapids", "+avx2,+avx512f", None, "+avx2,+avx512f,-prefer-256-bit"),
        ("sapphirerapids", "+avx2,+avx512f", "+avx2", "+avx2"),
        ("znver5", "+avx2,+avx512f", None, None),
        ("haswell", "+avx2", None, None),
        ("apple-m1", "+neon", None, None),
    ],
)
def test_whole_vectors(
    name: str, features: str, given: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llvmlite.binding as llvm

    class Features:
        def flatten(self) -> str:
            return features

    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(llvm, "get_host_cpu_features", Features)
    monkeypatch.setattr(import_numba().config, "CPU_FEATURES", given)
    assert expected == import_numba().config.CPU_FEATURES


def test_hints() -> None:
    assert arrays.signature(loops.exp_below_0) == ()
    assert arrays.signature(loops.total_of) == ()
    kinds = arrays.signature(image_loops.avg_pool_2x2)
    assert [kind.written if isinstance(kind, arrays.Kind) else kind for kind in kinds] == [False, "float32", True]
    pairs = [kind for kind in arrays.signature(planes.correlate) if not isinstance(kind, arrays.Kind)]
    assert pairs == [4, 2, 5, "int64", "int64", "int64"]


def test_the_class_is_a_mapping_of_what_is_compiled() -> None:
    functions = Loops(loops)
    assert dict(functions) == {}
    functions["relu_backward"]
    assert set(functions) == {"relu_backward"}
