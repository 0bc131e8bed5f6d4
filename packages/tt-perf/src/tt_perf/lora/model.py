"""LoRA: a model with an adapter, which can be trained, saved, merged into the weights, or removed.

Adapted layers replace `Linear` layers inside the model, so generation, caches and quantization work as before.
`PeftModel` keeps track of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import regex  # type: ignore[import-untyped, unused-ignore]

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError
from tt_core.layers import Layer, Linear, replace_layers
from tt_core.tensor import Tensor, from_numpy
from tt_language import GPT
from tt_language.errors import ConfigError
from tt_language.transformers import family_of, sources_of
from tt_perf.lora.layers import LoraConfig, LoraError, LoraLinear, LoraUpdate


@dataclass(frozen=True)
class Target:
    """A part of a linear layer that can be adapted, by its name in the checkpoint."""

    layer: str
    """Path in the model, such as `blocks.0.attention.in_proj`."""
    part: str
    """Path in the checkpoint, such as `model.layers.0.self_attn.q_proj`."""
    rows: tuple[int, int]

    def is_called(self, word: str) -> bool:
        """Whether `word` is the path in the checkpoint or in the model, or the end of one."""
        return ends_with(self.part, word) or ends_with(self.layer, word)


DEFAULT_TARGETS = {"gpt2": ("c_attn",), "llama": ("q_proj", "v_proj"), "other": ("in_proj",)}
"""What PEFT adapts in the two families where `target_modules` is None."""


def targets_of(model: GPT) -> list[Target]:
    """The linear layers that can be adapted; each part of a packed projection is an entry.

    >>> from tt_language import GPTConfig
    >>> [t.part for t in targets_of(GPT(GPTConfig(vocab_size=8, block_size=4, n_layer=1, n_head=1, n_embd=4)))][:2]
    ['transformer.h.0.attn.c_attn', 'transformer.h.0.attn.c_proj']
    """
    linears = {path: layer for path, layer in model.named_modules() if isinstance(layer, Linear)}
    found = []
    for layer, part, rows in _parts_of(model):
        if layer in linears:
            found.append(Target(layer, part, rows or (0, linears[layer].out_features)))
    if "lm_head" in linears and not any(target.layer == "lm_head" for target in found):  # a tied one has no entry
        found.append(Target("lm_head", "lm_head", (0, linears["lm_head"].out_features)))
    return found


def _parts_of(model: GPT) -> Iterator[tuple[str, str, tuple[int, int] | None]]:
    """(path in the model, path in the checkpoint, rows) for each weight; the model's own names outside of families."""
    if family_or_other(model) == "other":
        yield from ((path, path, None) for path, layer in model.named_modules() if isinstance(layer, Linear))
        return
    for source in sources_of(model.config):
        if source.name.endswith(".weight"):
            start = 0
            for name, size in zip(source.tensors, source.rows or (source.shape[0],)):
                yield source.name[:-7], name[:-7], (start, start + size)
                start += size


@checked
def get_peft_model(model: GPT, config: LoraConfig) -> PeftModel:
    """Add an adapter to a model in place; returns the object that trains, saves, merges and removes it.

    The weights of the model no longer require gradients; those of the adapter do. Create the optimizer afterwards.
    Raises `LoraError` for names that the model does not have, and for a model that has an adapter.

    >>> from tt_language import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=8, block_size=4, n_layer=1, n_head=1, n_embd=4))
    >>> get_peft_model(model, LoraConfig(r=2)).trainable_parameters()
    (32, 332)
    """
    return PeftModel(model, config)


class PeftModel(Layer):
    """A model and its adapter. A call runs the model; the state dict holds the adapter alone."""

    @checked
    def __init__(self, model: GPT, config: LoraConfig) -> None:
        super().__init__()
        if any(isinstance(layer, LoraLinear) for layer in model.modules()):
            raise LoraError("get_peft_model: the model has an adapter; merge it or unload it first")
        self.config = config
        self.targets = _chosen(model, config)
        self._swaps: list[tuple[Layer, str, Tensor, Tensor]] = []  # holder, attribute, the model's, the trained copy
        whole = _layers_to_save(model, config)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self._adapt(model)
        self.model = model
        for layer in whole:
            self._train_copies(layer, lambda name: True)
        if config.bias != "none":
            for layer in list(model.modules()):
                if config.bias == "all" or isinstance(layer, LoraLinear):
                    held = layer.base if isinstance(layer, LoraLinear) else layer
                    self._train_copies(held, lambda name: name == "bias")

    def _adapt(self, model: GPT) -> None:
        by_layer: dict[str, dict[str, LoraUpdate]] = {}
        linears = dict(model.named_modules())
        for target in sorted(self.targets, key=lambda target: target.rows):
            features = linears[target.layer].in_features  # type: ignore[attr-defined]
            name = target.part.rpartition(".")[2]
            by_layer.setdefault(target.layer, {})[name] = LoraUpdate(features, target.rows, self.config)
        paths = {layer: path for path, layer in linears.items() if path in by_layer}
        replace_layers(
            model,
            lambda layer, path: path in by_layer,
            lambda layer: LoraLinear(_linear(layer), by_layer[paths[layer]]),
        )

    def _train_copies(self, layer: Layer, chosen: Callable[[str], bool]) -> None:
        """Train copies of the parameters of `layer`; `unload` restores the originals."""
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if chosen(name) and not parameter.requires_grad:
                copy = from_numpy(np.array(parameter.data)).as_parameter()
                self._swaps.append((layer, name, parameter, copy))
                setattr(layer, name, copy)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The output of the model."""
        return self.model(*args, **options)

    # --- the adapter's state

    def trained(self) -> dict[str, Tensor]:
        """The trained parameters, by their names in the model."""
        return {name: entry for name, entry in self.model.named_parameters() if entry.requires_grad}

    def trainable_parameters(self) -> tuple[int, int]:
        """The number of trained weights, and of all weights."""
        return sum(entry.data.size for entry in self.trained().values()), self.model.num_parameters()

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        """The trained parameters by name, which is all that a checkpoint needs in addition to the model's file."""
        return dict(self.trained())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Copy `state_dict` into the trained parameters; raises `LoraError` for other names or shapes."""
        own = self.trained()
        different = sorted(set(own) ^ set(state_dict))
        if different:
            raise LoraError(f"load_state_dict: {different[0]} is in one of adapter and state dict only")
        for name, entry in own.items():
            values = np.asarray(getattr(state_dict[name], "data", state_dict[name]))
            if values.shape != entry.shape:
                raise LoraError(f"load_state_dict: {name} is {values.shape}, the adapter has {entry.shape}")
        for name, entry in own.items():
            np.copyto(entry.data, getattr(state_dict[name], "data", state_dict[name]), casting="same_kind")
            mutation.record(entry.data)

    # --- on, off, merged, gone

    def adapted(self) -> dict[str, LoraLinear]:
        """The adapted layers by path."""
        return {path: layer for path, layer in self.model.named_modules() if isinstance(layer, LoraLinear)}

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """A block in which the model computes without the adapter."""
        merged = [layer for layer in self.adapted().values() if layer.merged]
        for layer in merged:
            layer.unmerge()
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)
            for layer in merged:
                layer.merge()

    def _switch(self, on: bool) -> None:
        for layer in self.adapted().values():
            layer.enabled = on
            mutation.record(layer.base.weight.data)  # so that caches of the model's results become invalid
        for holder, name, original, copy in self._swaps:
            setattr(holder, name, copy if on else original)

    def merge_adapter(self, safe_merge: bool = False) -> dict[str, float]:
        """Add the updates to the weights, until `unmerge_adapter`; returns the largest rounding difference by layer.

        With `safe_merge`, raises `LoraError` for weights that would not be finite, and merges nothing.
        """
        done: dict[str, float] = {}
        layers = self.adapted()
        try:
            for path, layer in layers.items():
                done[path] = layer.merge(safe_merge)
        except LoraError as error:
            for path in done:
                layers[path].unmerge()
            raise LoraError(f"{error} (layer {next(path for path in layers if path not in done)})") from None
        return done

    def unmerge_adapter(self) -> None:
        """Restore the weights from before the merge, bit for bit."""
        for layer in self.adapted().values():
            layer.unmerge()

    def merge_and_unload(self, safe_merge: bool = False) -> GPT:
        """Merge the updates into the weights and remove the adapter layers, in place; returns the model.

        A tied head that is adapted, or trained as a whole, becomes an untied head, also in the model's config.
        """
        self.merge_adapter(safe_merge)
        return self._unloaded()

    def unload(self) -> GPT:
        """Remove the adapter in place; returns the model as it was before."""
        self.unmerge_adapter()
        for holder, name, original, _ in self._swaps:
            setattr(holder, name, original)
        return self._unloaded()

    def _unloaded(self) -> GPT:
        model = self.model
        replace_layers(model, lambda layer, path: isinstance(layer, LoraLinear), _base)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        tied = model.lm_head.weight is model.wte.weight
        if model.config.tie_weights != tied:
            model.config = dataclasses.replace(model.config, tie_weights=tied)
        self._swaps = []
        return model

    def extra_repr(self) -> str:
        trained, total = self.trainable_parameters()
        return f"trains {trained} of {total} parameters"


# --- names


def _chosen(model: GPT, config: LoraConfig) -> list[Target]:
    """The targets that `target_modules` selects."""
    available, wanted = targets_of(model), config.target_modules
    if wanted is None:
        wanted = DEFAULT_TARGETS[family_or_other(model)]
    if isinstance(wanted, str):
        chosen = [t for t in available if (t.layer != "lm_head" if wanted == "all-linear" else _fits(t, wanted))]
        if not chosen:
            raise LoraError(f"target_modules: no linear layer fits {wanted[:60]!r}; it has {_known(available)}")
        return chosen
    for word in wanted:
        if not any(target.is_called(word) for target in available):
            raise LoraError(f"target_modules: no linear layer is called {word[:60]!r}; it has {_known(available)}")
    if not wanted:
        raise LoraError("target_modules is empty; name at least one layer, such as c_attn or q_proj")
    return [target for target in available if any(target.is_called(word) for word in wanted)]


def _fits(target: Target, pattern: str) -> bool:
    """Whether a regular expression fits the whole path; it may come from a file, so its time is limited."""
    try:
        return any(regex.fullmatch(pattern, path, timeout=1) for path in (target.part, target.layer))
    except (regex.error, TimeoutError, RecursionError, OverflowError) as error:
        raise LoraError(f"target_modules: {pattern[:60]!r} is no usable regular expression: {error}") from None


def _known(targets: Sequence[Target]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for t in targets for name in (t.part, t.layer)}))


def family_or_other(model: GPT) -> str:
    """The family by whose names a model's checkpoint is read, or "other" for a model of neither."""
    try:
        return family_of(model.config)
    except ConfigError:
        return "other"


def _layers_to_save(model: GPT, config: LoraConfig) -> list[Layer]:
    """The layers that `modules_to_save` selects."""
    layers, names = dict(model.named_modules()), names_of(model)
    found = []
    for word in config.modules_to_save or ():
        matching = [path for path, theirs in names.items() if ends_with(path, word) or ends_with(theirs, word)]
        if not matching:
            known = ", ".join(sorted({theirs.rpartition(".")[2] for theirs in names.values()}))
            raise LoraError(f"modules_to_save: no layer is called {word[:60]!r}; it has {known}")
        found += [layers[path] for path in matching]
    return found


def ends_with(path: str, word: str) -> bool:
    """PEFT's rule for names: the whole path or its last parts."""
    return path == word or path.endswith(f".{word}")


def names_of(model: GPT) -> dict[str, str]:
    """The checkpoint's name of each layer that has a single name there; packed projections have several."""
    if family_or_other(model) == "other":
        return {path: path for path, layer in model.named_modules() if layer._parameters}
    names = {"lm_head": "lm_head"}
    for source in sources_of(model.config):
        if source.name.endswith(".weight") and len(source.tensors) == 1:
            names[source.name[:-7]] = source.tensors[0][:-7]
    return names


def _base(layer: Layer) -> Layer:
    return cast(LoraLinear, layer).base


def _linear(layer: Layer) -> Linear:
    if not isinstance(layer, Linear):
        raise ArgumentError(f"LoRA adapts Linear layers, got {type(layer).__name__}")
    return layer
