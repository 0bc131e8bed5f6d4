"""Module 03, layers: how a tree of layers is shown, and a warning about layers that are not in it."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

from tt_core.engine.notebook import tree
from tt_core.layers.state import dotted
from tt_core.tensor.tensor import Tensor
from tt_core.torch_names.layers import ModuleNames

if TYPE_CHECKING:
    from tt_core.layers.base import Layer


def as_text(layer: Layer) -> str:
    """The tree as lines of text, with counts of parameters."""
    label = f"{type(layer).__name__}({layer.extra_repr()}"
    if not layer._children:
        return f"{label})"
    lines = []
    for name, child in layer.named_children():
        text = as_text(child).replace("\n", "\n  ")
        lines.append(f"\n  ({name}): {text}" + (f"  # {_count(child):,}" if _count(child) else ""))
    return f"{label}{''.join(lines)}\n)"


def as_html(layer: Layer, name: str = "", depth: int = 0) -> str:
    """The tree as HTML that unfolds in a notebook; two levels are open."""
    label = f"{name}: " * bool(name) + f"{type(layer).__name__}({layer.extra_repr()})"
    note = f"{_count(layer):,} parameters" if _count(layer) else ""
    branches = [as_html(child, below, depth + 1) for below, child in layer.named_children()]
    return tree(label, note, branches, opened=depth < 2)


def _count(layer: Layer) -> int:
    """The result of `num_parameters`, also if a user's attribute of that name hides the method."""
    return sum(parameter.numel() for _, parameter in layer._named_parameters())


def warn_of_unregistered(root: Layer) -> None:
    """Warns about layers and parameters in plain lists and dicts below `root`, unless they are registered elsewhere."""
    found = list(root.named_modules())
    known = {id(layer) for _, layer in found} | {id(p) for _, layer in found for p in layer._parameters.values()}
    for prefix, layer in found:
        for name, value in layer.__dict__.items():
            if type(value) in (list, dict) and name not in layer._registries and _holds_another(value, known):
                kind = "LayerDict" if type(value) is dict else "LayerList"
                where = f"{type(root).__name__}.{dotted(prefix, name)}"
                warnings.warn(
                    f"{where} is a {type(value).__name__} of layers or parameters, which training, saving and eval() "
                    f"do not find; keep layers in a {kind}, parameters as attributes",
                    stacklevel=4,
                )


def _holds_another(value: Any, known: set[int], depth: int = 3) -> bool:
    """Whether the first entries of a list or dict, nested up to `depth`, hold a layer or parameter not in `known`."""
    for entry in itertools.islice(value.values() if isinstance(value, dict) else value, 100):
        if isinstance(entry, ModuleNames) or (isinstance(entry, Tensor) and entry.is_parameter):
            if id(entry) not in known:
                return True
        elif depth > 1 and type(entry) in (list, tuple, dict) and _holds_another(entry, known, depth - 1):
            return True
    return False
