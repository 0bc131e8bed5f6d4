"""The tuned kernels of Act III: faster forms of ops whose formulas are in `spatial/`. Importing it registers them."""

from __future__ import annotations

from tt_data.kernels import convolution as convolution
from tt_data.kernels import normalization as normalization
from tt_data.kernels import pooling as pooling
