"""Module 16, compression: four ways to make a trained model smaller, and what each of them really saves. Act V.

Read in this order:

    reports.py        what a compression changed: bytes, FLOPs and seconds, measured
    pruning.py        prune_: weights become zero and stay zero. Bytes and time are unchanged
    masks.py          the masks of a model, which hold after each step (amounts, input_norms: what prune_ needs)
    gradual.py        pruning while a Trainer trains
    dependencies.py   which rows, columns and entries belong to one neuron, channel or head
    shrinking.py      shrink_: removes them, from the model, its optimizer and its config. Bytes and time go down
    refitting.py      shrink_(calibration=...): what reads removed units is fitted to its old outputs
    low_rank.py       a matrix as the product of two thin ones; factoring.py: low_rank_, where that pays
    distillation.py   a small student learns from what a large teacher finds likely; teachers.py: in a Trainer
    loading.py        load_compressed: a compressed model in a fresh process

What this module does not do: fewer bits for each number, which is module 15.
"""

from __future__ import annotations

from tt_perf.compression.distillation import distillation_loss
from tt_perf.compression.factoring import low_rank_
from tt_perf.compression.gradual import GradualPruning
from tt_perf.compression.loading import load_compressed
from tt_perf.compression.low_rank import LowRankLinear
from tt_perf.compression.masks import remove_masks_
from tt_perf.compression.pruning import gradual_amount, prune_
from tt_perf.compression.reports import CompressionError, Cost, Report
from tt_perf.compression.shrinking import shrink_
from tt_perf.compression.teachers import Distillation, DistillationTrainer

__all__ = [
    "CompressionError",
    "Cost",
    "Distillation",
    "DistillationTrainer",
    "GradualPruning",
    "LowRankLinear",
    "Report",
    "distillation_loss",
    "gradual_amount",
    "load_compressed",
    "low_rank_",
    "prune_",
    "remove_masks_",
    "shrink_",
]
