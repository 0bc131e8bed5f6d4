"""Module 20, capstone: the options of fine-tuning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from tinygpt.capstone.settings import check_settings, option


@dataclass(frozen=True)
class TuneConfig:
    """Everything that decides a fine-tuning but the model and the data. Names of LoRA's options are PEFT's."""

    lora: bool = option(False, "train a LoRA adapter beside the weights, in place of the weights")
    lora_r: int = option(8, "rank of the adapter")
    lora_alpha: float = option(16.0, "the adapter's output is multiplied by lora-alpha / lora-r")
    lora_dropout: float = 0.0
    lora_targets: str = option("all-linear", "names of the layers to adapt, such as c_attn,c_proj or q_proj,v_proj")
    steps: int = option(0, "0: three times through the data")
    batch_size: int = 8
    block_size: int = option(0, "longest text in tokens; 0: the model's context, and no more than 512")
    learning_rate: float = option(0.0, "0: 1e-3 with --lora, 2e-4 without")
    weight_decay: float = 0.0
    grad_clip: float = option(1.0, "largest norm of all gradients; 0 leaves them as they are")
    eval_interval: int = option(0, "steps from one validation and save to the next; 0: a fifth of all steps")
    val_fraction: float = option(0.1, "how much of the data is held out")
    seed: int = 1337

    def __post_init__(self) -> None:
        check_settings(self, self._checks())

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        for name in ("lora_r", "batch_size"):
            yield name, getattr(self, name) >= 1, "1 or more"
        for name in ("steps", "block_size", "learning_rate", "weight_decay", "grad_clip", "eval_interval", "seed"):
            yield name, 0 <= getattr(self, name) < math.inf, "0 or more"
        yield "lora_alpha", 0 < self.lora_alpha < math.inf, "above 0"
        yield "lora_dropout", 0 <= self.lora_dropout < 1, "at least 0 and below 1"
        yield "val_fraction", 0 < self.val_fraction < 1, "between 0 and 1"

    def completed(self, examples: int, context: int) -> TuneConfig:
        """The configuration with values in place of zeros, for `examples` examples and a model with this `context`.

        >>> TuneConfig().completed(examples=80, context=1024).steps
        30
        """
        steps = self.steps or max(1, math.ceil(3 * examples / self.batch_size))
        return dataclasses.replace(
            self,
            steps=steps,
            block_size=min(self.block_size or 512, context),
            learning_rate=self.learning_rate or (1e-3 if self.lora else 2e-4),
            eval_interval=self.eval_interval or max(1, steps // 5),
        )

    @property
    def targets(self) -> str | list[str]:
        """What `LoraConfig` takes as `target_modules`."""
        names = [name.strip() for name in self.lora_targets.split(",") if name.strip()]
        return "all-linear" if names == ["all-linear"] else names
