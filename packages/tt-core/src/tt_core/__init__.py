"""Act I, Foundation: tensors, activations, layers and losses on NumPy, with the dispatch every later act plugs into."""

from tt_core.__about__ import __version__ as __version__
