"""Module 13, transformers: GPT, the decoder-only language model.

A frozen `GPTConfig` (`config.py`) covers the families of GPT-2 (learned positions, LayerNorm, GELU) and Llama (rotary
positions, RMSNorm, SwiGLU, grouped queries). Checkpoints are read in `pretrained.py`, text is generated in
`generation.py`, and training is module 07.
"""

from __future__ import annotations

import math
import os

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.layers import Dropout, Layer, LayerList, LayerNorm, Linear
from tt_core.losses import cross_entropy
from tt_core.tensor import Tensor
from tt_language.embeddings import Embedding, RotaryEmbedding
from tt_language.errors import ConfigError, short
from tt_language.hookspecs import Past
from tt_language.transformers.blocks import TransformerBlock, norm_of
from tt_language.transformers.checks import check_call
from tt_language.transformers.config import GPTConfig
from tt_language.transformers.normalization import RMSNorm
from tt_language.transformers.pretrained import Pretrained


class GPT(Layer):
    """A decoder-only language model (Radford et al. 2019; Touvron et al. 2023), described by a `GPTConfig`.

    Takes ids (batch, T), returns logits (batch, T, vocab_size) for the token after each. Weights start normal with
    deviation sqrt(2 / (5 n_embd)) (Nguyen & Salazar 2019); those that write to the residual stream are divided by
    sqrt(2 n_layer), as in GPT-2; biases start at 0. GPT-2's own 0.02 is this deviation at its width, 0.023 at 768.
    Narrower models that start with 0.02 learn slowly: nanoGPT's CPU configuration, 128 wide, ends at a loss of 1.90
    instead of 1.74. Raises `ConfigError` for anything but a `GPTConfig`.

    >>> from tt_core import tensor
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> model(tensor([[1, 2, 3]])).shape
    (1, 3, 10)
    """

    @checked
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if not isinstance(config, GPTConfig):
            raise ConfigError(f"GPT: expected a GPTConfig, got {short(config)}")
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.block_size, config.n_embd) if config.position == "learned" else None
        self.rotary = _rotary_of(config) if config.position == "rotary" else None
        self.dropout = Dropout(config.dropout)
        self.blocks = LayerList(_block_of(config) for _ in range(config.n_layer))
        self.norm = norm_of(config.norm, config.n_embd, config.norm_eps, config.bias)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        # a token's vector serves twice: read at the input, and compared with the last state at the output
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        std = math.sqrt(2 / (5 * self.config.n_embd))
        for layer in self.modules():
            if isinstance(layer, (Linear, Embedding)):
                init.normal_(layer.weight, std=std)
            if isinstance(layer, (LayerNorm, RMSNorm)) and layer.weight is not None:
                init.ones_(layer.weight)
            if isinstance(layer, (Linear, LayerNorm)) and layer.bias is not None:
                init.zeros_(layer.bias)
        # 2 n_layer parts are added to the residual stream; without this, its variance would grow with their number
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layer))

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        attn_mask: Tensor | None = None,
        past: Past | None = None,
        logits_to_keep: int = 0,
    ) -> Tensor:
        """Logits for ids (batch, T), or only for the last `logits_to_keep` of them.

        positions: (T,) or (batch, T); by default they continue those that `past` holds.
        attn_mask: broadcasts to (batch, heads, T, S); hides more than the later tokens.
        past: keys and values of earlier calls (a KV cache, see `hookspecs.Past`).

        Raises `ShapeError` for more than `block_size` tokens, `ArgumentError` for a negative `logits_to_keep`.
        """
        before = 0 if past is None else past.length  # tokens that a cache has read
        endless = getattr(past, "beyond", "crop") == "window"
        check_call(ids, before, self.config.block_size, endless, logits_to_keep)
        if past is not None and hasattr(past, "begin"):
            attn_mask = past.begin(ids, positions, attn_mask)
        where = np.arange(before, before + ids.shape[-1]) if positions is None else positions
        x = self.wte(ids)  # (batch, T, n_embd)
        if self.wpe is not None:
            x = x + self.wpe(where)
        angles = None if self.rotary is None else self.rotary.angles(where, endless)  # twice (T, head_size / 2)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, attn_mask, angles=angles, past=past)
        if logits_to_keep:
            x = x[:, -logits_to_keep:]
        return self.lm_head(self.norm(x))  # (batch, T, vocab_size)

    @classmethod
    @checked
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> GPT:
        """The model in a folder in Hugging Face's format (config.json, *.safetensors), in evaluation mode.

        Reads the families of GPT-2 and Llama. Weights in float32 are mapped, not copied: the file is read as they are
        used, and must not change meanwhile. Raises `CheckpointError` or `ConfigError` that says what does not fit.
        """
        pretrained = Pretrained(folder)
        with init.skipped():
            model = GPT(pretrained.config)
        pretrained.load_into(model)
        return model.eval()

    @checked
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as a folder in Hugging Face's format, which `from_pretrained` and `transformers` load.

        Raises `ConfigError` for a model whose shape is neither GPT-2's nor Llama's, and `FileError`.
        """
        from tt_language.transformers.saving import save_pretrained

        save_pretrained(self, folder)


def _rotary_of(config: GPTConfig) -> RotaryEmbedding:
    return RotaryEmbedding(config.head_size, config.block_size, config.rope_theta, config.rope_scaling)


def _block_of(c: GPTConfig) -> TransformerBlock:
    return TransformerBlock(
        c.n_embd, c.n_head, num_kv_heads=c.n_kv_head, head_dim=c.head_dim, hidden_dim=c.intermediate_size,
        dropout=c.dropout, bias=c.bias, attention_bias=c.attention_bias, mlp_bias=c.mlp_bias, norm=c.norm,
        norm_eps=c.norm_eps, mlp=c.mlp, causal=True, parallel=c.parallel,
    )  # fmt: skip


@checked
def next_token_loss(logits: Tensor | Array, targets: Tensor | Array, ignore_index: int = -100) -> Tensor:
    """Mean cross entropy of logits (..., vocab) for the next tokens `targets` (...); leaves out `ignore_index`.

    Takes tensors or arrays. Raises `ShapeError` for targets of another shape.

    >>> from tt_core import tensor, zeros
    >>> round(next_token_loss(zeros(1, 3, 10), tensor([[1, 2, 3]])).item(), 4)  # log(10)
    2.3026
    """
    if tuple(targets.shape) != tuple(logits.shape[:-1]):
        raise ShapeError(f"next_token_loss: targets {targets.shape} do not fit logits {logits.shape}")
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=ignore_index)
