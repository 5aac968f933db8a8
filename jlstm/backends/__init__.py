"""Ways to run a whole recurrence. `scan` is the meaning of all others.

Each is a module with `run`, the recurrence, and two functions that say why not, or nothing: `obstacle`, why it cannot serve a
call, and `drawback`, why "auto" does better to leave the call to the next one.

`scan` runs every cell as it is. All others get what `reduction` leaves of it: of dropped weights, say, a plain LSTM.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from jaxtyping import Array

from jlstm.backends import cpu, fused, parallel, scan
from jlstm.backends.reduction import Reduction, reduce
from jlstm.backends.scan import Recurrence, Way
from jlstm.cell import Cell, PyTree

MODULES = {"parallel": parallel, "cpu": cpu, "fused": fused, "scan": scan}  # each comes before those that can do what it cannot
BACKENDS = ("auto", *MODULES)
FIRST = "cpu"  # where "auto" begins
LOG = logging.getLogger(__name__)


class Choice(NamedTuple):
    """The backend that runs a cell, as which inner cell, why those before it do not (one sentence each), and in which part."""

    cell: Cell
    backend: str
    reduced: Cell
    obstacles: dict[str, str]
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        inner = "" if self.reduced == self.cell else f" as {self.reduced}"
        others = "".join(f"; not by {name}: {why}" for name, why in self.obstacles.items())
        where = f"{', '.join(self.parts)}: " if self.parts else ""
        return f"{where}{self.cell} is run by {self.backend}{inner}{others}"


_parts: ContextVar[tuple[str, ...]] = ContextVar("parts", default=())
_choices: ContextVar[list[Choice] | None] = ContextVar("choices", default=None)


def run(backend: str, cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """The same as `scan.run`, by a backend or, where it cannot, by the next one that can."""
    choice, (cell, start, finish) = choose(backend, cell, start, way)
    LOG.debug("%s", choice)
    if (choices := _choices.get()) is not None:
        choices.append(choice)
    carry, (ys, kept) = MODULES[choice.backend].run(cell, start, way)
    return carry, (finish(ys), kept)


def choose(backend: str, cell: Cell, start: Recurrence, way: Way) -> tuple[Choice, Reduction]:
    """Take the first of MODULES that can serve a call, from `backend` on, or from FIRST on for "auto"; return what it runs."""
    names = list(MODULES)
    plain = Reduction.of(cell, start)
    reduced = plain if backend == "scan" else reduce(cell, start)
    obstacles: dict[str, str] = {}
    for name in names[names.index(FIRST if backend == "auto" else backend) :]:
        module, task = MODULES[name], plain if name == "scan" else reduced
        why = module.obstacle(task.cell, task.start, way)
        if not why and name != backend:
            why = module.drawback(task.start)
        if not why:
            break
        obstacles[name] = why
    return Choice(cell, name, task.cell, obstacles, _parts.get()), task


@contextmanager
def part(name: str) -> Iterator[None]:
    """Name what runs in a block of code, a layer or a direction, for `Choice`."""
    token = _parts.set((*_parts.get(), name))
    try:
        yield
    finally:
        _parts.reset(token)


@contextmanager
def recorded() -> Iterator[list[Choice]]:
    """Collect what is chosen in a block of code."""
    choices: list[Choice] = []
    before = _choices.set(choices)
    try:
        yield choices
    finally:
        _choices.reset(before)
