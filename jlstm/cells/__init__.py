"""The cells, one family in each file."""

from jlstm.cells.conv_lstm import ConvLSTMCell
from jlstm.cells.elman import ElmanCell
from jlstm.cells.gru import GRUCell, GRUGates
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.minimal import MinGRUCell, MinLSTMCell
from jlstm.cells.mlstm import MLSTMCarry, MLSTMCell
from jlstm.cells.slstm import SLSTMCarry, SLSTMCell
from jlstm.cells.tuples import HiddenCarry, LSTMCarry, LSTMGates
from jlstm.cells.wrappers import Dropout, Highway, LearnedCarry, Residual, WeightDrop, Wrapper, Zoneout

__all__ = [
    "ConvLSTMCell",
    "Dropout",
    "ElmanCell",
    "GRUCell",
    "GRUGates",
    "HiddenCarry",
    "Highway",
    "LSTMCarry",
    "LSTMCell",
    "LSTMGates",
    "LearnedCarry",
    "MLSTMCarry",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "Residual",
    "SLSTMCarry",
    "SLSTMCell",
    "WeightDrop",
    "Wrapper",
    "Zoneout",
]
