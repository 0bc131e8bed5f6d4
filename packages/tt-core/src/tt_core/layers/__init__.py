"""Module 03, layers: one interface for everything with parameters, and the layers of Act I.

Read `layers` first, then `activations`, which wraps the functions of module 02 as layers.
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
from tt_core.layers.layers import Dropout as Dropout
from tt_core.layers.layers import Identity as Identity
from tt_core.layers.layers import Layer as Layer
from tt_core.layers.layers import LayerDict as LayerDict
from tt_core.layers.layers import LayerList as LayerList
from tt_core.layers.layers import LayerNorm as LayerNorm
from tt_core.layers.layers import Linear as Linear
from tt_core.layers.layers import MissingAndUnexpected as MissingAndUnexpected
from tt_core.layers.layers import Parameter as Parameter
from tt_core.layers.layers import Sequential as Sequential
from tt_core.layers.layers import StateDictError as StateDictError
from tt_core.layers.layers import dropout as dropout
from tt_core.layers.layers import layer_norm as layer_norm
from tt_core.layers.layers import linear as linear
from tt_core.layers.layers import prepare_model as prepare_model
from tt_core.layers.layers import replace_layers as replace_layers
