"""Use a learner's files in this process: `import tt_core.workspace` before anything else of the framework.

In a workspace (`tt init`) or a folder below it, the learner's files take the place of the framework's modules, as with
`tt run`. Elsewhere it says so, and the framework's own code runs. In a notebook, `%load_ext tt_core.workspace` does the
same.
"""

from __future__ import annotations

import importlib
import os
import sys

from tt_core.course import finder as _finder

_PACKAGES = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt")


def _import_again() -> None:
    """Import `tt_core` with the finder in place: Python has imported it already, in order to get here."""
    from tt_core.course.folder import Workspace
    from tt_core.engine.errors import TinyTorchError

    try:
        os.environ[_finder.WORKSPACE] = str(Workspace.find().root)
    except TinyTorchError as error:
        print(f"{error}; until then, the framework's own code runs", file=sys.stderr)
        return
    here = sys.modules[__name__]
    for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
        del sys.modules[name]
    sys.modules[__name__] = here
    importlib.import_module("tt_core")


def load_ipython_extension(_: object) -> None:
    """What `%load_ext` calls; importing this module has done the work."""


if _finder.active is None:
    _import_again()
