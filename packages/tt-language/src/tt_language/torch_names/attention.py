"""Attention with PyTorch's name, arguments and state dicts: a translation to the ops of module 12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, ShapeError
from tt_core.layers import Layer, Linear, dropout, linear
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import empty, from_numpy
from tt_language.attention import attention_weights, join_heads, scaled_dot_product_attention, split_heads
from tt_language.errors import ConfigError, check_probability, check_sizes

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike

# --- masks


def _visible_or_added(name: str, mask: Any) -> tuple[Any, Any]:
    """A mask as (visible, added), one of them None; PyTorch's boolean masks are True for hidden keys."""
    if mask is None:
        return None, None
    if mask.dtype == np.bool_:
        return ~np.asarray(mask), None
    if mask.dtype.kind != "f":
        raise DTypeError(f"{name} must be boolean (True: hidden) or floats to add, got {mask.dtype}")
    return None, mask


def _merged(attn_mask: Any, padding: Any) -> Any:
    """Two masks that broadcast together as one for `scaled_dot_product_attention`."""
    visible, added = zip(_visible_or_added("attn_mask", attn_mask), _visible_or_added("key_padding_mask", padding))
    seen, sums = [v for v in visible if v is not None], [a for a in added if a is not None]
    if not sums:
        return None if not seen else from_numpy(np.logical_and(*seen) if len(seen) == 2 else seen[0])
    total = sums[0] + sums[1] if len(sums) == 2 else sums[0]
    return total if not seen else E.where(seen[0], total, np.asarray(-np.inf, total.dtype))


# --- attention


class MultiheadAttention(Layer):
    """PyTorch's `nn.MultiheadAttention`; its state dicts load unchanged.

    embed_dim: features of the queries and of the result, divided among `num_heads`.
    kdim, vdim: features of keys and values, `embed_dim` by default.
    batch_first: takes (batch, length, features) instead of (length, batch, features).
    dropout: the probability with which a weight is dropped in training.

    Raises `ShapeError` for sizes that do not fit, `ArgumentError` for another `dropout`, `ConfigError` for
    `add_bias_kv` and `add_zero_attn`, which are not supported.

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
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
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
        self._made_in(device, dtype)

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
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the result, shaped as `query`, and the weights: (batch, T, S), or (batch, heads, T, S), or None.

        query (T, batch, embed_dim), key (S, batch, kdim), value (S, batch, vdim), or the same without batch.
        `attn_mask` (T, S) or (batch * heads, T, S) and `key_padding_mask` (batch, S) are True where a query may *not*
        look, or hold numbers to add. `is_causal` declares that `attn_mask` is causal, as in PyTorch; the mask is needed
        and decides.
        """
        if is_causal and attn_mask is None:
            raise ConfigError("MultiheadAttention: is_causal describes attn_mask; pass the mask too")
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
                f"MultiheadAttention: {name} is ({first}, {features}) or (length, {features}), as are the others,"
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
