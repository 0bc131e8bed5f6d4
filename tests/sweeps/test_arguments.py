"""Every public callable of the six packages, called with wrong values.

Each callable is called with a valid call first, then with each argument in turn replaced by each wrong value. A call
gives a result, or one error of ours: a subclass of `TinyTorchError` with a message of one line that names the callable,
the argument or an op. It raises nothing else, gives no warning, ends within `SECONDS`, takes no more than `MEMORY`, and
leaves its inputs unchanged when it fails. Text and objects of no use are refused where a number, a flag or a tensor is
expected. A tensor in another memory layout gives the same result.

Valid calls come from `CASES`, or are guessed from the names of the parameters (`GUESSES`); a public callable with
neither fails `test_every_public_callable_has_a_valid_call`, so a new name is added there.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from valid_calls import (
    ALL,
    HEAVY,
    KEPT,
    LAYOUTS,
    NoCase,
    arrays,
    bound_call,
    called,
    exercise,
    folders,
    numbers,
    same,
    signature_of,
    snapshot,
    split,
)

import tt_core
import tt_learn
from tt_core.engine.dispatch import registry
from tt_core.engine.errors import TinyTorchError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 5.0
MEMORY = 1 << 30

# --- wrong values


class Nothing:
    """An object that is of no use to anyone."""

    def __repr__(self) -> str:
        return "Nothing()"


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "'text'": lambda: "text",
    "''": lambda: "",
    "bytes": lambda: b"ab",
    "object": Nothing,
    "{'a': 1}": lambda: {"a": 1},
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "7": lambda: 7,
    "1.5": lambda: 1.5,
    "-0.5": lambda: -0.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "2**40": lambda: 2**40,
    "-2**40": lambda: -(2**40),
    "2**63": lambda: 2**63,
    "1e300": lambda: 1e300,
    "1j": lambda: 1j,
    "[]": list,
    "()": lambda: (),
    "[None]": lambda: [None],
    "['a']": lambda: ["a"],
    "[[1], [2, 3]]": lambda: [[1], [2, 3]],
    "[1.5, -1]": lambda: [1.5, -1],
    "function": lambda: lambda *_: None,
    "type": lambda: int,
    "0-d": lambda: tt_core.tensor(1.0),
    "empty": lambda: tt_core.zeros(0),
    "(0, 3)": lambda: tt_core.zeros(0, 3),
    "5-d": lambda: tt_core.ones(1, 2, 1, 2, 1),
    "int tensor": lambda: tt_core.tensor([[1, 2, 3], [4, 5, 60]]),
    "negative tensor": lambda: tt_core.tensor([-1, -7]),
    "nan tensor": lambda: tt_core.full((2, 3), math.nan),
    "float16 tensor": lambda: tt_core.full((2, 3), 6e4, dtype="float16"),
    "bool array": lambda: np.ones((2, 3), bool),
    "object array": lambda: np.array([None, "a"], dtype=object),
    "text array": lambda: np.array(["a", "b"]),
    "complex array": lambda: np.ones((2, 3), np.complex64),
    "date array": lambda: np.array(["2020-01-01"], dtype="M8[D]"),
    "structured array": lambda: np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
}

NONSENSE = (
    "object",
    "bytes",
    "{'a': 1}",
    "'text'",
    "1j",
    "object array",
    "text array",
    "date array",
    "structured array",
)
"""Values that no number, flag, size or tensor can be made of."""

# --- one call


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Raise in a call that takes longer than `SECONDS`, and MemoryError in one that takes more than `MEMORY`."""
    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if timed:

        def stop(*_: Any) -> None:
            raise TimeoutError(f"took more than {SECONDS} s")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory() -> Iterator[None]:
    status = Path("/proc/self/statm")
    if resource is None or not status.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(status.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arguments")


@pytest.fixture(autouse=True)
def _in_a_folder(_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    own = _folder / f"{next(numbers)}"  # a tenth of the time of tmp_path
    own.mkdir()
    monkeypatch.chdir(own)  # text taken for a path must not land in the repository
    monkeypatch.setenv("TT_DATA_DIR", str(own / "data"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # up to 10 s, and no power fails here
    folders.append(own)
    state = tt_core.get_rng_state()
    yield
    folders.pop()
    tt_core.set_rng_state(state)


def attempt(name: str, bound: inspect.BoundArguments, what: str, argument: str) -> tuple[str | None, Any]:
    """The fault of one call, or None; and its result, or the error."""
    before = snapshot(bound)
    try:
        with warnings.catch_warnings(), _limits():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", r"\w+: ", UserWarning)  # ours
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # attributes go to NumPy as they are
            result = called(name, bound)
            result = exercise(name, result)
    except TinyTorchError as error:
        text = str(error)
        if "\n" in text or not text:
            return f"{what}: the message has {text.count(chr(10)) + 1} lines: {text[:200]!r}", error
        if not _named(name, argument, text):
            return f"{what}: names neither callable nor argument: {text[:200]!r}", error
        if not all(same(array, copied) for array, copied in before):
            return f"{what}: failed and changed its input ({text[:100]!r})", error
        return None, error
    except Exception as error:
        return f"{what}: {type(error).__name__}: {str(error)[:200]!r}", error
    return None, result


BEGINNING = re.compile(r"[\w./-]*( [\w.]+)?: |cannot (read|write|download)|id |rope_type |no plugin|.* is not JSON")
"""How messages begin that name an op, a class, a file, an id or a plugin."""


def _named(name: str, argument: str, text: str) -> bool:
    words = {name.rpartition(".")[2].strip("_"), split(name)[0].rpartition(".")[2], argument, argument.rstrip("s")}
    words |= {word.rstrip("s") for word in argument.split("_") if len(word) > 3 or word == "id"}
    if any(re.search(rf"\b{re.escape(word)}", text) for word in words if word):
        return True
    return bool(BEGINNING.match(text))


def replacements(name: str) -> Iterator[tuple[str, str, Callable[[Any], Any], bool]]:
    """(argument, wrong value's name, how the valid value is replaced by it, whether it must be refused)."""
    bound, _ = bound_call(name)
    skip = 1 if split(name)[0] and not inspect.ismethod(ALL[name]) else 0
    for argument, valid in list(bound.arguments.items())[skip:]:
        kind = bound.signature.parameters[argument].kind
        if kind is inspect.Parameter.VAR_KEYWORD or _read_as_truth(name, bound.signature.parameters[argument]):
            continue
        if f"{name}.{argument}" in LEFT:
            continue
        for wrong, make in WRONG.items():
            if argument in ENDLESS and wrong in ("2**40", "2**63"):
                continue
            if kind is not inspect.Parameter.VAR_POSITIONAL:
                yield argument, wrong, lambda _, make=make: make(), wrong in NONSENSE
            for i in range(min(len(valid), 2)) if isinstance(valid, (list, tuple)) else ():
                yield (
                    f"{argument}[{i}]",
                    wrong,
                    lambda old, i=i, make=make: type(old)([*old[:i], make(), *old[i + 1 :]]),
                    wrong in NONSENSE,
                )


def _read_as_truth(name: str, parameter: inspect.Parameter) -> bool:
    """Flags of ops and of other calls in a training loop are read as truth values: a check would cost time in each."""
    checked = getattr(ALL[name], "__code__", None) is tt_core.init.ones_.__code__
    return str(parameter.annotation).startswith("bool") and not checked and not isinstance(ALL[name], type)


def faults(name: str, long: bool = False) -> list[str]:
    found = []
    every = itertools.islice(replacements(name), 0, None, 3 if HEAVY.match(name) and not long else 1)
    for argument, wrong, replace, refused in every:
        bound, _ = bound_call(name)
        key = argument.partition("[")[0]
        bound.arguments[key] = replace(bound.arguments[key])
        fault, result = attempt(name, bound, f"{argument}={wrong}", key)
        if fault:
            found.append(fault)
        elif refused and not isinstance(result, TinyTorchError) and not _accepts(name, key, wrong):
            found.append(f"{argument}={wrong}: accepted")
    return found


ACCEPTS = {
    "eq": "compares with anything",
    "ne": "compares with anything",
    "Identity.forward": "returns what it is given",
    "checkpoint.inputs": "are the function's",
    "ProgressBar.console": "is rich's",
    "Layer.named_layers.prefix": "is put before names",
    "Layer.named_modules.prefix": "is put before names",
    "Layer.named_parameters.prefix": "is put before names",
    "is_tensor.obj": "may be anything",
    "save.obj": "may be any state",
    "Optimizer.defaults": "are a dictionary of any names",
    "Callback.load_state_dict.state_dict": "is a dictionary of any names",
    "draw_graph.names": "is a dictionary of any names",
    "Timer.globals": "is a dictionary of any names",
    "DynamicCache.extend.layer": "is anything that tells layers apart",
    "KVCache.extend.layer": "is anything that tells layers apart",
    "save_tensors.tensors": "is a dictionary of any names",
    "default_collate.samples": "may hold texts",
    "SequentialSampler.data_source": "is anything with a length",
    "RandomSampler.data_source": "is anything with a length",
    "BlockShuffleSampler.data_source": "is anything with a length",
    "DataLoader.dataset": "is anything with a length",
    "ConcatDataset.datasets": "holds anything with a length",
    "functional.leaky_relu.negative_slope": "goes to NumPy as it is",
    "functional.pad.pad": "may be bytes, which are integers",
    "pad.pad": "may be bytes, which are integers",
    "BPETokenizer.save.path": "is a path",
    "ByteTokenizer.save.path": "is a path",
    "CharTokenizer.save.path": "is a path",
    "AddedToken.content": "is checked by the tokenizer",
}


LEFT = {
    "Timer.blocked_autorange.callback": "the function's own errors",
    "Timer.blocked_autorange.min_run_time": "takes as long as it says",
    "compare.min_block_time": "takes as long as it says",
    "checkpoint.inputs": "the function's own errors",
    "gradcheck.function": "the function's own errors",
    "gradgradcheck.function": "the function's own errors",
    "LambdaLR.lr_lambda": "the function's own errors",
    "Layer.apply.function": "the function's own errors",
    "replace_layers.predicate": "the function's own errors",
    "replace_layers.make": "the function's own errors",
    "quantize_.filter_fn": "the function's own errors",
    "quantize_.example": "the model's own errors",
    "Text.encode": "the function's own errors",
    "transforms.Compose.transforms": "the function's own errors",
    "CyclicLR.scale_fn": "the function's own errors",
    "DataLoader.collate_fn": "the function's own errors",
    "DataLoader.transform": "the function's own errors",
    "DataLoader.num_workers": "starts processes",
    "BatchSampler.sampler": "gives what it gives",
    "AddedToken.single_word": "a record, which the tokenizer reads",
    "AddedToken.lstrip": "a record, which the tokenizer reads",
    "AddedToken.rstrip": "a record, which the tokenizer reads",
    "AddedToken.normalized": "a record, which the tokenizer reads",
    "functional.softmax._stacklevel": "is read by nothing, as in PyTorch",
    "functional.log_softmax._stacklevel": "is read by nothing, as in PyTorch",
    "functional.softmin._stacklevel": "is read by nothing, as in PyTorch",
    "Tensor.requires_grad": "read as a truth value, as flags of ops are",
    "Seq2SeqTransformer.decode.source": "read where there is padding",
    "TransformerBlock.forward.memory_mask": "read where there is cross-attention",
    "attention_weights.causal_offset": "read where is_causal is true",
    "scaled_dot_product_attention.causal_offset": "read where is_causal is true",
    "generate.tokenizer": "read where there are stop strings",
    "stream.tokenizer": "read where there are stop strings",
    "Sampling.choose.random": "set by generate",
    "Sampling.choose.text": "set by generate",
    "Sampling.choose.logits": "set by generate, from the model",
    "Sampling.without_repeats.logits": "set by generate, from the model",
    "Sampling.penalized.logits": "set by generate, from the model",
    "Sampling.probabilities.logits": "set by generate, from the model",
    "upsample.scale": "set by the layer",
    "split_heads.heads": "set by the layer",
    "sum_to.shape": "set by backward",
    "GPT.forward.past": "set by a cache",
    "MultiHeadAttention.forward.past": "set by a cache",
    "MultiHeadAttention.forward.angles": "set by the model",
    "TransformerBlock.forward.past": "set by a cache",
    "TransformerBlock.forward.angles": "set by the model",
}
"""Arguments that only the framework sets, and functions of the user, whose errors are the user's."""

ENDLESS = {
    "steps",
    "max_new_tokens",
    "num_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "ns_steps",
    "num_samples",
    "count",
    "epochs",
    "stride",
    "number",
}
"""How often something is done: 2**40 times take as long as they take."""


def _accepts(name: str, argument: str, wrong: str) -> bool:
    """Whether nonsense is welcome: text where text is meant."""
    hint = str(signature_of(name).parameters[argument].annotation)
    if "str" in hint and wrong in ("'text'", "bytes", "text array"):
        return True
    if "Iterable[int]" in hint and wrong == "bytes":  # bytes are integers
        return True
    if ALL[name] in registry.values() and wrong in ("1j", "date array"):  # attributes go to NumPy as they are
        return True
    return name in ACCEPTS or f"{name}.{argument}" in ACCEPTS


def _in_layout(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tt_core.Tensor):
        return tt_learn.tensor(change(value.data), requires_grad=value.requires_grad)
    return change(value) if isinstance(value, np.ndarray) else value


def _results(name: str, layouts: Mapping[str, Callable[[Any], Any]]) -> list[Any]:
    """The arrays that a valid call gives, with the arguments named in `layouts` changed; the same numbers each time."""
    tt_core.manual_seed(0)
    bound, _ = bound_call(name)
    for argument, change in layouts.items():
        value = bound.arguments[argument]
        several = isinstance(value, (list, tuple))
        bound.arguments[argument] = (
            type(value)(_in_layout(part, change) for part in value) if several else _in_layout(value, change)
        )
    result = called(name, bound)
    return [array for array in arrays(result if isinstance(result, (list, tuple)) else [result]) if array.size]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts_change_no_result(layout: str) -> None:
    found = []
    for name in sorted(ALL):
        if KEPT.match(name) or isinstance(ALL[name], type) or HEAVY.match(name):
            continue
        plain = _results(name, {})
        for argument, value in bound_call(name)[0].arguments.items():
            if argument == "self" or not list(arrays([value])):
                continue
            try:
                changed = _results(name, {argument: LAYOUTS[layout]})
            except Exception as error:
                found.append(f"{name}: {argument}: {type(error).__name__}: {error}")
                continue
            same = [a.shape == b.shape and np.allclose(a, b, 1e-5, 1e-6, True) for a, b in zip(plain, changed)]
            if len(plain) != len(changed) or not all(same):
                found.append(f"{name}: {argument}: another result")
    assert not found, "\n".join(found)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", sorted(name for name in ALL if not HEAVY.match(name)))
def test_pairs_of_wrong_values(name: str) -> None:
    found = []
    single = list(replacements(name))[::5]
    for (a, wrong_a, replace_a, _), (b, wrong_b, replace_b, _) in itertools.combinations(single, 2):
        first, second = a.partition("[")[0], b.partition("[")[0]
        if first == second:
            continue
        bound, _call = bound_call(name)
        bound.arguments[first] = replace_a(bound.arguments[first])
        bound.arguments[second] = replace_b(bound.arguments[second])
        fault, _ = attempt(name, bound, f"{a}={wrong_a}, {b}={wrong_b}", first)
        if fault and "names neither" not in fault:
            found.append(fault)
    assert not found, f"{name}: {len(found)} faults\n" + "\n".join(found[:20])


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_public_callable_has_a_valid_call(name: str) -> None:
    try:
        _, call = bound_call(name)
    except NoCase as error:
        pytest.fail(f"{error}; add a valid call to CASES or METHODS")
    exercise(name, call())


@pytest.mark.fuzz
@pytest.mark.parametrize("name", sorted(name for name in ALL if HEAVY.match(name)))
def test_every_wrong_value_of_what_takes_long(name: str) -> None:
    found = faults(name, long=True)
    assert not found, f"{name}: {len(found)} faults\n" + "\n".join(found)


@pytest.mark.parametrize("name", sorted(ALL))
def test_wrong_values_give_a_result_or_one_error_of_ours(name: str) -> None:
    found = faults(name)
    assert not found, f"{name}: {len(found)} faults\n" + "\n".join(found)
