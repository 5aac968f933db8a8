"""The cells: one family a file."""

from jlstm.cells.elman import ElmanCarry, ElmanCell
from jlstm.cells.gates import Gates
from jlstm.cells.gru import GRUCarry, GRUCell, GRUGates
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.minimal import MinGRUCell, MinimalCarry, MinLSTMCell
from jlstm.cells.mlstm import MLSTMCarry, MLSTMCell
from jlstm.cells.slstm import SLSTMCarry, SLSTMCell

__all__ = [
    "ElmanCarry",
    "ElmanCell",
    "GRUCarry",
    "GRUCell",
    "GRUGates",
    "Gates",
    "LSTMCell",
    "MLSTMCarry",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MinimalCarry",
    "SLSTMCarry",
    "SLSTMCell",
]
