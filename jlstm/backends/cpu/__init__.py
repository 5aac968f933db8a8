"""The backend `cpu`: LSTM and GRU by a native kernel, if one is built. XLA serves the calls that it cannot run."""

import math

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu import kernel
from jlstm.backends.native import calls, primitives
from jlstm.cell import Cell
from jlstm.cells.lstm import LSTMCell

PLATFORM = "cpu"
OPTIONS = calls.OPTIONS | {
    LSTMCell: calls.OPTIONS[LSTMCell] | {"projection", "projection_bias", "projection_clip"},
}
DTYPES = ("float32", "float64")

# Below these numbers XLA is faster: measured with 1 to 128 sequences and 16 to 512 units, forwards and in training.
FEWEST_STEPS = 4
FEWEST_ROWS = 128  # time · batch

primitives.register("cpu", kernel)
run = calls.run


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why the kernel cannot run a call, or ""."""
    return (
        calls.cell_obstacle(cell, OPTIONS)
        or calls.platform_obstacle(PLATFORM)
        or kernel.obstacle()
        or calls.call_obstacle(inputs, options, DTYPES)
    )


def drawback(inputs: RunInputs) -> str:
    """Return why "auto" should let XLA run a call, or "".

    The kernel packs the weights at every call, which XLA does not. This pays if many rows of inputs use the packed weights. With
    few steps and few sequences, for example a policy inside a JAX loop, XLA is faster.
    """
    steps, *batch = inputs.xs.shape[:-1]
    if steps >= FEWEST_STEPS and steps * math.prod(batch) >= FEWEST_ROWS:
        return ""
    return (
        f"it packs the weights at every call, which pays from {FEWEST_STEPS} steps and {FEWEST_ROWS} rows of all steps on, "
        f"and there are {steps} and {steps * math.prod(batch)}"
    )
