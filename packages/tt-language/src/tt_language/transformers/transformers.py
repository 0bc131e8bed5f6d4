"""Module 13, transformers: blocks of attention and feed-forward layers, stacked into GPT and the model of 2017.

`GPT` from a frozen `GPTConfig` (`config.py`) covers the families of GPT-2 (learnt positions, LayerNorm, GELU) and
Llama (rotary positions, RMSNorm, SwiGLU, grouped queries); `Seq2SeqTransformer` is the encoder-decoder of Vaswani et
al. Layers under PyTorch's names and arguments are in `torch_names.py`.
Checkpoint files are read in `pretrained.py`, text is generated in `generation.py`, and training is module 07's.
"""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer
from tt_core.layers import Dropout, Layer, LayerList, LayerNorm, Linear
from tt_core.losses import cross_entropy
from tt_core.tensor import Tensor
from tt_core.tensor.creation import arange, tensor
from tt_language.attention.attention import MultiHeadAttention
from tt_language.embeddings.embeddings import Embedding, RotaryEmbedding, SinusoidalEmbedding
from tt_language.errors import ConfigError, check_sizes, short
from tt_language.hookspecs import Past
from tt_language.transformers.config import GPTConfig as GPTConfig
from tt_language.transformers.feed_forward import FeedForward, RMSNorm, SwiGLU
from tt_learn.training import evaluating

# --- blocks and stacks


def _norm(kind: str, dim: int, eps: float, bias: bool) -> Layer:
    if kind not in ("layer", "rms"):
        raise ConfigError(f"TransformerBlock: norm is {kind!r}, expected layer or rms")
    return RMSNorm(dim, eps=eps) if kind == "rms" else LayerNorm(dim, eps=eps, bias=bias)


def _mlp(kind: str, dim: int, hidden_dim: int | None, bias: bool) -> Layer:
    return SwiGLU(dim, hidden_dim, bias) if kind == "swiglu" else FeedForward(dim, hidden_dim, kind, bias)


class TransformerBlock(Layer):
    """Attention and a feed-forward layer, each added to what came in.

    `norm_first` normalizes what a part reads (GPT-2), else the sum after it (2017). `parallel` lets both parts read
    the same input, which is normalized once. `cross` adds a part between them that looks at an encoder's output.
    `mlp` is "gelu", "gelu_tanh", "relu" or "swiglu", `norm` "layer" or "rms". `bias` holds for norms and projections;
    `attention_bias` and `mlp_bias` say otherwise for the projections of one part. Dropout applies to what each part
    adds and to the attention weights. Takes and returns (batch, T, embed_dim).

    >>> from tt_core import ones
    >>> TransformerBlock(8, num_heads=2, causal=True)(ones(1, 5, 8)).shape
    (1, 5, 8)
    """

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        norm: str = "layer",
        norm_eps: float = 1e-5,
        mlp: str = "gelu",
        causal: bool = False,
        cross: bool = False,
        norm_first: bool = True,
        parallel: bool = False,
        attention_bias: bool | None = None,
        mlp_bias: bool | None = None,
    ) -> None:
        super().__init__()
        if parallel and (cross or not norm_first):
            raise ConfigError("TransformerBlock: parallel goes with norm_first and without cross")
        self.norm_first, self.parallel = norm_first, parallel
        attention_bias = bias if attention_bias is None else attention_bias
        mlp_bias = bias if mlp_bias is None else mlp_bias
        heads: dict[str, Any] = {"bias": attention_bias, "num_kv_heads": num_kv_heads, "head_dim": head_dim}
        self.norm1 = _norm(norm, embed_dim, norm_eps, bias)
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout, causal=causal, **heads)
        self.norm_cross = _norm(norm, embed_dim, norm_eps, bias) if cross else None
        self.cross_attention = MultiHeadAttention(embed_dim, num_heads, dropout, **heads) if cross else None
        self.norm2 = None if parallel else _norm(norm, embed_dim, norm_eps, bias)
        self.mlp = _mlp(mlp, embed_dim, hidden_dim, mlp_bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Any,
        attn_mask: Any = None,
        *,
        memory: Any = None,
        memory_mask: Any = None,
        angles: tuple[Any, Any] | None = None,
        past: Past | None = None,
    ) -> Any:
        """`memory` (batch, S, embed_dim) is an encoder's output; masks are true where a query may look.

        Raises `ConfigError` where `memory` is missing, or given to a block that is not `cross`.
        """
        if (memory is None) != (self.cross_attention is None):
            expected = "looks at memory=, but got none" if memory is None else "needs cross=True to look at memory="
            raise ConfigError(f"TransformerBlock: it {expected}")
        if self.parallel:
            h = self.norm1(x)
            return x + self.dropout(self.attention(h, None, attn_mask, angles=angles, past=past) + self.mlp(h))
        x = self._add(x, self.norm1, lambda h: self.attention(h, None, attn_mask, angles=angles, past=past))
        if self.cross_attention is not None:
            x = self._add(x, self.norm_cross, lambda h: self.cross_attention(h, memory, memory_mask))
        return self._add(x, self.norm2, self.mlp)

    def _add(self, x: Any, norm: Any, part: Any) -> Any:
        if self.norm_first:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class EncoderStack(Layer):
    """`num_layers` blocks that see the whole text; options as for `TransformerBlock`.

    With `norm_first` a last normalization follows. Takes and returns (batch, T, embed_dim).

    >>> from tt_core import ones
    >>> EncoderStack(2, 8, num_heads=2)(ones(1, 5, 8)).shape
    (1, 5, 8)
    """

    causal = cross = False

    @checked
    def __init__(self, num_layers: int, embed_dim: int, num_heads: int, **options: Any) -> None:
        super().__init__()
        check_sizes(type(self).__name__, least=0, num_layers=num_layers)
        kinds: dict[str, Any] = {"causal": self.causal, "cross": self.cross}
        self.blocks = LayerList(TransformerBlock(embed_dim, num_heads, **kinds, **options) for _ in range(num_layers))
        last = options.get("norm_first", True)
        kind, eps, bias = options.get("norm", "layer"), options.get("norm_eps", 1e-5), options.get("bias", True)
        self.norm = _norm(kind, embed_dim, eps, bias) if last else None

    def forward(self, x: Any, attn_mask: Any = None, **options: Any) -> Any:
        for block in self.blocks:
            x = block(x, attn_mask, **options)
        return x if self.norm is None else self.norm(x)


class DecoderStack(EncoderStack):
    """`num_layers` causal blocks that look at an encoder's output too.

    Takes (batch, T, embed_dim) and `memory=` (batch, S, embed_dim), returns the shape of the first.

    >>> from tt_core import ones
    >>> DecoderStack(2, 8, num_heads=2)(ones(1, 5, 8), memory=ones(1, 3, 8)).shape
    (1, 5, 8)
    """

    causal = cross = True


class Seq2SeqTransformer(Layer):
    """The encoder-decoder of Vaswani et al. 2017 (arXiv:1706.03762) with sinusoidal positions.

    Takes ids of a source (batch, S) and of the target so far (batch, T), returns logits (batch, T, target_vocab) for
    the tokens after each. Ids equal to `padding_idx` in the source are not looked at.

    >>> from tt_core import tensor
    >>> model = Seq2SeqTransformer(20, 30, embed_dim=16, num_heads=2, num_layers=1)
    >>> model(tensor([[1, 2, 3]]), tensor([[0, 4]])).shape
    (1, 2, 30)
    """

    @checked
    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        embed_dim: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
        max_length: int = 512,
        padding_idx: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options = {"hidden_dim": hidden_dim, "dropout": dropout, "mlp": "relu", "norm_first": False, **options}
        if padding_idx is not None and not 0 <= padding_idx < source_vocab:
            raise ConfigError(
                f"Seq2SeqTransformer: padding_idx {padding_idx} is none of the {source_vocab} ids of a source"
            )
        check_sizes("Seq2SeqTransformer", embed_dim=embed_dim, max_length=max_length)
        self.max_length, self.padding_idx = max_length, padding_idx
        self.scale = math.sqrt(embed_dim)
        self.source = Embedding(source_vocab, embed_dim)
        self.target = Embedding(target_vocab, embed_dim)
        self.positions = SinusoidalEmbedding(max_length, embed_dim)
        self.dropout = Dropout(dropout)
        self.encoder = EncoderStack(num_layers, embed_dim, num_heads, **options)
        self.decoder = DecoderStack(num_layers, embed_dim, num_heads, **options)
        self.head = Linear(embed_dim, target_vocab)
        for table in (self.source, self.target):  # times sqrt(embed_dim) they are as large as the positions
            init.normal_(table.weight, std=embed_dim**-0.5)

    def forward(self, source: Any, target: Any) -> Any:
        return self.decode(target, self.encode(source), source)

    @checked
    def encode(self, source: Any) -> Tensor:
        """Vectors (batch, S, embed_dim) for source ids (batch, S)."""
        return self.encoder(self._embedded(self.source, source), self._visible(source))

    @checked
    def decode(self, target: Any, memory: Any, source: Any) -> Tensor:
        """Logits (batch, T, target_vocab) for target ids and the encoded source."""
        x = self._embedded(self.target, target)
        return self.head(self.decoder(x, memory=memory, memory_mask=self._visible(source)))

    @checked
    def translate(self, source: Any, start: int, end: int, max_length: int = 100) -> list[list[int]]:
        """The likeliest next token, again and again, for each row of source ids (batch, S); without start and end.

        At most `max_length` tokens, or the model's own `max_length`. Nothing drops out meanwhile, also in training.
        """
        most = min(max_length, self.max_length)
        with evaluating(self):
            memory = self.encode(source)
            target = np.full((source.shape[0], 1), start)
            while target.shape[1] <= most and not (target == end).any(1).all():
                logits = self.decode(tensor(target), memory, source)
                target = np.concatenate([target, logits.data[:, -1:].argmax(-1)], axis=1)
        return [[*itertools.takewhile(lambda token: token != end, row)] for row in target[:, 1:].tolist()]

    def _embedded(self, table: Layer, ids: Any) -> Any:
        if not ids.ndim:
            raise ShapeError("Seq2SeqTransformer: expected ids (batch, length), got one without dimensions")
        if ids.shape[-1] > self.max_length:
            raise ShapeError(f"Seq2SeqTransformer: {ids.shape[-1]} tokens, at most max_length = {self.max_length}")
        x = table(ids) * self.scale
        return self.dropout(x + self.positions(arange(ids.shape[-1])))

    def _visible(self, source: Any) -> Any:
        """(batch, 1, 1, S), true where there is no padding."""
        return None if self.padding_idx is None else (np.asarray(source) != self.padding_idx)[:, None, None]


# --- GPT


class GPT(Layer):
    """A decoder-only language model (Radford et al. 2019; Touvron et al. 2023), shaped by a `GPTConfig`.

    Takes ids (batch, T), returns logits (batch, T, vocab_size) for the token after each. Weights start normal with
    deviation sqrt(2 / (5 n_embd)) (Nguyen & Salazar 2019), those that write to the residual stream divided by
    sqrt(2 n_layer) as GPT-2's, biases 0. GPT-2's 0.02 is this deviation at its own width, 0.023 at 768; narrower
    models that start with 0.02 learn slowly: nanoGPT's CPU configuration, 128 wide, ends at a loss of 1.90, not 1.74.

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
        self.norm = _norm(config.norm, config.n_embd, config.norm_eps, config.bias)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        std = math.sqrt(2 / (5 * self.config.n_embd))
        for layer in self.layers():
            if isinstance(layer, (Linear, Embedding)):
                init.normal_(layer.weight, std=std)
            if isinstance(layer, (LayerNorm, RMSNorm)) and layer.weight is not None:
                init.ones_(layer.weight)
            if isinstance(layer, (Linear, LayerNorm)) and layer.bias is not None:
                init.zeros_(layer.bias)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layer))

    def forward(
        self,
        ids: Any,
        *,
        positions: Any = None,
        attn_mask: Any = None,
        past: Past | None = None,
        logits_to_keep: int = 0,
    ) -> Any:
        """Logits for ids (batch, T), or for the last `logits_to_keep` of them alone.

        `positions` (T,) or (batch, T) are counted from what `past` remembers by default; `attn_mask` broadcasts to
        (batch, heads, T, S) and hides more than what is later. Raises `ShapeError` for more than `block_size`, and for
        fewer than 0 `logits_to_keep`.
        """
        if not is_integer(logits_to_keep, 0):
            raise ArgumentError(f"GPT: logits_to_keep is {logits_to_keep}, expected 0 (all of them) or more")
        if not ids.ndim:
            raise ShapeError("GPT: expected ids (batch, length), got one without dimensions")
        before, length = (0 if past is None else past.length), ids.shape[-1]
        endless = getattr(past, "beyond", "crop") == "window"
        if before + length > self.config.block_size and not endless:
            raise ShapeError(
                f"GPT: {before + length} tokens, but the context (block_size) has {self.config.block_size}; "
                f"keep the last {self.config.block_size}"
            )
        if past is not None and hasattr(past, "begin"):
            attn_mask = past.begin(ids, positions, attn_mask)
        if positions is None:
            positions = arange(before, before + length)
        x = self.wte(ids)  # (batch, T, n_embd)
        if self.wpe is not None:
            x = x + self.wpe(positions)
        angles = None if self.rotary is None else self.rotary.angles(positions, endless)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, attn_mask, angles=angles, past=past)
        if logits_to_keep:
            x = x[:, -logits_to_keep:]
        return self.lm_head(self.norm(x))  # (batch, T, vocab_size)

    @classmethod
    @checked
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> GPT:
        """The model in a folder in Hugging Face's format (config.json and *.safetensors), of GPT-2's or Llama's family.

        Raises `CheckpointError` or `ConfigError` that says what does not fit.
        """
        from tt_language.transformers.pretrained import load_pretrained

        return load_pretrained(folder)


@checked
def next_token_loss(logits: Any, targets: Any, ignore_index: int = -100) -> Tensor:
    """Mean cross entropy of logits (..., vocab) for the tokens `targets` (...) that came; `ignore_index` is left out.

    Raises `ShapeError` for targets of another shape.

    >>> from tt_core import tensor, zeros
    >>> round(next_token_loss(zeros(1, 3, 10), tensor([[1, 2, 3]])).item(), 4)  # log(10)
    2.3026
    """
    if tuple(targets.shape) != tuple(logits.shape[:-1]):
        raise ShapeError(f"next_token_loss: targets {targets.shape} do not fit logits {logits.shape}")
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=ignore_index)


def _rotary_of(config: GPTConfig) -> RotaryEmbedding:
    return RotaryEmbedding(config.head_size, config.block_size, config.rope_theta, config.rope_scaling)


def _block_of(config: GPTConfig) -> TransformerBlock:
    return TransformerBlock(
        config.n_embd,
        config.n_head,
        num_kv_heads=config.n_kv_head,
        head_dim=config.head_dim,
        hidden_dim=config.intermediate_size,
        dropout=config.dropout,
        bias=config.bias,
        norm=config.norm,
        norm_eps=config.norm_eps,
        mlp=config.mlp,
        causal=True,
        parallel=config.parallel,
        attention_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
    )
