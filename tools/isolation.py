"""Fails unless acts 1..N are installed in this environment and no later act can be imported.

Run as `python -I tools/isolation.py N`: the flag keeps the working folder and PYTHONPATH out of sys.path.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

ACTS = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt")


def complaints(number: int) -> list[str]:
    """What is wrong with this environment as one that holds acts 1..number."""
    prefix = Path(sys.prefix).resolve()
    found = []
    for act, name in enumerate(ACTS, start=1):
        spec = find_spec(name)
        if act > number and spec is not None:
            found.append(f"{name} belongs to act {act} but can be imported from {spec.origin}")
        elif act <= number and (spec is None or spec.origin is None):
            found.append(f"{name} of act {act} is not installed")
        elif act <= number and prefix not in Path(spec.origin).resolve().parents:
            found.append(f"{name} comes from {spec.origin}, not from this environment ({prefix})")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(complaints(int(sys.argv[1]))) or None)
