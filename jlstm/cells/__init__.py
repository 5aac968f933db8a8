"""The cells: one family a file."""

from jlstm.cells.conv import ConvLSTMCell
from jlstm.cells.elman import ElmanCarry, ElmanCell
from jlstm.cells.gates import Gates
from jlstm.cells.gru import GRUCarry, GRUCell, GRUGates
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.minimal import MinGRUCell, MinimalCarry, MinLSTMCell
from jlstm.cells.mlstm import MLSTMCarry, MLSTMCell
from jlstm.cells.slstm import SLSTMCarry, SLSTMCell
from jlstm.cells.wrappers import Dropout, Highway, LearnedCarry, Residual, WeightDrop, Wrapper, Zoneout

__all__ = [
    "ConvLSTMCell",
    "Dropout",
    "ElmanCarry",
    "ElmanCell",
    "GRUCarry",
    "GRUCell",
    "GRUGates",
    "Gates",
    "Highway",
    "LSTMCell",
    "LearnedCarry",
    "MLSTMCarry",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MinimalCarry",
    "Residual",
    "SLSTMCarry",
    "SLSTMCell",
    "WeightDrop",
    "Wrapper",
    "Zoneout",
]
