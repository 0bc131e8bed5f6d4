"""Module 12, attention: each query takes a weighted mean of the values; the weights say how well the keys match it.

Read `attention` (the formula), `heads` and `multi_head` (the layer). `maps` draws what a model attends to.
"""

from __future__ import annotations

from tt_language.attention.attention import attention_weights as attention_weights
from tt_language.attention.attention import dropout_scale as dropout_scale
from tt_language.attention.attention import repeat_heads as repeat_heads
from tt_language.attention.attention import scale_of as scale_of
from tt_language.attention.attention import scaled_dot_product_attention as scaled_dot_product_attention
from tt_language.attention.attention import (
    scaled_dot_product_attention_backward as scaled_dot_product_attention_backward,
)
from tt_language.attention.attention import sum_to_shape as sum_to_shape
from tt_language.attention.heads import join_heads as join_heads
from tt_language.attention.heads import split_heads as split_heads
from tt_language.attention.maps import heat_map as heat_map
from tt_language.attention.maps import record_attention as record_attention
from tt_language.attention.multi_head import MultiHeadAttention as MultiHeadAttention
