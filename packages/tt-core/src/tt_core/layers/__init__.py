"""Module 03, layers: one interface for everything with parameters, and the layers of Act I.

Reading order: `base` (what a layer is), `parameter`, `linear`, `containers`, `activations`, `normalization`, `dropout`.
`collections` has lists and dictionaries of layers. `state` copies state dicts, `tree` shows a model as text, and
`replacing` exchanges layers of a finished model.
"""

from __future__ import annotations

from tt_core.layers.activations import GELU as GELU
from tt_core.layers.activations import LeakyReLU as LeakyReLU
from tt_core.layers.activations import LogSoftmax as LogSoftmax
from tt_core.layers.activations import ReLU as ReLU
from tt_core.layers.activations import Sigmoid as Sigmoid
from tt_core.layers.activations import SiLU as SiLU
from tt_core.layers.activations import Softmax as Softmax
from tt_core.layers.activations import Softplus as Softplus
from tt_core.layers.activations import Tanh as Tanh
from tt_core.layers.base import Layer as Layer
from tt_core.layers.collections import LayerDict as LayerDict
from tt_core.layers.collections import LayerList as LayerList
from tt_core.layers.containers import Identity as Identity
from tt_core.layers.containers import Sequential as Sequential
from tt_core.layers.dropout import Dropout as Dropout
from tt_core.layers.dropout import dropout as dropout
from tt_core.layers.linear import Linear as Linear
from tt_core.layers.linear import linear as linear
from tt_core.layers.normalization import LayerNorm as LayerNorm
from tt_core.layers.normalization import layer_norm as layer_norm
from tt_core.layers.parameter import Parameter as Parameter
from tt_core.layers.replacing import prepare_model as prepare_model
from tt_core.layers.replacing import replace_layers as replace_layers
from tt_core.layers.state import MissingAndUnexpected as MissingAndUnexpected
from tt_core.layers.state import StateDictError as StateDictError
