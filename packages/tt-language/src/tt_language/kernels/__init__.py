"""The tuned kernels of Act IV: faster forms of ops whose formulas are in the modules. Importing it registers them."""

from __future__ import annotations

from tt_language.kernels import attention as attention
from tt_language.kernels import embeddings as embeddings
from tt_language.kernels import transformers as transformers
