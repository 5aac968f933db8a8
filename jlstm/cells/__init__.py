"""The cells: one family a file."""

from jlstm.cells.elman import ElmanCarry, ElmanCell
from jlstm.cells.lstm import Gates, LSTMCell

__all__ = ["ElmanCarry", "ElmanCell", "Gates", "LSTMCell"]
