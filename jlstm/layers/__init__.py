"""The layers."""

from jlstm.layers.bidirectional import Bidirectional
from jlstm.layers.choices import explain
from jlstm.layers.layer import Layer, cell_states, param_shapes
from jlstm.layers.recurrent import GRU, LSTM, RNN
from jlstm.layers.stack import Stack

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "Layer", "Stack", "cell_states", "explain", "param_shapes"]
