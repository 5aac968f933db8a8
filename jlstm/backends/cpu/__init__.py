"""The backend `cpu`: LSTM and GRU by a native kernel, if one is built. XLA serves the calls that it cannot run."""

import math

from jaxtyping import Array

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu import kernel
from jlstm.backends.native import calls, primitives
from jlstm.cell import Cell, PyTree
from jlstm.cells.lstm import LSTMCell

PLATFORM = "cpu"
OPTIONS = calls.OPTIONS | {
    LSTMCell: calls.OPTIONS[LSTMCell] | {"projection", "projection_bias", "projection_clip"},
}
DTYPES = ("float32", "float64")

# Rows are time · batch. Up to MOST_ROWS_IN_PLACE the forward run reads the weights in place, and XLA computes derivatives.
# Otherwise the kernel packs the weights at every call. XLA is faster, except for single steps of few sequences, and from
# FEWEST_STEPS and FEWEST_ROWS on. Measured with 1 to 128 sequences and 16 to 512 units, forwards and in training.
MOST_ROWS_IN_PLACE = 4
MOST_SEQUENCES_OF_A_STEP = 2
FEWEST_STEPS, FEWEST_ROWS = 4, 128

primitives.register("cpu", kernel)


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence by the kernel, with the arguments and results of `scan.run`."""
    return calls.run(cell, inputs, options, in_place=_is_in_place(inputs))


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

    Packed weights pay if many rows of inputs use them. With few steps and several sequences, for example a policy of many
    environments inside a JAX loop, XLA is faster.
    """
    steps, rows = inputs.xs.shape[0], _rows(inputs)
    is_short_step = steps == 1 and rows <= MOST_SEQUENCES_OF_A_STEP and _is_in_place(inputs)
    if is_short_step or (steps >= FEWEST_STEPS and rows >= FEWEST_ROWS):
        return ""
    return (
        f"it packs the weights at every call, which pays from {FEWEST_STEPS} steps and {FEWEST_ROWS} rows of all steps on, "
        f"and there are {steps} and {rows}"
    )


def _rows(inputs: RunInputs) -> int:
    return math.prod(inputs.xs.shape[:-1])


def _is_in_place(inputs: RunInputs) -> bool:
    # Weights of 16 bits are widened for the kernel, which is as slow as packing them.
    # The run in place has one product in a step, and a projection is a second one.
    is_plain = inputs.xs.dtype.name in DTYPES and "projection_kernel" not in inputs.params
    return is_plain and _rows(inputs) <= MOST_ROWS_IN_PLACE
