"""LoRA (Hu et al. 2021, arXiv:2106.09685): a model is adapted by training a few small matrices beside its weights.

    y = x W^T + b + scaling x A^T B^T        A (r, in) starts random, B (out, r) at 0; scaling is lora_alpha / r

W and b do not change. Merging computes W + scaling B A once, after which the adapter costs no time. Names and defaults
are those of the library PEFT, whose files `files` reads and writes. Read `layers`, then `model`. `LowRankLinear` of
module 16 is related: there, a product of two thin matrices replaces the weight; here, it is added to the weight.
"""

from __future__ import annotations

from tt_perf.lora.files import load_adapter as load_adapter
from tt_perf.lora.files import read_adapter_config as read_adapter_config
from tt_perf.lora.files import save_adapter as save_adapter
from tt_perf.lora.layers import LoraConfig as LoraConfig
from tt_perf.lora.layers import LoraError as LoraError
from tt_perf.lora.layers import LoraLinear as LoraLinear
from tt_perf.lora.layers import LoraUpdate as LoraUpdate
from tt_perf.lora.model import PeftModel as PeftModel
from tt_perf.lora.model import Target as Target
from tt_perf.lora.model import get_peft_model as get_peft_model
from tt_perf.lora.model import targets_of as targets_of
