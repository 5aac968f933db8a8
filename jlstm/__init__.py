"""jlstm: the LSTM library for JAX."""

from jlstm.cell import Carry, Cell
from jlstm.cells import ElmanCell, LSTMCell
from jlstm.io import load, save
from jlstm.layers import LSTM, RNN, Bidirectional, Layer, Stack, cell_states, explain

__all__ = [
    "LSTM",
    "RNN",
    "Bidirectional",
    "Carry",
    "Cell",
    "ElmanCell",
    "LSTMCell",
    "Layer",
    "Stack",
    "cell_states",
    "explain",
    "load",
    "save",
]
