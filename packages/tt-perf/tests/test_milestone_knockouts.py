"""The milestone of 2024 depends on the modules that it uses: a small form of it is missed when one is sabotaged.

It does not depend on module 18, whose loops give what NumPy's kernels give, only faster.
"""

from __future__ import annotations

import pytest

from tt_core.course.testing import MilestoneTests

BEGIN = """
import sys
from pathlib import Path

sys.modules["numba"] = None  # compiling takes longer than all else
from tt_perf.command import milestones

seed = milestones.tt_core.manual_seed
milestones.tt_core.manual_seed = lambda _: seed(int(sys.argv[1]))
"""

LANGUAGE = f"""{BEGIN}
train, distil = milestones._trained_now, milestones.distil
milestones.documentation = lambda text=milestones.documentation()[:60_000]: text
milestones.trained = lambda _: train(steps=40)
milestones.distil = lambda *models: distil(*models, steps=10)
milestones.language(None, Path())
"""

IMAGES = f"""{BEGIN}
from tt_core.course.testing import Stripes

milestones._pictures = lambda _, count: (Stripes(count, 1), Stripes(200, 2), "stripes")
milestones.KNOWS, milestones.POINTS = 0.5, 0.3
milestones.images(None, Path(), count=512, epochs=3)
"""

FOR_LANGUAGE = {
    "01": ("add zeros", "matmul zeros"),
    "02": ("gelu reversed",),
    "03": ("linear zeros", "layer_norm zeros"),
    "04": ("cross_entropy input",),
    "05": ("edges_of zeros", "Backward.visit none"),
    "06": ("adam none", "CosineWarmupLR.lr_at zeros"),
    "07": ("evaluating zeros", "train_step input"),
    "10": ("learn_merges input",),
    "11": ("embedding zeros",),
    "12": ("scaled_dot_product_attention reversed", "split_heads input"),
    "13": ("GPT.forward zeros", "_steps zeros", "next_token_loss input"),
    "14": ("verdict zeros",),
    "15": ("to_grid zeros",),
    "17": ("LayerMemory.extend zeros", "LayerMemory.extend half", "LayerMemory.extend reversed"),
    "19": ("median zeros", "take_turns input"),
}
UNNOTICED_BY_LANGUAGE = {
    "10 merge_pairs zeros": "a text of which some tokens are wrong is as easy to learn",
    "14 Call.walk zeros": "the profile is printed, and nothing is required of it",
    "16 soft_loss zeros": "shrunk by so little, the model stays good enough without distillation",
}

FOR_IMAGES = {
    "02": ("relu zeros",),
    "03": ("Sequential.forward input",),
    "08": ("default_collate input", "BatchSampler.__iter__ zeros", "Epoch._submit_ahead none"),
    "09": ("conv2d zeros", "max_pool2d zeros", "batch_norm_training zeros"),
    "15": ("pack_int8 zeros",),
}
UNNOTICED_BY_IMAGES = {
    "08 default_collate zeros": "all images and all labels are 0, so the network is always right",
    "15 affine_scale zeros": "forms of which only the weights are integers are small enough",
}


@pytest.mark.knockouts
class TestLanguage(MilestoneTests):
    small, needed, unnoticed = LANGUAGE, FOR_LANGUAGE, UNNOTICED_BY_LANGUAGE


@pytest.mark.knockouts
class TestImages(MilestoneTests):
    small, needed, unnoticed = IMAGES, FOR_IMAGES, UNNOTICED_BY_IMAGES
