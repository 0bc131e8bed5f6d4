"""Act VI, Integration: a small GPT, trained and sampled from the command line on all five acts."""

from tinygpt.__about__ import __version__ as __version__
