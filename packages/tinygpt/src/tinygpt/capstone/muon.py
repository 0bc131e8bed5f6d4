"""Module 20, capstone: Muon for a GPT, in place of AdamW (`--optimizer muon`)."""

from __future__ import annotations

from typing import Any

from tinygpt.capstone.presets import TrainConfig
from tt_language import GPT
from tt_learn import Muon


def muon_for(model: GPT, config: TrainConfig) -> Muon:
    """Muon for the matrices of the layers, AdamW for all else, as Muon's authors use it; one learning rate for both.

    For this, a step of Muon is scaled to the size of one of AdamW (Liu et al. 2025, arXiv:2502.16982).
    """
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    inside = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in inside]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": [p for p in others if p.ndim >= 2], "use_muon": False},
        {"params": [p for p in others if p.ndim < 2], "use_muon": False, "weight_decay": 0.0},
    ]
    return Muon(
        [group for group in groups if group["params"]],
        config.learning_rate,
        config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
        betas=(config.beta1, config.beta2),
    )
