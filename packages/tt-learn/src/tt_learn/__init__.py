"""Act II, Learning: autograd as a plugin, optimizers, schedulers and a trainer that resumes to the bit."""

from tt_learn.__about__ import __version__ as __version__
