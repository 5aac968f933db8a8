"""All steps at once, for cells whose gates see no h. Only on request: on a processor a loop is often faster."""

from jaxtyping import Array

from jlstm.backends.parallel import linear, quadratic
from jlstm.backends.scan import Recurrence, Way
from jlstm.cell import Cell, PyTree
from jlstm.cells.minimal import MinGRUCell, MinLSTMCell
from jlstm.cells.mlstm import MLSTMCell

RUNS = {MinLSTMCell: linear.run, MinGRUCell: linear.run, MLSTMCell: quadratic.run}


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """The same as `scan.run`."""
    carry, ys = RUNS[type(cell)](cell, start, way)
    return carry, (ys, None)


def obstacle(cell: Cell, start: Recurrence, way: Way) -> str:
    """Why this cannot serve a call, or nothing."""
    if type(cell) not in RUNS:
        return f"it is not for {type(cell).__name__}"
    if way.keep:
        return "the carry of each step is asked for"
    return "there is no step" if start.xs.shape[0] == 0 else ""


def drawback(start: Recurrence) -> str:
    """Nothing: it is only taken on request."""
    return ""
