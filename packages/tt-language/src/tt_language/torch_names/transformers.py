"""Layers and stacks of transformers with PyTorch's names, arguments and state dicts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.layers import Dropout, Layer, LayerList, LayerNorm, Linear
from tt_core.tensor import Tensor
from tt_core.tensor.creation import zeros
from tt_language.errors import ConfigError, check_sizes, short
from tt_language.torch_names.attention import MultiheadAttention
from tt_language.transformers import ACTIVATIONS, add_residual

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike

# --- layers of transformers


def _activation_of(name: str, activation: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    found = ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
    if not callable(found):
        raise ConfigError(f"{name}: activation is {short(activation)}, expected relu, gelu or a function")
    return found


class TransformerEncoderLayer(Layer):
    """PyTorch's `nn.TransformerEncoderLayer`: self-attention and a feed-forward part, each added to its input.

    `norm_first` normalizes the input of each part, instead of the sum after it. Takes (length, batch, d_model), or
    (batch, length, d_model) with `batch_first`, and returns the same shape. Raises as `MultiheadAttention` does, and
    `ConfigError` for an unknown activation.

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
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.norm_first = _activation_of("TransformerEncoderLayer", activation), norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1, self.norm2 = (LayerNorm(d_model, layer_norm_eps, bias=bias) for _ in range(2))
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self._made_in(device, dtype)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Masks as for `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        x = add_residual(src, attend, self.norm1, self.dropout1, self.norm_first)
        return add_residual(x, lambda x: _feed_forward(self, x), self.norm2, self.dropout2, self.norm_first)


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
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
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
        self._made_in(device, dtype)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Masks as for `MultiheadAttention`; those for `memory` hide parts of the encoder's output."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look(x: Any) -> Any:
            masks = (memory_key_padding_mask, False, memory_mask)
            return self.multihead_attn(x, memory, memory, *masks, is_causal=memory_is_causal)[0]

        x = add_residual(tgt, attend, self.norm1, self.dropout1, self.norm_first)
        x = add_residual(x, look, self.norm2, self.dropout2, self.norm_first)
        return add_residual(x, lambda x: _feed_forward(self, x), self.norm3, self.dropout3, self.norm_first)


def _feed_forward(layer: Any, x: Any) -> Any:
    return layer.linear2(layer.dropout(layer.activation(layer.linear1(x))))


# --- stacks


def _copies(layer: Layer, num_layers: int) -> LayerList:
    if not isinstance(layer, Layer):
        raise ConfigError(f"expected a layer to copy {num_layers} times, got {short(layer)}")
    check_sizes("a stack", least=0, num_layers=num_layers)
    return LayerList(copy.deepcopy(layer) for _ in range(num_layers))


class TransformerEncoder(Layer):
    """PyTorch's `nn.TransformerEncoder`: `num_layers` copies of a layer, then `norm` if given.

    The copies start with equal weights, as in PyTorch. `enable_nested_tensor` and `mask_check` have no effect; they do
    not change results in PyTorch either. `EncoderStack` initializes each layer separately.

    >>> from tt_core import ones
    >>> TransformerEncoder(TransformerEncoderLayer(8, 2, 16), num_layers=2)(ones(5, 2, 8)).shape
    (5, 2, 8)
    """

    layers: Any  # hides the method, as a child of this name may

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
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Masks as for `MultiheadAttention`."""
        for layer in self.layers.children():
            src = layer(src, mask, src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Layer):
    """PyTorch's `nn.TransformerDecoder`: `num_layers` copies of a layer, then `norm` if given.

    >>> from tt_core import ones
    >>> TransformerDecoder(TransformerDecoderLayer(8, 2, 16), num_layers=2)(ones(5, 2, 8), ones(3, 2, 8)).shape
    (5, 2, 8)
    """

    layers: Any  # hides the method, as a child of this name may

    @checked
    def __init__(self, decoder_layer: Layer, num_layers: int, norm: Layer | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Masks as for `TransformerDecoderLayer`."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer in self.layers.children():
            tgt = layer(tgt, memory, *masks, tgt_is_causal=bool(tgt_is_causal), memory_is_causal=memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Layer):
    """PyTorch's `nn.Transformer`: an encoder and a decoder of vectors, without embeddings and output layer.

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
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
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
        self._made_in(device, dtype)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The decoder's output for `tgt`; masks as for `MultiheadAttention`, each for one part."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int) -> Tensor:
        """A mask (sz, sz) to add, which hides later positions: -inf above the diagonal, 0 elsewhere.

        >>> Transformer.generate_square_subsequent_mask(2)
        tensor([[  0., -inf],
                [  0.,   0.]])
        """
        mask = zeros(sz, sz)
        mask.data[np.triu_indices(sz, 1)] = -np.inf
        return mask
