"""Act IV, Language: tokenizers, embeddings, attention and transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from tt_core.engine.later import absent as _absent
from tt_core.engine.plugins import manager as _manager
from tt_language import hookspecs as _hookspecs
from tt_language import kernels as kernels
from tt_language.__about__ import __version__ as __version__
from tt_language.attention import MultiHeadAttention as MultiHeadAttention
from tt_language.attention import attention_weights as attention_weights
from tt_language.attention import heat_map as heat_map
from tt_language.attention import record_attention as record_attention
from tt_language.attention import scaled_dot_product_attention as scaled_dot_product_attention
from tt_language.embeddings import Embedding as Embedding
from tt_language.embeddings import MemoryFootprint as MemoryFootprint
from tt_language.embeddings import PositionalEmbedding as PositionalEmbedding
from tt_language.embeddings import RotaryEmbedding as RotaryEmbedding
from tt_language.embeddings import SinusoidalEmbedding as SinusoidalEmbedding
from tt_language.embeddings import embedding as embedding
from tt_language.embeddings import memory_footprint as memory_footprint
from tt_language.embeddings import nearest as nearest
from tt_language.embeddings import picture as picture
from tt_language.embeddings import rotary as rotary
from tt_language.errors import CheckpointError as CheckpointError
from tt_language.errors import ConfigError as ConfigError
from tt_language.errors import TokenizerError as TokenizerError
from tt_language.tokenization import AddedToken as AddedToken
from tt_language.tokenization import BPETokenizer as BPETokenizer
from tt_language.tokenization import ByteTokenizer as ByteTokenizer
from tt_language.tokenization import CharTokenizer as CharTokenizer
from tt_language.tokenization import CompressionReport as CompressionReport
from tt_language.tokenization import StreamDecoder as StreamDecoder
from tt_language.tokenization import Tokenizer as Tokenizer
from tt_language.tokenization import compression_report as compression_report
from tt_language.tokenization import load_tokenizer as load_tokenizer
from tt_language.tokenization import read_text as read_text
from tt_language.torch_names import MultiheadAttention as MultiheadAttention
from tt_language.torch_names import Transformer as Transformer
from tt_language.torch_names import TransformerDecoder as TransformerDecoder
from tt_language.torch_names import TransformerDecoderLayer as TransformerDecoderLayer
from tt_language.torch_names import TransformerEncoder as TransformerEncoder
from tt_language.torch_names import TransformerEncoderLayer as TransformerEncoderLayer
from tt_language.transformers import GPT as GPT
from tt_language.transformers import DecoderStack as DecoderStack
from tt_language.transformers import EncoderStack as EncoderStack
from tt_language.transformers import FeedForward as FeedForward
from tt_language.transformers import GPTConfig as GPTConfig
from tt_language.transformers import RMSNorm as RMSNorm
from tt_language.transformers import Sampling as Sampling
from tt_language.transformers import Seq2SeqTransformer as Seq2SeqTransformer
from tt_language.transformers import SwiGLU as SwiGLU
from tt_language.transformers import TransformerBlock as TransformerBlock
from tt_language.transformers import generate as generate
from tt_language.transformers import next_token_loss as next_token_loss
from tt_language.transformers import rms_norm as rms_norm
from tt_language.transformers import stream as stream

if not hasattr(_manager.hook, "tt_past"):
    _manager.add_hookspecs(_hookspecs)

if not _TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = _absent("tt_language")
