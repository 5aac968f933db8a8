"""jlstm: the LSTM library for JAX."""

from jlstm.cell import Carry, Cell
from jlstm.cells import ConvLSTMCell, ElmanCell, GRUCell, LSTMCell, MinGRUCell, MinLSTMCell, MLSTMCell, SLSTMCell
from jlstm.io import load, load_layer, save
from jlstm.layers import GRU, LSTM, RNN, Bidirectional, Layer, Stack, cell_states, explain
from jlstm.loop import lengths_to_mask

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Carry",
    "Cell",
    "ConvLSTMCell",
    "ElmanCell",
    "GRUCell",
    "LSTMCell",
    "Layer",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "SLSTMCell",
    "Stack",
    "cell_states",
    "explain",
    "lengths_to_mask",
    "load",
    "load_layer",
    "save",
]
