"""Recurrent layers: a cell over time, two directions, a stack, and functions that inspect a run."""

from jlstm.layers.bidirectional import Bidirectional
from jlstm.layers.bound import Bound
from jlstm.layers.choices import Explanation, explain
from jlstm.layers.composite import Composite
from jlstm.layers.constructors import GRU, LSTM
from jlstm.layers.layer import Layer
from jlstm.layers.recurrent import RNN
from jlstm.layers.shapes import param_shapes
from jlstm.layers.stack import Stack
from jlstm.layers.states import cell_states

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Bound",
    "Composite",
    "Explanation",
    "Layer",
    "Stack",
    "cell_states",
    "explain",
    "param_shapes",
]
