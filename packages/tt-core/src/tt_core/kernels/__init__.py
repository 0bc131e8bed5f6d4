"""The tuned kernels of Act I: faster forms of ops whose formulas are in the modules. Importing it registers them."""

from __future__ import annotations

from tt_core.kernels import activations as activations
from tt_core.kernels import elementwise as elementwise
from tt_core.kernels import indexing as indexing
from tt_core.kernels import layers as layers
from tt_core.kernels import losses as losses
from tt_core.kernels import products as products
from tt_core.kernels import reductions as reductions
from tt_core.kernels import shapes as shapes
