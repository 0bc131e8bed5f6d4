"""Random numbers for loading data: a batch gets the same numbers in whichever process it is prepared.

Part of module 08, dataloader. A `DataLoader` draws one seed per epoch from the framework's generator. The seed decides
the order of the samples, and with the number 7 the augmentation of batch 7. So neither depends on the number of workers
or on the batch at which an earlier run stopped.

While a batch is prepared, `tt_core.generator()` is the generator of the batch. A dataset, collate function or transform
that draws from it gets the same numbers with any number of workers. For `random` and `np.random`, see
`workers/global_state.py`.
"""

from __future__ import annotations

import numpy as np

from tt_core.random import drawing_from as drawing_from
from tt_core.random import generator as generator

ORDER = 0  # the stream of an epoch's seed for sampling; batch n draws from stream n + 1


def stream(seed: int, number: int) -> np.random.Generator:
    """Stream `number` of an epoch: independent streams from one seed, by NumPy's `SeedSequence`.

    >>> stream(1, 2).random() == stream(1, 2).random() != stream(1, 3).random()
    True
    """
    # the seed is mixed with the number: sums or products would give two batches of two epochs the same stream
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))


def draw_seed(rng: np.random.Generator | None = None) -> int:
    """The seed of one epoch, drawn from `rng` or the framework's generator."""
    # 63 bits, because a state is stored as JSON, whose integers many readers take for int64
    return int((rng or generator()).integers(0, 2**63 - 1))
