"""Module 16, compression: four ways to make a trained model smaller, and what each of them really saves. Act V.

Read in this order:

    reports.py        what a compression changed: bytes, FLOPs and seconds, measured
    pruning.py        prune_: weights become zero and stay zero. Bytes and time are unchanged
    dependencies.py   which rows, columns and entries belong to one neuron, channel or head
    shrinking.py      shrink_: removes them, from the model, its optimizer and its config. Bytes and time go down
    low_rank.py       low_rank_: a matrix as the product of two thin ones, where that pays
    distillation.py   a small student learns from what a large teacher finds likely
    loading.py        load_compressed: a compressed model in a fresh process

What this module does not do: fewer bits for each number, which is module 15.
"""

from __future__ import annotations

from tt_perf.compression.distillation import Distillation, DistillationTrainer, distillation_loss
from tt_perf.compression.loading import load_compressed
from tt_perf.compression.low_rank import LowRankLinear, low_rank_
from tt_perf.compression.pruning import GradualPruning, gradual_amount, prune_, remove_masks_
from tt_perf.compression.reports import CompressionError, Cost, Report
from tt_perf.compression.shrinking import shrink_

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
