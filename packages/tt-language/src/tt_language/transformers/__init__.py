"""Module 13, transformers: blocks of attention and feed-forward layers, stacked into models.

Read `normalization`, `feed_forward`, `blocks` and `gpt`, then `generation` with `sampling`, `window` and `beams`.
`stacks` and `seq2seq` are the encoder-decoder of 2017. `config` holds the sizes of a model, `prompts` and `checks` look
at what callers ask for. `pretrained`, `hf_config` and `shards` read checkpoints in Hugging Face's format, and `saving`
writes them.
"""

from __future__ import annotations

from tt_language.transformers.blocks import TransformerBlock as TransformerBlock
from tt_language.transformers.blocks import add_residual as add_residual
from tt_language.transformers.config import GPTConfig as GPTConfig
from tt_language.transformers.feed_forward import ACTIVATIONS as ACTIVATIONS
from tt_language.transformers.feed_forward import FeedForward as FeedForward
from tt_language.transformers.feed_forward import SwiGLU as SwiGLU
from tt_language.transformers.generation import generate as generate
from tt_language.transformers.generation import stream as stream
from tt_language.transformers.gpt import GPT as GPT
from tt_language.transformers.gpt import next_token_loss as next_token_loss
from tt_language.transformers.hf_config import read_config as read_config
from tt_language.transformers.normalization import RMSNorm as RMSNorm
from tt_language.transformers.normalization import rms_norm as rms_norm
from tt_language.transformers.normalization import rms_norm_backward as rms_norm_backward
from tt_language.transformers.pretrained import Pretrained as Pretrained
from tt_language.transformers.pretrained import Source as Source
from tt_language.transformers.pretrained import family_of as family_of
from tt_language.transformers.pretrained import sources_of as sources_of
from tt_language.transformers.prompts import Decoder as Decoder
from tt_language.transformers.prompts import Stop as Stop
from tt_language.transformers.sampling import Sampling as Sampling
from tt_language.transformers.saving import hf_config as hf_config
from tt_language.transformers.saving import hf_tensors as hf_tensors
from tt_language.transformers.seq2seq import Seq2SeqTransformer as Seq2SeqTransformer
from tt_language.transformers.shards import Checkpoint as Checkpoint
from tt_language.transformers.shards import Entry as Entry
from tt_language.transformers.shards import read_json_object as read_json_object
from tt_language.transformers.stacks import DecoderStack as DecoderStack
from tt_language.transformers.stacks import EncoderStack as EncoderStack
from tt_language.transformers.window import window_start as window_start
