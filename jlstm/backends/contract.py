"""What every backend gets and what it defines."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Bool

from jlstm.cell import Cell, Params, PyTree


class RunInputs(NamedTuple):
    """The arrays of one run of a cell over time, all in the compute dtype.

    Attributes:
        params: the parameters of the cell.
        context: what `Cell.begin` returned for the sequence.
        initial: the carry that `resets` puts back.
        carry: the carry to start from.
        xs: inputs (time, *batch, features), or `MaskedInputs`.
        mask: True at the steps that count. None means that all do.
        resets: True at the steps that start from `initial`. None means that none does.
    """

    params: Params
    context: PyTree
    initial: PyTree
    carry: PyTree
    xs: Any
    mask: Bool[Array, " time *batch"] | None
    resets: Bool[Array, " time *batch"] | None


class RunOptions(NamedTuple):
    """How to run the loop.

    Attributes:
        reverse: run from the last step to the first.
        unroll: steps per iteration of the compiled loop, "all", or None for what suits the device, see `scan.scan`.
        remat: steps of a chunk that the backward pass computes again, "sqrt", or False; `jlstm._src.loop` cuts the chunks.
        backend: name of the backend that the caller asks for, or "auto".
        keep: a function of the carry before a step, its projected inputs and the carry after it. What it returns is stacked over
            time. None keeps nothing.
    """

    reverse: bool = False
    unroll: int | str | None = None
    remat: int | str = False
    backend: str = "auto"
    keep: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None


class Backend(Protocol):
    """The functions of a backend, which is a module. All backends return what `scan`, the reference, returns."""

    def run(self, cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
        """Run a cell over time.

        A step where `mask` is False does not count: the carry stays unchanged, whatever `resets` says, and its output is zero.

        Args:
            cell: the cell, which `obstacle` does not refuse.
            inputs: the arrays.
            options: how to run the loop.

        Returns:
            The last carry, which with `reverse` is that after step 0, and a pair with the outputs of all steps and what
            `options.keep` returned at each step. Both have time first, in the order of the inputs, and are zero at masked steps.
        """

    def obstacle(self, cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
        """Return why this backend cannot run a call, in one sentence, or "". The arguments are those of `run`."""

    def drawback(self, inputs: RunInputs) -> str:
        """Return why "auto" should prefer the next backend for a call that this one can run, in one sentence, or ""."""
