"""What other acts bring: an absent name is answered with the act that has it.

A newcomer asks `tt_core` for everything that PyTorch has. `later_names.txt` holds the names only, so nothing of a later
act is imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.abc import MetaPathFinder
from importlib.resources import files
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tt_core.command.journey import act_name
from tt_core.engine.errors import did_you_mean

ACTS = {"tt_core": 1, "tt_learn": 2, "tt_data": 3, "tt_language": 4, "tt_perf": 5, "tinygpt": 6}

TORCH = {
    "functional": "functions are in tt_core.nn.functional, and later acts have more",
    "optim": "Act II Learning brings optimizers: import tt_learn, then tt_learn.SGD, or tt_learn.optim",
    "lr_scheduler": "Act II Learning brings schedules: import tt_learn, then tt_learn.optim.lr_scheduler",
    "Module": "it is tt_core.nn.Module, and called Layer here",
    "ModuleList": "it is tt_core.nn.ModuleList, and called LayerList here",
    "ModuleDict": "it is tt_core.nn.ModuleDict, and called LayerDict here",
    "autograd": "Act II Learning brings gradients: import tt_learn, then tt_learn.grad and tt_learn.Function",
    "compile": 'tt_core.use("jit") compiles kernels, and tt_perf.capture records a whole step',
    "set_printoptions": "printing has no options; print x.numpy() under numpy.printoptions",
    "set_default_dtype": "no default can be set; pass dtype= where a tensor is made",
    "get_default_dtype": "floats are float32 unless dtype= says otherwise",
    "set_default_device": "there is only the CPU; leave it out",
    "use_deterministic_algorithms": "results are always the same; leave it out",
    "set_float32_matmul_precision": "float32 is always multiplied in float32; leave it out",
    "initial_seed": "keep the seed that you pass to manual_seed",
    "jit": 'tt_core.use("jit") compiles kernels; save(model.state_dict(), path) writes a model',
    "hub": "models are files: tt_language.GPT.from_pretrained(folder)",
    "func": "gradients are taken one output at a time: tt_learn.grad",
    "vmap": "write the batch as the first dimension",
    "svd": "numpy.linalg.svd on x.numpy()",
    "inverse": "numpy.linalg.inv on x.numpy()",
    "det": "numpy.linalg.det on x.numpy()",
    "fft": "numpy.fft on x.numpy()",
    "ToTensor": "datasets give float32 images between 0 and 1 already; leave it out",
}
"""PyTorch's names for things that have another name here."""

SHARED = ("autograd", "enable_grad", "inference_mode", "is_grad_enabled", "load", "no_grad", "optim", "save",
          "set_grad_enabled")  # fmt: skip
"""Names of Act II that `tt_core` has too once `tt_learn` is imported, as PyTorch has them beside `tensor`."""


TENSOR = "Tensor"
"""In the table, the owner of what tensors have since Act II."""

KINDS = ("plugin", "milestone", "module", "command")
"""What a later act brings besides names; in the table, the owner is the package and the kind, `tt_perf:plugin`."""


@functools.cache
def names() -> dict[str, list[str]]:
    """The public names of each later act's package, without those that it takes from an earlier one.

    `python tools/later_names.py` writes the table from the packages, and a test holds it equal to them.
    """
    table: dict[str, list[str]] = {}
    for line in files("tt_core.engine").joinpath("later_names.txt").read_text(encoding="utf-8").splitlines():
        owner, name = line.split()
        table.setdefault(owner, []).append(name)
    return table


class AbsentError(AttributeError):
    """A name that another act brings, or that PyTorch has and this framework does not have.

    >>> import tt_core
    >>> tt_core.Conv2d
    Traceback (most recent call last):
    tt_core.engine.later.AbsentError: tt_core has no Conv2d: Act III Data & Scale brings it; import tt_data, ...
    """


class AbsentModules(MetaPathFinder):
    """Answers `from tt_core import Conv2d` and `import tt_core.optim` with the act that brings the name.

    Python turns the error of a module's `__getattr__` into "cannot import name", but first looks for a submodule of
    that name. This finder is asked last, and raises `ImportError` for the names of later acts only.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """None, or `ImportError` for a name that a later act brings."""
        package, _, name = fullname.rpartition(".")
        if not package.startswith("tt_core") or package not in sys.modules or name.startswith("_"):
            return
        if name in TORCH or any(name in theirs for owner, theirs in names().items() if owner in ACTS):
            raise ImportError(f"{package} has no {name}: {_where(package, name)}", name=fullname)


def absent(package: str) -> Callable[[str], Any]:
    """A `__getattr__` for a package or namespace that names the act which brings an absent name.

    >>> absent("tt_core")("Profiler")
    Traceback (most recent call last):
    tt_core.engine.later.AbsentError: tt_core has no Profiler: Act V Production brings it; import tt_perf, ...
    """

    def answer(name: str) -> Any:
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if "." in package or name in SHARED:  # tt_core.nn shows what later acts bring, once they are imported
            for other in ACTS:
                exported = vars(sys.modules.get(other, object))
                if other != "tt_core" and name in exported:
                    return exported[name]
        raise AbsentError(f"{package} has no {name}: {_where(package, name)}")

    return answer


def listed(package: str, public: Iterable[str] = ()) -> Callable[[], list[str]]:
    """A `__dir__` for a package or namespace: what users write, for completion in notebooks.

    `public` are the package's own names, by default all but helpers; layers or functions of imported acts come beside
    them.

    >>> import tt_core.nn
    >>> "Linear" in dir(tt_core.nn), "did_you_mean" in dir(tt_core.nn)
    (True, False)
    """

    def answer() -> list[str]:
        own = vars(sys.modules[package])
        found = set(public) or {name for name, value in own.items() if not _is_helper(name, value)}
        for other in [act for act in ACTS if act in sys.modules and act != "tt_core"]:
            theirs = vars(sys.modules[other])
            found |= {name for name in SHARED if name in theirs} if public else _beside(package, theirs)
        return sorted(found | {name for name in own if name.startswith("__")})

    return answer


def _is_helper(name: str, value: Any) -> bool:
    origin = str(getattr(value, "__module__", ""))
    helpers = ("typing", "collections", "__future__", "tt_core.engine")
    foreign = isinstance(value, ModuleType) and not value.__name__.startswith("tt_core.")
    return name.startswith("_") or name == "TYPE_CHECKING" or foreign or origin.startswith(helpers)


def _beside(package: str, names: dict[str, Any]) -> set[str]:
    """Which names of a later act belong into `tt_core.nn` (its layers) or `tt_core.nn.functional` (its ops)."""
    if package.endswith("functional"):
        return {name for name, value in names.items() if hasattr(value, "kernel")}
    return {name for name, value in names.items() if isinstance(value, type) and hasattr(value, "named_parameters")}


def _where(package: str, name: str) -> str:
    for other, theirs in names().items():
        if name in theirs and other in ACTS and other != package:
            return f"Act {act_name(ACTS[other])} brings it; import {other}, then {other}.{name}"
    for other in ACTS:  # an earlier act, which is installed and imported
        earlier = other != package and ACTS[other] < ACTS[package.partition(".")[0]]
        if earlier and name in vars(sys.modules.get(other, object)):
            return f"Act {act_name(ACTS[other])} has it; write {other}.{name}"
    if name in TORCH:
        return TORCH[name]
    module = importlib.import_module(package)
    public = [known for known in dir(module) if not known.startswith("_")]
    near = did_you_mean(name, public)
    return near if near.startswith("did") else "no act has it; docs/not-here.md says what to use instead"


def absent_thing(kind: str, name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown plugin, milestone, module or command: the act that brings it, if one does.

    Otherwise it ends with similar known names. `kind` is one of `KINDS`.

    >>> absent_thing("plugin", "formla", ["formula"])
    'did you mean formula?'
    """
    for package, act in ACTS.items():
        if name in names().get(f"{package}:{kind}", ()) and find_spec(package) is None:
            return f"Act {act_name(act)} brings it: install {package.replace('_', '-')}"
    return did_you_mean(name, known)


def absent_in_tensor(tensor: object, name: str) -> str:
    """Why a tensor has no attribute `name`, and what to write instead.

    >>> import tt_core
    >>> tt_core.zeros(1).gelu()
    Traceback (most recent call last):
    AttributeError: a tensor has no gelu: write tt_core.gelu(x)
    """
    if name in names()[TENSOR]:
        if "tt_learn" in sys.modules:
            return f"this tensor has no {name}: it was made before `import tt_learn`; make it again after that line"
        return f"a tensor has no {name}: Act II Learning brings gradients; import tt_learn before making tensors"
    if callable(vars(sys.modules["tt_core"]).get(name)):
        return f"a tensor has no {name}: write tt_core.{name}(x)"
    near = did_you_mean(name, [known for known in dir(type(tensor)) if not known.startswith("_")])
    return f"a tensor has no {name}" + (f": {near}" if near.startswith("did") else "")


def absent_option(name: str) -> str:
    """Why nothing that makes tensors takes the option `name`, and what to do.

    >>> absent_option("requires_grad")
    'requires_grad needs Act II Learning; import tt_learn, and use tensor() or tt_learn.Tensor'
    """
    if name in names()[TENSOR]:
        return f"{name} needs Act II Learning; import tt_learn, and use tensor() or tt_learn.Tensor"
    return f"{name} is not one of its arguments"
