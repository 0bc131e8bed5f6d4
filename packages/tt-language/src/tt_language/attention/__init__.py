"""Module 12, attention: each token looks at the others and takes from them what it asks for.

Read `attention`; `maps` draws what a model attends to.
"""

from __future__ import annotations

from tt_language.attention.attention import MultiHeadAttention as MultiHeadAttention
from tt_language.attention.attention import attention_weights as attention_weights
from tt_language.attention.attention import join_heads as join_heads
from tt_language.attention.attention import scaled_dot_product_attention as scaled_dot_product_attention
from tt_language.attention.attention import (
    scaled_dot_product_attention_backward as scaled_dot_product_attention_backward,
)
from tt_language.attention.attention import split_heads as split_heads
from tt_language.attention.maps import heat_map as heat_map
from tt_language.attention.maps import record_attention as record_attention
