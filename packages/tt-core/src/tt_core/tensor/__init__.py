"""Module 01, tensor: an array with a shape, a dtype and the operations on it.

Read in this order:

- `elementwise`: the arithmetic, from `add` to `where`. Each op is a function on NumPy arrays.
- `reductions`, `shapes`, `indexing`, `products`: the other ops.
- `tensor`: the class. It holds an array, and its methods and operators name the ops.
- `conversion`, `printing`, `rearranging`, `in_place`: methods of one kind, which `Tensor` inherits.
- `creation`: functions that make tensors.

`dtypes` says which dtype a result has. `memory_table` finds out which operations share memory. Faster forms of the ops
are in `tt_core/kernels/`, and names of PyTorch's that the journey does not need in `tt_core/torch_names/`.
"""

from __future__ import annotations

from tt_core.tensor.conversion import as_array as as_array
from tt_core.tensor.conversion import native as native
from tt_core.tensor.creation import arange as arange
from tt_core.tensor.creation import as_bound as as_bound
from tt_core.tensor.creation import empty as empty
from tt_core.tensor.creation import eye as eye
from tt_core.tensor.creation import from_numpy as from_numpy
from tt_core.tensor.creation import full as full
from tt_core.tensor.creation import full_like as full_like
from tt_core.tensor.creation import linspace as linspace
from tt_core.tensor.creation import ones as ones
from tt_core.tensor.creation import ones_like as ones_like
from tt_core.tensor.creation import rand as rand
from tt_core.tensor.creation import randint as randint
from tt_core.tensor.creation import randn as randn
from tt_core.tensor.creation import randperm as randperm
from tt_core.tensor.creation import tensor as tensor
from tt_core.tensor.creation import zeros as zeros
from tt_core.tensor.creation import zeros_like as zeros_like
from tt_core.tensor.dtypes import DOUBLE as DOUBLE
from tt_core.tensor.dtypes import HALF as HALF
from tt_core.tensor.dtypes import float32_by_default as float32_by_default
from tt_core.tensor.dtypes import floating as floating
from tt_core.tensor.dtypes import half_in_float32 as half_in_float32
from tt_core.tensor.dtypes import on_floats as on_floats
from tt_core.tensor.dtypes import through_float32 as through_float32
from tt_core.tensor.dtypes import to_default_float as to_default_float
from tt_core.tensor.elementwise import abs as abs
from tt_core.tensor.elementwise import add as add
from tt_core.tensor.elementwise import ceil as ceil
from tt_core.tensor.elementwise import clip as clip
from tt_core.tensor.elementwise import cos as cos
from tt_core.tensor.elementwise import div as div
from tt_core.tensor.elementwise import eq as eq
from tt_core.tensor.elementwise import erf as erf
from tt_core.tensor.elementwise import exp as exp
from tt_core.tensor.elementwise import expm1 as expm1
from tt_core.tensor.elementwise import floor as floor
from tt_core.tensor.elementwise import floor_divide as floor_divide
from tt_core.tensor.elementwise import ge as ge
from tt_core.tensor.elementwise import gt as gt
from tt_core.tensor.elementwise import isfinite as isfinite
from tt_core.tensor.elementwise import isnan as isnan
from tt_core.tensor.elementwise import le as le
from tt_core.tensor.elementwise import log as log
from tt_core.tensor.elementwise import log1p as log1p
from tt_core.tensor.elementwise import logical_and as logical_and
from tt_core.tensor.elementwise import logical_not as logical_not
from tt_core.tensor.elementwise import logical_or as logical_or
from tt_core.tensor.elementwise import lt as lt
from tt_core.tensor.elementwise import masked_fill as masked_fill
from tt_core.tensor.elementwise import maximum as maximum
from tt_core.tensor.elementwise import minimum as minimum
from tt_core.tensor.elementwise import mul as mul
from tt_core.tensor.elementwise import ne as ne
from tt_core.tensor.elementwise import neg as neg
from tt_core.tensor.elementwise import pow as pow
from tt_core.tensor.elementwise import remainder as remainder
from tt_core.tensor.elementwise import round as round
from tt_core.tensor.elementwise import sign as sign
from tt_core.tensor.elementwise import sin as sin
from tt_core.tensor.elementwise import sqrt as sqrt
from tt_core.tensor.elementwise import sub as sub
from tt_core.tensor.elementwise import where as where
from tt_core.tensor.indexing import add_at as add_at
from tt_core.tensor.indexing import along_dim as along_dim
from tt_core.tensor.indexing import getitem as getitem
from tt_core.tensor.indexing import index_select as index_select
from tt_core.tensor.indexing import is_basic_index as is_basic_index
from tt_core.tensor.indexing import take_along_dim as take_along_dim
from tt_core.tensor.memory_table import ROWS as ROWS
from tt_core.tensor.memory_table import Row as Row
from tt_core.tensor.memory_table import shares_memory as shares_memory
from tt_core.tensor.memory_table import table as table
from tt_core.tensor.products import einsum as einsum
from tt_core.tensor.products import matmul as matmul
from tt_core.tensor.reductions import Dim as Dim
from tt_core.tensor.reductions import all as all
from tt_core.tensor.reductions import amax as amax
from tt_core.tensor.reductions import amin as amin
from tt_core.tensor.reductions import any as any
from tt_core.tensor.reductions import argmax as argmax
from tt_core.tensor.reductions import argmin as argmin
from tt_core.tensor.reductions import argsort as argsort
from tt_core.tensor.reductions import cumsum as cumsum
from tt_core.tensor.reductions import logsumexp as logsumexp
from tt_core.tensor.reductions import mean as mean
from tt_core.tensor.reductions import norm as norm
from tt_core.tensor.reductions import prod as prod
from tt_core.tensor.reductions import std as std
from tt_core.tensor.reductions import sum as sum
from tt_core.tensor.reductions import topk_indices as topk_indices
from tt_core.tensor.reductions import var as var
from tt_core.tensor.shapes import as_size as as_size
from tt_core.tensor.shapes import cast as cast
from tt_core.tensor.shapes import cat as cat
from tt_core.tensor.shapes import clone as clone
from tt_core.tensor.shapes import contiguous as contiguous
from tt_core.tensor.shapes import expand as expand
from tt_core.tensor.shapes import flip as flip
from tt_core.tensor.shapes import pad as pad
from tt_core.tensor.shapes import padded_places as padded_places
from tt_core.tensor.shapes import permute as permute
from tt_core.tensor.shapes import repeat_interleave as repeat_interleave
from tt_core.tensor.shapes import repeats_of as repeats_of
from tt_core.tensor.shapes import reshape as reshape
from tt_core.tensor.shapes import roll as roll
from tt_core.tensor.shapes import squeeze as squeeze
from tt_core.tensor.shapes import stack as stack
from tt_core.tensor.shapes import transpose as transpose
from tt_core.tensor.shapes import tril as tril
from tt_core.tensor.shapes import triu as triu
from tt_core.tensor.shapes import unsqueeze as unsqueeze
from tt_core.tensor.shapes import view as view
from tt_core.tensor.tensor import Tensor as Tensor
from tt_core.tensor.tensor import ValuesAndIndices as ValuesAndIndices
