"""The backend `gpu`: LSTM and GRU by a native kernel on GPUs with CUDA. XLA serves the calls that it cannot run."""

import math
from typing import Any

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.gpu import kernel
from jlstm.backends.native import calls, primitives

PLATFORM = "gpu"
DTYPES = ("float32",)

primitives.register("cuda", kernel)
run = calls.run


def obstacle(cell: Any, inputs: RunInputs, options: RunOptions) -> str:
    """Return why the kernel cannot run a call, or "".

    It compiles the kernel for the forward run of this size, if that has not happened yet. On several devices, the sizes are known
    only when XLA compiles the program. If one of them has no kernel, XLA runs it, which is a line of the log.
    """
    reason = (
        calls.cell_obstacle(cell)
        or calls.platform_obstacle(PLATFORM)
        or kernel.obstacle()
        or calls.call_obstacle(inputs, options, DTYPES)
    )
    if reason:
        return reason
    time, *batch = inputs.xs.shape[:-1]
    return kernel.size_obstacle(cell, time, math.prod(batch))


def drawback(inputs: RunInputs) -> str:
    """Return why "auto" should let XLA run a call, or "".

    A batch that does not fit on the GPU at once is run by several launches, one after the other. For so many sequences XLA's
    products are efficient too. Which of both is faster has not been measured.
    """
    _, *batch = inputs.xs.shape[:-1]
    return kernel.size_drawback(inputs.carry.h.shape[-1], math.prod(batch))
