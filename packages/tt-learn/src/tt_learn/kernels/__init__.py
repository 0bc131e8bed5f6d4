"""The tuned kernels of Act II: faster forms of the backward ops in `rules/`, and of the updates in `optimizers/`.

Importing it registers them.
"""

from __future__ import annotations

from tt_learn.kernels import activations as activations
from tt_learn.kernels import autograd as autograd
from tt_learn.kernels import layers as layers
from tt_learn.kernels import losses as losses
from tt_learn.kernels import optimizers as optimizers
from tt_learn.kernels import products as products
