"""Part of module 18: Numba compiles a loop when a kernel first needs it, and keeps it on disk.

The type hints of a loop say which arrays it takes (`arrays.py`), so it is compiled once, for one set of types. The next
process loads it in a few milliseconds. File names contain a digest of all that compiled code was made of: the sources
of the loops, the versions of Python and Numba, the processor. So a newer source never meets old code, and processes
that start at once write files with the same content, each by renaming a finished one.

Where no folder can be written to, or the disk is full, each process compiles its loops again, and says so once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tt_core.engine.errors import PluginError
from tt_perf.acceleration import blas, loops
from tt_perf.kernels import (
    arrays,
    atomics,
    attention_loops,
    image_loops,
    job_loops,
    muon_loops,
    planes,
    product_loops,
    row_loops,
    stage_loops,
    sum_loops,
    team_loops,
    tiles,
    update_loops,
    views,
    window_loops,
)

Call = Callable[..., Any]

MODULES: tuple[types.ModuleType, ...] = (
    loops,
    team_loops,
    image_loops,
    product_loops,
    attention_loops,
    muon_loops,
    planes,
    row_loops,
    stage_loops,
    sum_loops,
    update_loops,
    job_loops,
    window_loops,
)
"""The files of loops, each after those that it imports from."""


def plain() -> dict[str, Any]:
    """The loops by name as they are, in plain Python."""
    # in reverse, so that a name is that of its own file, not of one that imports it
    return {name: value for module in reversed(MODULES) for name, value in vars(module).items()}


def compiled() -> Loops:
    """The loops by name, each compiled when it is looked up. Raises `PluginError` without Numba."""
    return Loops(*MODULES)


def import_numba() -> Any:
    """Numba, which is told to use whole vector registers; raises `PluginError` without it.

    On Intel's processors with AVX-512, LLVM uses half of each register unless it is told otherwise; GELU takes 0.8 of
    the time with whole ones. On AMD's, it uses them already. A NUMBA_CPU_FEATURES that is set stays as it is.
    """
    try:
        import llvmlite.binding as llvm  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import numba  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise PluginError(f"jit needs Numba ({error}): pip install numba") from None
    config: Any = numba.config
    if not config.CPU_FEATURES and not llvm.get_host_cpu_name().startswith("znver"):
        features = llvm.get_host_cpu_features().flatten()
        if "+avx512f" in features:
            config.CPU_FEATURES = f"{features},-prefer-256-bit"
    return numba


def has_current_folder() -> bool:
    """Whether the current folder still exists: Numba's compiler asks for it."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def warm() -> str:
    """Compiles all loops that are not on disk yet; says how many, and where they are."""
    loops = compiled()
    for name in loops.ahead:
        loops[name]
    for name in loops.pieces:
        loops.address(name)
    count, made = len(loops.ahead) + len(loops.pieces), loops.progress.compiled
    where = loops.folder or "memory alone, which is lost when this process ends"
    return f"{count} kernels in {where}; {made} compiled now, in {loops.progress.seconds:.0f} s"


class Loops(dict[str, Any]):
    """The loops of some modules by name, each compiled when it is first looked up."""

    def __init__(self, *modules: types.ModuleType) -> None:
        super().__init__()
        self.modules = modules
        self._numba = import_numba()
        self._lock = threading.RLock()
        self._addresses: dict[str, int] = {}
        self._pieces: list[Any] = []
        self._globals = {module.__name__: dict(vars(module)) for module in modules}
        self._sources = {
            name: value
            for module in modules
            for name, value in vars(module).items()
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
        }
        called: dict[str, Any] = {"gemm": blas.compiled_gemm(), "line": views.compiled_line()}
        called |= tiles.compiled_tiles() | atomics.compiled_atomics()
        called |= {name: self._dispatcher(name) for name in self._sources}
        for names in self._globals.values():  # loops call the compiled form of other loops
            names.update({name: loop for name, loop in called.items() if name in names})
        self.ahead = [name for name, source in self._sources.items() if arrays.signature(source)]
        """Names of the loops that can be compiled ahead of their first call."""
        self.pieces = [name for name in self._sources if name.endswith("_piece")]
        """Names of the pieces of jobs, which have addresses."""
        sizes = {name: len(self._sources[name].__code__.co_code) for name in (*self.ahead, *self.pieces)}
        self.progress = Progress(sizes)

    def __missing__(self, name: str) -> Any:
        with self._lock:
            if name not in self:
                if name not in self._sources:
                    raise KeyError(name)
                self[name] = self._compiled(name) if name in self.ahead else self._dispatcher(name, cache=True)
            return self[name]

    def address(self, name: str) -> int:
        """The address of a loop of two integers, compiled as a C function: a piece of a job (`team_loops.py`)."""
        found = self._addresses.get(name)
        if found is None:
            with self._lock:
                if name not in self._addresses:  # another thread may have compiled it meanwhile
                    self._addresses[name] = self._compiled_piece(name)
                found = self._addresses[name]
        return found

    def _compiled_piece(self, name: str) -> int:
        from numba.core import ccallback  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from numba.core import types as kind_of  # type: ignore[import-not-found,import-untyped,unused-ignore]

        kinds: Any = kind_of  # Numba has type hints, but not on these
        make: Any = ccallback.CFunc
        source = self._sources[name]
        function = types.FunctionType(source.__code__, self._globals[source.__module__], name)
        options = {"error_model": "numpy", "fastmath": {"contract"}, "nopython": True}
        piece = make(function, ((kinds.int64, kinds.int64), kinds.void), {}, options)
        cache = self._cache(piece)
        if cache is None:
            self.progress.begin(name)
        else:
            piece._cache = cache
        piece.compile()
        self.progress.end(name)
        self._pieces.append(piece)  # which holds its code
        return int(piece.address)

    @property
    def folder(self) -> Path | None:
        """Where compiled code is kept; None if it is not."""
        cache = self._cache(self._dispatcher(self.ahead[0])) if self.ahead else None
        return None if cache is None else Path(cache.cache_path)

    def _dispatcher(self, name: str, cache: bool = False) -> Any:
        """Numba's form of a loop, which compiles it for what it is called with."""
        source = self._sources[name]
        function = types.FunctionType(source.__code__, self._globals[source.__module__], name)
        joined = set() if getattr(source, "as_written", False) else {"contract"}
        order = {"reassoc"} if getattr(source, "any_order", False) else set()
        options = {"nogil": True, "error_model": "numpy", "fastmath": joined | order}
        try:
            return self._numba.njit(function, cache=cache, **options)
        except RuntimeError:  # no folder to keep it in
            return self._numba.njit(function, **options)

    def _compiled(self, name: str) -> Any:
        """A loop compiled for the types of its hints, or loaded."""
        loop = self._dispatcher(name)
        cache = self._cache(loop)
        if cache is None:
            self.progress.begin(name)
        else:
            loop._cache = cache
        loop.compile(_numba_types(arrays.signature(self._sources[name])))
        loop.disable_compile()
        self.progress.end(name)
        return loop

    def _cache(self, loop: Any) -> Any:
        try:
            return _cache_type()(getattr(loop, "py_func", None) or loop.__wrapped__, self._digest, self.progress)
        except RuntimeError:
            self.progress.say_once("folder", "found no folder to keep compiled kernels in; set NUMBA_CACHE_DIR to one")
            return None

    @functools.cached_property
    def _digest(self) -> str:
        """Of what compiled code depends on; Numba adds the processor."""
        numba, files = self._numba, [*self.modules, blas, views, tiles, atomics, arrays]
        made = [f"{sys.version} {numba.__version__} {numba.config.CPU_NAME} {numba.config.CPU_FEATURES}".encode()]
        made += [Path(str(file.__file__)).read_bytes() for file in files]
        return hashlib.sha256(b"\0".join(made)).hexdigest()[:16]


def _numba_types(kinds: tuple[arrays.Kind | str | int, ...]) -> tuple[Any, ...]:
    from numba.core import types as kind_of  # type: ignore[import-not-found,import-untyped,unused-ignore]

    tools: Any = kind_of  # Numba has type hints, but not on these

    def one(kind: arrays.Kind | str | int) -> Any:
        if isinstance(kind, str):
            return getattr(tools, kind)
        if isinstance(kind, int):
            return tools.UniTuple(tools.int64, kind)
        layout = "A" if kind.strided else "C"
        return tools.Array(getattr(tools, kind.dtype), kind.ndim, layout, readonly=not kind.written)

    return tuple(one(kind) for kind in kinds)


@functools.cache
def _cache_type() -> Any:
    """Numba's cache of a function, with files named by our digest, and without errors of a full disk."""
    from numba.core import caching

    tools: Any = caching

    class Files(tools.CompileResultCacheImpl):  # type: ignore[misc]
        digest = ""

        def get_filename_base(self, fullname: str, abiflags: str) -> str:
            return f"{super().get_filename_base(fullname, abiflags)}-{self.digest}"

    class Cache(tools.FunctionCache):  # type: ignore[misc]
        def __init__(self, function: Call, digest: str, progress: Progress) -> None:
            self._impl_class = type("Files", (Files,), {"digest": digest})
            self._progress, self._loop = progress, function.__name__
            super().__init__(function)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                found = super().load_overload(sig, target_context)
            except Exception:  # of a damaged file
                found = None
                with contextlib.suppress(OSError):
                    self.flush()
            if found is None:
                self._progress.begin(self._loop)
            return found

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except OSError as error:
                self._progress.say_once("disk", f"cannot keep compiled kernels in {self.cache_path} ({error.strerror})")

    return Cache


class Progress:
    """Says on stderr what is being compiled, and how long it may take; nothing while loops are loaded from disk."""

    _SPEED = 800.0  # bytes of Python's code that are compiled in a second, until this process has measured it

    def __init__(self, sizes: dict[str, int], stream: TextIO | None = None) -> None:
        self._left, self._all, self._stream = dict(sizes), len(sizes), stream
        self._compiling, self._began = "", 0.0
        self._bytes, self.seconds, self.compiled = 0, 0.0, 0
        self._said: set[str] = set()

    def begin(self, name: str) -> None:
        """A loop is about to be compiled. Raises `PluginError` where Numba could not compile it."""
        if not has_current_folder():
            raise PluginError("jit cannot compile: the current folder was deleted; change to another one and run again")
        self._compiling, self._began = name, time.perf_counter()
        speed = self._bytes / self.seconds if self._bytes and self.seconds else self._SPEED
        left = f"at most {max(1, round(sum(self._left.values()) / speed))} s left; `tt jit warm` does it ahead"
        text = f"compiling kernel {self._all - len(self._left) + 1} of {self._all}, {name}, {left}"
        out = self._stream or sys.stderr
        if out.isatty():  # one line, written over for each loop
            print(f"\rjit: {text}\x1b[K", end="", file=out, flush=True)
        else:
            self.say_once("compiling", text)

    def end(self, name: str) -> None:
        """A loop is ready, compiled or loaded."""
        size = self._left.pop(name, 0)
        if self._compiling != name:
            return
        self._bytes, self.compiled = self._bytes + size, self.compiled + 1
        self.seconds += time.perf_counter() - self._began
        self._compiling, out = "", self._stream or sys.stderr
        if out.isatty():
            print("\r\x1b[K", end="", file=out, flush=True)

    def say_once(self, subject: str, text: str) -> None:
        """A line on stderr, the first time that something is said on the subject."""
        if subject not in self._said:
            self._said.add(subject)
            print(f"jit: {text}", file=self._stream or sys.stderr, flush=True)
