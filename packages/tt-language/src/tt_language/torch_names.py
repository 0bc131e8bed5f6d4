"""Attention and transformer layers with PyTorch's names, arguments and state dicts (module 13, Act IV).

All of them are compositions of what modules 11 to 13 build: a layer here translates PyTorch's arguments and adds no
technique, so read `attention.py` and `transformers.py` to learn how it works. They are for code written for PyTorch:
its weights load as they are. What differs from PyTorch is in docs/deviations.md, what is left out in docs/not-here.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core import init
from tt_core.activations import gelu, relu
from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, ShapeError
from tt_core.layers import Dropout, Layer, LayerList, LayerNorm, Linear, dropout, linear
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import empty, from_numpy, zeros
from tt_language.attention.attention import attention_weights, join_heads, scaled_dot_product_attention, split_heads
from tt_language.errors import ConfigError, check_probability, check_sizes, short

# --- masks


def _visible_or_added(name: str, mask: Any) -> tuple[Any, Any]:
    """A mask as (what may be seen, what is added), one of them None; a boolean mask is true where nothing may be."""
    if mask is None:
        return None, None
    if mask.dtype == np.bool_:
        return ~np.asarray(mask), None
    if mask.dtype.kind != "f":
        raise DTypeError(f"{name} is boolean (true: hidden) or floats to add, got {mask.dtype}")
    return None, mask


def _merged(attn_mask: Any, padding: Any) -> Any:
    """One mask for `scaled_dot_product_attention` from two that broadcast together."""
    visible, added = zip(_visible_or_added("attn_mask", attn_mask), _visible_or_added("key_padding_mask", padding))
    seen, sums = [v for v in visible if v is not None], [a for a in added if a is not None]
    if not sums:
        return None if not seen else from_numpy(np.logical_and(*seen) if len(seen) == 2 else seen[0])
    total = sums[0] + sums[1] if len(sums) == 2 else sums[0]
    return total if not seen else E.where(seen[0], total, np.asarray(-np.inf, total.dtype))


# --- attention


class MultiheadAttention(Layer):
    """PyTorch's `nn.MultiheadAttention`; its state dicts load as they are.

    `embed_dim` features are divided among `num_heads`. `kdim` and `vdim` are the features of keys and values where they
    differ. `batch_first` takes (batch, length, features) in place of (length, batch, features). `dropout` applies to
    the weights while training. Raises `ShapeError` for sizes that do not fit, `ConfigError` for `add_bias_kv` and
    `add_zero_attn`, which are not built.

    >>> from tt_core import ones
    >>> x = ones(2, 5, 8)
    >>> out, weights = MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> out.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    in_proj_bias: Tensor | None

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if add_bias_kv or add_zero_attn:
            raise ConfigError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported; leave them False")
        check_sizes("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ShapeError(f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
        check_probability("MultiheadAttention", "dropout", dropout)
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        together = self.kdim == self.vdim == embed_dim
        self._add("in_proj_weight", (3 * embed_dim, embed_dim) if together else None)
        for name, size in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            self._add(f"{name}_proj_weight", None if together else (embed_dim, size))
        self._add("in_proj_bias", (3 * embed_dim,) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self._start()

    def _add(self, name: str, shape: tuple[int, ...] | None) -> None:
        self.register_parameter(name, None if shape is None else empty(*shape).as_parameter())

    def reset_parameters(self) -> None:
        """Draw the initial values again: Xavier's uniform for the projections in, biases 0."""
        self.out_proj.reset_parameters()
        self._start()

    def _start(self) -> None:
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if (weight := getattr(self, name)) is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """Returns the result, shaped as `query`, and the weights: (batch, T, S), or (batch, heads, T, S), or None.

        query (T, batch, embed_dim), key (S, batch, kdim), value (S, batch, vdim), or the same without batch.
        `attn_mask` (T, S) or (batch * heads, T, S) and `key_padding_mask` (batch, S) are true where a query may *not*
        look, or numbers that are added. `is_causal` says that `attn_mask` is causal, as in PyTorch, and needs one: the
        mask decides.
        """
        if is_causal and attn_mask is None:
            raise ConfigError("MultiheadAttention: is_causal says what attn_mask is; give the mask too")
        single = query.ndim == 2
        same = key is query and value is query
        q, k, v = (self._batched(name, x, query.ndim) for name, x in zip("qkv", (query, key, value)))
        q, k, v = self._projected(q, q if same else k, q if same else v)  # (batch, heads, T or S, size)
        mask = self._mask(q, k, attn_mask, key_padding_mask, single)
        p = self.dropout if self.training else 0.0
        if need_weights:
            weights = attention_weights(q, k, mask)
            weights = dropout(weights, p=p) if p else weights
            out = weights @ v
        else:
            weights, out = None, scaled_dot_product_attention(q, k, v, mask, dropout_p=p)
        out = self.out_proj(join_heads(out))  # (batch, T, embed_dim)
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights[0] if single else weights
        if single:
            return out[0], weights
        return out if self.batch_first else out.transpose(0, 1), weights

    def _batched(self, name: str, x: Any, ndim: int) -> Any:
        """(batch, length, features)."""
        features = {"q": self.embed_dim, "k": self.kdim, "v": self.vdim}[name]
        if x.ndim not in (2, 3) or x.ndim != ndim or x.shape[-1] != features:
            first = "batch, length" if self.batch_first else "length, batch"
            raise ShapeError(
                f"MultiheadAttention: {name} is ({first}, {features}) or (length, {features}), all three alike,"
                f" got {tuple(x.shape)}"
            )
        return x[None] if ndim == 2 else x if self.batch_first else x.transpose(0, 1)

    def _projected(self, q: Any, k: Any, v: Any) -> tuple[Any, Any, Any]:
        heads = (self.num_heads,)
        if not len(q) == len(k) == len(v) or k.shape[1] != v.shape[1]:
            raise ShapeError(f"MultiheadAttention: {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)} do not fit")
        if self.in_proj_weight is not None and k is q and v is q:
            return split_heads(linear(q, self.in_proj_weight, self.in_proj_bias), heads=heads * 3)
        weights: tuple[Any, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (split_heads(linear(x, w, b), heads=heads) for x, w, b in zip((q, k, v), weights, biases))
        return q, k, v

    def _mask(self, q: Any, k: Any, attn_mask: Any, padding: Any, single: bool) -> Any:
        """Both masks as one that broadcasts to (batch, heads, T, S)."""
        batch, heads, queries, keys = len(q), self.num_heads, q.shape[-2], k.shape[-2]
        if attn_mask is not None:
            if attn_mask.shape not in ((queries, keys), (batch * heads, queries, keys)):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask is {(queries, keys)} or {(batch * heads, queries, keys)},"
                    f" got {tuple(attn_mask.shape)}"
                )
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape(batch, heads, queries, keys)
        if padding is not None:
            if padding.shape != ((keys,) if single else (batch, keys)):
                raise ShapeError(f"MultiheadAttention: key_padding_mask is {(batch, keys)}, got {tuple(padding.shape)}")
            padding = padding.reshape(batch, 1, 1, keys)
        return _merged(attn_mask, padding)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}" + ", batch_first=True" * self.batch_first


# --- layers of transformers

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": relu, "gelu": gelu}


def _activation_of(name: str, activation: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    found = _ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
    if not callable(found):
        raise ConfigError(f"{name}: activation is {short(activation)}, expected relu, gelu or a function")
    return found


class TransformerEncoderLayer(Layer):
    """PyTorch's `nn.TransformerEncoderLayer`: self-attention and a feed-forward part, each added to what came in.

    `norm_first` normalizes what a part reads, else the sum after it. Takes (length, batch, d_model), with `batch_first`
    (batch, length, d_model), and returns the same shape. Raises as `MultiheadAttention` does, and `ConfigError` for an
    unknown activation.

    >>> from tt_core import ones
    >>> TransformerEncoderLayer(8, 2, 16, batch_first=True)(ones(2, 5, 8)).shape
    (2, 5, 8)
    """

    @checked
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.activation, self.norm_first = _activation_of("TransformerEncoderLayer", activation), norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1, self.norm2 = (LayerNorm(d_model, layer_norm_eps, bias=bias) for _ in range(2))
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """Masks as for `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        x = _added(src, attend, self.norm1, self.dropout1, self.norm_first)
        return _added(x, lambda x: _feed_forward(self, x), self.norm2, self.dropout2, self.norm_first)


class TransformerDecoderLayer(Layer):
    """PyTorch's `nn.TransformerDecoderLayer`: self-attention, attention to an encoder's output, a feed-forward part.

    Arguments as for `TransformerEncoderLayer`.

    >>> from tt_core import ones
    >>> TransformerDecoderLayer(8, 2, 16, batch_first=True)(ones(2, 5, 8), ones(2, 3, 8)).shape
    (2, 5, 8)
    """

    @checked
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.activation, self.norm_first = _activation_of("TransformerDecoderLayer", activation), norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(d_model, layer_norm_eps, bias=bias) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout) for _ in range(3))

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """Masks as for `MultiheadAttention`; those for `memory` hide parts of the encoder's output."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look(x: Any) -> Any:
            masks = (memory_key_padding_mask, False, memory_mask)
            return self.multihead_attn(x, memory, memory, *masks, is_causal=memory_is_causal)[0]

        x = _added(tgt, attend, self.norm1, self.dropout1, self.norm_first)
        x = _added(x, look, self.norm2, self.dropout2, self.norm_first)
        return _added(x, lambda x: _feed_forward(self, x), self.norm3, self.dropout3, self.norm_first)


def _added(x: Any, part: Callable[[Any], Any], norm: Layer, drop: Layer, norm_first: bool) -> Any:
    return x + drop(part(norm(x))) if norm_first else norm(x + drop(part(x)))


def _feed_forward(layer: Any, x: Any) -> Any:
    return layer.linear2(layer.dropout(layer.activation(layer.linear1(x))))


# --- stacks


_COPIES = "layers"
"""PyTorch's name, for state dicts; as an attribute it would hide the method `layers()`, so it is a child alone."""


def _copies(layer: Layer, num_layers: int) -> LayerList:
    if not isinstance(layer, Layer):
        raise ConfigError(f"expected a layer to copy {num_layers} times, got {short(layer)}")
    check_sizes("a stack", least=0, num_layers=num_layers)
    return LayerList(copy.deepcopy(layer) for _ in range(num_layers))


class TransformerEncoder(Layer):
    """PyTorch's `nn.TransformerEncoder`: `num_layers` copies of a layer, then `norm` if there is one.

    The copies start with equal weights, as in PyTorch. `enable_nested_tensor` and `mask_check` change no result there,
    and nothing here. For a stack whose layers are drawn one by one see `EncoderStack`.

    >>> from tt_core import ones
    >>> TransformerEncoder(TransformerEncoderLayer(8, 2, 16), num_layers=2)(ones(5, 2, 8)).shape
    (5, 2, 8)
    """

    @checked
    def __init__(
        self,
        encoder_layer: Layer,
        num_layers: int,
        norm: Layer | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self._children[_COPIES] = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Any:
        """Masks as for `MultiheadAttention`."""
        for layer in self._children[_COPIES].children():
            src = layer(src, mask, src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Layer):
    """PyTorch's `nn.TransformerDecoder`: `num_layers` copies of a layer, then `norm` if there is one.

    >>> from tt_core import ones
    >>> TransformerDecoder(TransformerDecoderLayer(8, 2, 16), num_layers=2)(ones(5, 2, 8), ones(3, 2, 8)).shape
    (5, 2, 8)
    """

    @checked
    def __init__(self, decoder_layer: Layer, num_layers: int, norm: Layer | None = None) -> None:
        super().__init__()
        self._children[_COPIES] = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """Masks as for `TransformerDecoderLayer`."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer in self._children[_COPIES].children():
            tgt = layer(tgt, memory, *masks, tgt_is_causal=bool(tgt_is_causal), memory_is_causal=memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Layer):
    """PyTorch's `nn.Transformer`: an encoder and a decoder on vectors, without embeddings and without a head.

    `Seq2SeqTransformer` has these too. Matrices start with Xavier's uniform distribution.

    >>> from tt_core import ones
    >>> model = Transformer(8, 2, 1, 1, 16, batch_first=True)
    >>> model(ones(2, 5, 8), ones(2, 3, 8)).shape
    (2, 3, 8)
    """

    @checked
    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        custom_encoder: Layer | None = None,
        custom_decoder: Layer | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "dim_feedforward": dim_feedforward, "dropout": dropout, "activation": activation,
            "layer_norm_eps": layer_norm_eps, "batch_first": batch_first, "norm_first": norm_first, "bias": bias,
        }  # fmt: skip
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(d_model, nhead, **options),
            num_encoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias),
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(d_model, nhead, **options),
            num_decoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias),
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """The decoder's output for `tgt`; masks as for `MultiheadAttention`, each for its part."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int) -> Tensor:
        """A mask (sz, sz) to add that hides later positions: -inf above the diagonal, 0 elsewhere.

        >>> Transformer.generate_square_subsequent_mask(2)
        tensor([[  0., -inf],
                [  0.,   0.]])
        """
        mask = zeros(sz, sz)
        mask.data[np.triu_indices(sz, 1)] = -np.inf
        return mask
