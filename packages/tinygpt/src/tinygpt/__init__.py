"""Act VI, Integration: a small GPT, trained and sampled from the command line on all five acts."""

from __future__ import annotations

from tinygpt.__about__ import __version__ as __version__
