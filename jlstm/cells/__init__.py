"""The cells: one family a file."""

from jlstm.cells.lstm import LSTMCell

__all__ = ["LSTMCell"]
