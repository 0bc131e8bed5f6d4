"""Random tests take the same few examples in each run, so that a run says something about the code and not about luck.

Searches with other examples each time, minutes long, are marked `fuzz`.
"""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # the environments of some sessions have no Hypothesis
    from hypothesis import settings

    # no deadline: a busy machine is no failure
    settings.register_profile("house", max_examples=20, deadline=None, derandomize=True, database=None)
    settings.load_profile("house")
