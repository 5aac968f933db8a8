"""Wrappers: cells that change what goes into or comes out of an inner cell."""

from jlstm.cells.wrappers.around import Highway, LearnedCarry, Residual
from jlstm.cells.wrappers.base import Wrapper
from jlstm.cells.wrappers.dropout import Dropout
from jlstm.cells.wrappers.weight_drop import WeightDrop
from jlstm.cells.wrappers.zoneout import Zoneout

__all__ = ["Dropout", "Highway", "LearnedCarry", "Residual", "WeightDrop", "Wrapper", "Zoneout"]
