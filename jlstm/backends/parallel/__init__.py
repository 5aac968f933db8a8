"""The backend `parallel`: all time steps at once, for cells whose gates do not see h.

"auto" never takes it, since on a CPU a loop is often faster.
"""

from jaxtyping import Array

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.parallel import linear, quadratic
from jlstm.cell import Cell, PyTree
from jlstm.cells.minimal import MinGRUCell, MinLSTMCell
from jlstm.cells.mlstm import MLSTMCell

RUNS = {MinLSTMCell: linear.run, MinGRUCell: linear.run, MLSTMCell: quadratic.run}


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    carry, ys = RUNS[type(cell)](cell, inputs, options)
    return carry, (ys, None)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why this backend cannot run a call, or ""."""
    # By the exact type: a subclass may have other equations.
    if type(cell) not in RUNS:
        return f"it is not for {type(cell).__name__}"
    if options.keep:
        return "the carry of each step is asked for"
    return "there is no step" if inputs.xs.shape[0] == 0 else ""


def drawback(inputs: RunInputs) -> str:
    """Return "": this backend runs only if the caller names it."""
    return ""
