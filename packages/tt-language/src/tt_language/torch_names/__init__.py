"""Attention and transformer layers with PyTorch's names, arguments and state dicts, for code written for PyTorch.

They are compositions of modules 11 to 13, which explain how they work; PyTorch's weights load unchanged. Differences
from PyTorch are in docs/deviations.md, omissions in docs/not-here.md.
"""

from __future__ import annotations

from tt_language.torch_names.attention import MultiheadAttention as MultiheadAttention
from tt_language.torch_names.transformers import Transformer as Transformer
from tt_language.torch_names.transformers import TransformerDecoder as TransformerDecoder
from tt_language.torch_names.transformers import TransformerDecoderLayer as TransformerDecoderLayer
from tt_language.torch_names.transformers import TransformerEncoder as TransformerEncoder
from tt_language.torch_names.transformers import TransformerEncoderLayer as TransformerEncoderLayer
