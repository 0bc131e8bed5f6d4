"""Module 11, embeddings: from token ids to vectors, and from positions to vectors or rotations.

Read `embeddings`, `positions` and `rotary`. `rope_scaling` stretches rotary positions to longer texts as
`rope_config` reads it from a checkpoint. `inspection`, `pictures` and `footprint` look at a trained table.
"""

from __future__ import annotations

from tt_language.embeddings.checks import check_ids as check_ids
from tt_language.embeddings.embeddings import Embedding as Embedding
from tt_language.embeddings.embeddings import embedding as embedding
from tt_language.embeddings.embeddings import embedding_backward as embedding_backward
from tt_language.embeddings.footprint import MemoryFootprint as MemoryFootprint
from tt_language.embeddings.footprint import memory_footprint as memory_footprint
from tt_language.embeddings.inspection import nearest as nearest
from tt_language.embeddings.pictures import picture as picture
from tt_language.embeddings.positions import PositionalEmbedding as PositionalEmbedding
from tt_language.embeddings.positions import SinusoidalEmbedding as SinusoidalEmbedding
from tt_language.embeddings.rope_config import RopeScaling as RopeScaling
from tt_language.embeddings.rope_scaling import Scaled as Scaled
from tt_language.embeddings.rope_scaling import plain_frequencies as plain_frequencies
from tt_language.embeddings.rotary import RotaryEmbedding as RotaryEmbedding
from tt_language.embeddings.rotary import rotary as rotary
