"""Module 13, transformers: blocks of attention and feed-forward layers, stacked into models.

Read `feed_forward`, `transformers` and `generation`. `config` holds the shape of a model; `pretrained` and `shards`
read and write checkpoints in Hugging Face's format.
"""

from __future__ import annotations

from tt_language.transformers.config import GPTConfig as GPTConfig
from tt_language.transformers.feed_forward import FeedForward as FeedForward
from tt_language.transformers.feed_forward import RMSNorm as RMSNorm
from tt_language.transformers.feed_forward import SwiGLU as SwiGLU
from tt_language.transformers.feed_forward import rms_norm as rms_norm
from tt_language.transformers.feed_forward import rms_norm_backward as rms_norm_backward
from tt_language.transformers.generation import Decoder as Decoder
from tt_language.transformers.generation import Sampling as Sampling
from tt_language.transformers.generation import Stop as Stop
from tt_language.transformers.generation import generate as generate
from tt_language.transformers.generation import stream as stream
from tt_language.transformers.generation import window_start as window_start
from tt_language.transformers.pretrained import load_pretrained as load_pretrained
from tt_language.transformers.pretrained import read_config as read_config
from tt_language.transformers.shards import Checkpoint as Checkpoint
from tt_language.transformers.shards import Entry as Entry
from tt_language.transformers.shards import read_json_object as read_json_object
from tt_language.transformers.transformers import GPT as GPT
from tt_language.transformers.transformers import DecoderStack as DecoderStack
from tt_language.transformers.transformers import EncoderStack as EncoderStack
from tt_language.transformers.transformers import Seq2SeqTransformer as Seq2SeqTransformer
from tt_language.transformers.transformers import TransformerBlock as TransformerBlock
from tt_language.transformers.transformers import next_token_loss as next_token_loss
