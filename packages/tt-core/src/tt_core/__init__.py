"""Act I, Foundation: tensors, activations, layers and losses on NumPy, with the dispatch every later act plugs into."""
from __future__ import annotations

from tt_core.__about__ import __version__ as __version__
from tt_core.creation import *
from tt_core.dispatch import op as op
from tt_core.errors import TinyTorchError as TinyTorchError
from tt_core.layers import *
from tt_core.plugins import hookimpl as hookimpl
from tt_core.plugins import manager, names_from_environment
from tt_core.plugins import use as use
from tt_core.random import generator as generator
from tt_core.random import get_rng_state as get_rng_state
from tt_core.random import manual_seed as manual_seed
from tt_core.random import set_rng_state as set_rng_state
from tt_core.tensor import Tensor as Tensor

manager.pending = names_from_environment()
if manager.pending:
    manager.rebind()
