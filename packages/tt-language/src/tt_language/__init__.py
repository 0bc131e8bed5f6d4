"""Act IV, Language: tokenizers, embeddings, attention and transformers."""

from __future__ import annotations

from tt_core.plugins import manager as _manager

from tt_language import hookspecs as _hookspecs
from tt_language.__about__ import __version__ as __version__

if not hasattr(_manager.hook, "tt_past"):
    _manager.add_hookspecs(_hookspecs)
