"""The milestone of 2017 depends on the modules that it uses: a small form of it is missed when one is sabotaged."""

from __future__ import annotations

import pytest

from tt_core.course.testing import MilestoneTests

SMALL = """
import sys
from pathlib import Path
from tt_language.command import milestones

seed = milestones.tt_core.manual_seed
milestones.tt_core.manual_seed = lambda _: seed(int(sys.argv[1]))
train = milestones._train
milestones._train = lambda model, batch, steps, **options: train(model, batch, steps // 4, **options)
milestones._LENGTH, here = 5, Path()
milestones.sequences("reversed", lambda x: x[:, ::-1], here)
milestones.translation(here)
text = here / "input.txt"
text.write_text("to be or not to be, that is the question. " * 400, encoding="utf-8")
milestones.shakespeare(text, steps=100, needed=1.5)
"""

NEEDED = {
    "01": ("add zeros", "matmul zeros"),
    "02": ("gelu zeros",),
    "03": ("linear zeros", "layer_norm zeros"),
    "04": ("cross_entropy input", "cross_entropy reversed"),
    "05": ("edges_of zeros", "Node.attach none", "Backward.visit none"),
    "06": ("adam none", "CosineWarmupLR.lr_at zeros"),
    "07": ("evaluating zeros", "train_step input", "accumulate input"),
    "10": ("CharTokenizer.encode input",),
    "11": ("embedding zeros", "sine_waves zeros"),
    "12": ("MultiHeadAttention.forward zeros", "scaled_dot_product_attention zeros"),
    "13": ("TransformerBlock.forward zeros", "GPT.forward zeros", "add_residual input"),
}
UNNOTICED = {
    "10 CharTokenizer.encode reversed": "a text that is reversed is as easy to learn",
}


@pytest.mark.knockouts
class TestTransformer(MilestoneTests):
    small, needed, unnoticed = SMALL, NEEDED, UNNOTICED
