"""The milestone of 1998 depends on the modules that it uses: a small form of it is missed when one is sabotaged."""

from __future__ import annotations

import pytest

from tt_core.course.testing import MilestoneTests

SMALL = """
import sys
from tt_core.command.journey import require
from tt_core.course.testing import Stripes
from tt_data.command import milestones
from tt_data.datasets import GeneratedDigits

Recipe, seed = milestones.Recipe, int(sys.argv[1])


def small(name, train, test, classes, needed, **recipe):
    milestones._find = lambda *_: milestones._Found(name, False, train, test, classes)
    milestones.Recipe = lambda **options: Recipe(**{**options, "batch_size": 16, "epochs": 2, **recipe})
    milestones.require = lambda milestone, what, reached, _: require(milestone, what, reached, needed)


small("digits", GeneratedDigits(800, seed), GeneratedDigits(200, seed + 1), GeneratedDigits.classes, 0.85, max_lr=0.03)
milestones.digits(seed=seed)
small("stripes", Stripes(256, seed), Stripes(100, seed + 1), "abcd", 0.6, max_lr=0.02)
milestones.things(seed=seed)
"""

NEEDED = {
    "01": ("matmul zeros", "matmul reversed", "add zeros"),
    "02": ("relu zeros",),
    "03": ("linear zeros", "Linear.forward zeros", "Sequential.forward input"),
    "04": ("cross_entropy input",),
    "05": ("edges_of zeros", "Node.attach none", "Backward.visit none", "Backward.add none"),
    "06": ("SGD.update none", "penalized zeros", "penalized negated", "momentum zeros"),
    "07": ("confusion_matrix zeros", "confusion_matrix reversed", "train_step input", "evaluating zeros"),
    "08": (
        "default_collate input",
        "RandomSampler.indices zeros",
        "BatchSampler.__iter__ zeros",
        "Epoch._submit_ahead none",
    ),
    "09": (
        "conv2d zeros",
        "conv2d_weight negated",
        "max_pool2d zeros",
        "max_pool2d_backward negated",
        "batch_norm_training zeros",
        "batch_norm_backward negated",
        "move_statistics none",
    ),
}
UNNOTICED = {
    "02 log_softmax zeros": "its gradient is a rule of its own, so only a value is wrong that is not used",
    "04 cross_entropy negated": "likewise",
    "08 default_collate zeros": "all images and all labels are 0, so the network is always right",
}


@pytest.mark.knockouts
class TestCnn(MilestoneTests):
    small, needed, unnoticed = SMALL, NEEDED, UNNOTICED
