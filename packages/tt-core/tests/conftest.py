"""Random tests take a few examples a run, so that an act is tested in seconds; a slow machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("seconds", max_examples=20, deadline=None)
settings.load_profile("seconds")
