"""Module 20, capstone: the memory that a training will need. `memory.py` asks the system what there is.

The estimate is a formula fitted to measured peaks of 14 shapes (1 to 8 layers, 32 to 1024 features, contexts of 16 to
1024): it meets the peaks of training steps within 15 %. It is computed before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinygpt.memory import available_memory, size
from tt_core.engine.errors import TinyTorchError
from tt_language import GPTConfig

if TYPE_CHECKING:
    from tinygpt.capstone.presets import TrainConfig

_TRAINED, _SAVED = 16, 24
"""Bytes per weight: itself, its gradient and two moments; and, while it is saved, twice what a checkpoint holds."""
_READ = 16
"""Bytes per token that is read: the token and the one to predict."""
_KEPT_SCORES = 256
"""Up to this context length, attention keeps its weights for backward (`tt_language.kernels.attention`)."""


@dataclass(frozen=True)
class Needs:
    """Bytes of memory that a training takes, beside Python and the text."""

    weights: int
    """Weights, gradients and the optimizer's state."""
    saving: int
    """Copies that exist while a checkpoint is written, when there are no activations."""
    activations: int
    """Activations of one batch that backward needs."""
    reading: int
    """The tokens of all batches of a step."""

    @property
    def total(self) -> int:
        return self.weights + max(self.saving, self.activations) + self.reading


def needs(config: TrainConfig, vocab_size: int) -> Needs:
    """The memory that training by `config` takes.

    A layer has 12 n_embd^2 weights, and each token and each learned position n_embd. For backward, a token of the batch
    keeps, in float32: 16 numbers a layer and feature, 2 more each for swiglu, dropout and rotary positions; n_head
    block_size scores a layer, for contexts up to `_KEPT_SCORES`; and 3 for each entry of the vocabulary.

    >>> from tinygpt.capstone.presets import preset
    >>> needs(preset("docs"), 1024).total // 10**6
    121
    """
    width, layers = config.n_embd, config.n_layer
    weights = 12 * layers * width**2 + (vocab_size + config.block_size * (config.position == "learned")) * width
    floats = 16 + 2 * (config.mlp == "swiglu") + 2 * (config.dropout > 0)  # of a layer, a feature and a token
    floats += 2 * (config.position == "rotary")
    scores = config.n_head * config.block_size if config.block_size <= _KEPT_SCORES else 0
    token = layers * (floats * width + scores) + 3 * vocab_size  # logits, their exponentials, their gradient
    activations = 4 * token * config.batch_size * config.block_size
    return Needs(_TRAINED * weights, _SAVED * weights, activations, _READ * config.tokens_per_step)


def check_memory(config: TrainConfig, vocab_size: int) -> Needs:
    """What training needs; raises `TinyTorchError` where that is more memory than there is."""
    smaller = "a smaller --n-embd, --n-layer, --vocab-size or --block-size"
    return checked(needs(config, vocab_size), config.batch_size, smaller)


def checked(wanted: Needs, batch_size: int, smaller: str) -> Needs:
    """The needs themselves; raises `TinyTorchError` where they are more memory than there is, with advice."""
    free = available_memory()
    if free is None or wanted.total <= free:
        return wanted
    # activations grow with the batch, so this many rows would fit
    room = (free - wanted.weights) * batch_size // wanted.activations
    if wanted.total - wanted.reading <= free:
        advice = "choose a smaller --accumulate or --batch-size"
    elif room >= 1 and wanted.weights + wanted.saving <= free:
        advice = f"choose a smaller --batch-size (up to {room}) or --block-size"
    else:
        advice = f"choose {smaller}"
    raise TinyTorchError(
        f"this training needs {size(wanted.total)} of memory ({size(wanted.weights)} for the weights, "
        f"{size(wanted.activations)} for a batch), and {size(free)} are free; {advice}"
    )


def tuning_needs(shape: GPTConfig, weights: int, trained: int, batch_size: int, block_size: int) -> Needs:
    """The memory of fine-tuning a model of `weights` numbers, of which `trained` are trained.

    Weights that are not trained have neither gradients nor moments, and no checkpoint holds them.

    >>> from tt_language import GPTConfig
    >>> shape = GPTConfig(vocab_size=1000, block_size=64, n_layer=2, n_head=2, n_embd=64)
    >>> [tuning_needs(shape, 170_000, trained, 8, 64).weights for trained in (170_000, 5000)]
    [2720000, 740000]
    """
    floats = 16 + 2 * (shape.mlp == "swiglu") + 4 * (trained < weights)  # an adapter adds its inputs and outputs
    scores = shape.n_head * block_size if block_size <= _KEPT_SCORES else 0
    # floats that one token leaves for backward, in all layers and in the loss
    token = shape.n_layer * (floats * shape.n_embd + scores) + 3 * shape.vocab_size
    activations = 4 * token * batch_size * block_size
    return Needs(4 * weights + (_TRAINED - 4) * trained, _SAVED * trained, activations, _READ * batch_size * block_size)
