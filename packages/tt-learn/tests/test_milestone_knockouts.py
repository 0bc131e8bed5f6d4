"""The milestone of 1986 depends on the modules that it uses: a small form of it is missed when one is sabotaged."""

from __future__ import annotations

import pytest

from tt_core.course.testing import MilestoneTests

SMALL = """
import sys
import numpy as np
from tt_core.command.journey import require
from tt_learn.command import milestones
from tt_learn.command.digits import draw_digits

milestones.EPOCHS, milestones.BATCH, milestones.RATE = 2, 32, 4e-3
rng = np.random.default_rng(int(sys.argv[1]))
milestones.find_digits = lambda _: (*draw_digits(1500, rng), *draw_digits(500, rng))
milestones.require = lambda name, what, reached, needed: require(name, what, reached, needed - 0.05)
milestones.mlp()
"""

NEEDED = {
    "01": ("matmul zeros", "matmul input"),
    "02": ("relu zeros",),
    "03": ("linear zeros", "Linear.forward zeros", "Sequential.forward input"),
    "04": ("cross_entropy input",),
    "05": ("edges_of zeros", "Node.attach none", "Backward.visit none", "Backward.add none"),
    "06": ("adam none", "AdamW.update none"),
    "07": ("top_k_accuracy zeros", "top_k_accuracy half", "top_k_accuracy negated"),
}
UNNOTICED = {
    "01 matmul reversed": "the network learns with its features in another order",
    "02 log_softmax zeros": "its gradient is a rule of its own, so only a value is wrong that is not used",
    "04 cross_entropy zeros": "likewise",
    "04 cross_entropy negated": "likewise",
    "05 sum_to zeros": "only biases lose their gradients",
}


@pytest.mark.knockouts
class TestMlp(MilestoneTests):
    small, needed, unnoticed = SMALL, NEEDED, UNNOTICED
