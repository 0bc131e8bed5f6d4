"""Attention weights for the map on the page: how much each token of a text attends to each earlier one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.server.answers import name_of
from tinygpt.server.schema import BadRequest, Schema
from tt_core.engine.errors import TinyTorchError
from tt_core.tensor.creation import tensor
from tt_language.attention import record_attention
from tt_learn.training import evaluating

_MOST = 64
"""The most tokens of a map; with more, the cells are too small to see."""

ATTENTION: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 20_000, "description": "Its last tokens are read."},
        "layer": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000, "description": "Counted from 0."},
    },
}


def attention_of(gpt: TinyGPT, text: str, layer: int) -> dict[str, Any]:
    """The tokens at the end of a text, and the weights (heads, T, T) of one layer, rounded to three digits.

    Raises `BadRequest` for a text that the tokenizer does not know, and for a layer that is not there.

    >>> from tt_language import GPT, ByteTokenizer, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=16))
    >>> found = attention_of(TinyGPT(model, ByteTokenizer()), "Hi", 0)
    >>> found["tokens"], found["weights"][0][0]
    (['H', 'i'], [1.0, 0.0])
    """
    if layer >= gpt.model.config.n_layer:
        raise BadRequest(f"layer is {layer}, the model has layers 0 to {gpt.model.config.n_layer - 1}", "layer")
    try:
        ids = gpt.tokenizer.encode(text)[-min(_MOST, gpt.model.config.block_size) :]
    except TinyTorchError as error:
        raise BadRequest(str(error), "text") from None
    if not ids:
        raise BadRequest("text has no tokens", "text")
    with record_attention() as maps, evaluating(gpt.model):
        gpt.model(tensor([ids]))
    weights = np.round(maps[layer][0].astype(np.float64), 3)
    return {"tokens": [name_of(i, gpt.tokenizer) for i in ids], "layer": layer, "weights": weights.tolist()}
