"""Backends, which run a cell over time. `scan` is the reference: all others must return the same results.

Each backend is a module with three functions. `run` runs the recurrence. `obstacle` says why the backend cannot run a call, and
`drawback` why "auto" should prefer the next backend; both return "" if there is no such reason.

`scan` runs every cell as it is. The other backends get the cell after `reduction` has removed wrappers: for a WeightDrop around
an LSTM, for example, the LSTM itself with its remaining weights.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from jaxtyping import Array

from jlstm.backends import cpu, fused, parallel, scan
from jlstm.backends.reduction import Reduction, reduce
from jlstm.backends.scan import Recurrence, RunOptions
from jlstm.cell import Cell, PyTree

# In the order in which they are tried. `parallel` stands before `FIRST`, so that "auto" never tries it.
MODULES = {"parallel": parallel, "cpu": cpu, "fused": fused, "scan": scan}
BACKENDS = ("auto", *MODULES)
FIRST = "cpu"  # the first one that "auto" tries
LOG = logging.getLogger(__name__)


class Choice(NamedTuple):
    """Which backend runs a cell, and why.

    Attributes:
        cell: the cell that the caller runs.
        backend: name of the backend.
        reduced: the cell that the backend runs, `cell` or an inner cell of it.
        obstacles: by name of each backend that was tried before: why it does not run the cell, in one sentence.
        parts: names of the layer and the direction that the cell belongs to, from the outside to the inside.
    """

    cell: Cell
    backend: str
    reduced: Cell
    obstacles: dict[str, str]
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        inner = "" if self.reduced == self.cell else f" as {self.reduced}"
        rejections = "".join(f"; not by {name}: {reason}" for name, reason in self.obstacles.items())
        where = f"{', '.join(self.parts)}: " if self.parts else ""
        return f"{where}{self.cell} is run by {self.backend}{inner}{rejections}"


_parts: ContextVar[tuple[str, ...]] = ContextVar("parts", default=())
_choices: ContextVar[list[Choice] | None] = ContextVar("choices", default=None)


def run(backend: str, cell: Cell, start: Recurrence, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run a cell by `backend`, or by the next backend that can; arguments and results are those of `scan.run`."""
    choice, (cell, start, finish) = choose(backend, cell, start, options)
    LOG.debug("%s", choice)
    if (choices := _choices.get()) is not None:
        choices.append(choice)
    carry, (ys, step_values) = MODULES[choice.backend].run(cell, start, options)  # step_values: results of `options.keep`
    return carry, (finish(ys), step_values)


def choose(backend: str, cell: Cell, start: Recurrence, options: RunOptions) -> tuple[Choice, Reduction]:
    """Return the first backend that can run a call, and the reduced run.

    The backends are tried in the order of `MODULES`, from `backend` on, or from `FIRST` on for "auto". `scan` is the last one and
    runs every call.
    """
    names = list(MODULES)
    unreduced = Reduction.of(cell, start)
    reduced = unreduced if backend == "scan" else reduce(cell, start)
    obstacles: dict[str, str] = {}
    for name in names[names.index(FIRST if backend == "auto" else backend) :]:
        module, reduction = MODULES[name], unreduced if name == "scan" else reduced
        reason = module.obstacle(reduction.cell, reduction.start, options)
        if not reason and name != backend:  # a backend that the caller named runs whatever its drawbacks
            reason = module.drawback(reduction.start)
        if not reason:
            break
        obstacles[name] = reason
    return Choice(cell, name, reduction.cell, obstacles, _parts.get()), reduction


@contextmanager
def part(name: str) -> Iterator[None]:
    """Add the name of a layer or a direction to each `Choice` that is made in the block."""
    token = _parts.set((*_parts.get(), name))
    try:
        yield
    finally:
        _parts.reset(token)


@contextmanager
def recorded() -> Iterator[list[Choice]]:
    """Collect in a list each `Choice` that is made in the block."""
    choices: list[Choice] = []
    token = _choices.set(choices)
    try:
        yield choices
    finally:
        _choices.reset(token)
