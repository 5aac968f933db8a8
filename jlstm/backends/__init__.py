"""Backends, which run a cell over time. `contract` says what each of them defines, and `scan` is the reference.

`scan` runs every cell as it is. The other backends get the cell after `reduction` has removed wrappers: for a WeightDrop around
an LSTM, for example, the LSTM itself with its remaining weights.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
from jaxtyping import Array

from jlstm.backends import cpu, fused, gpu, parallel, scan
from jlstm.backends.contract import Backend, RunInputs, RunOptions
from jlstm.backends.cpu import library
from jlstm.backends.reduction import Reduction, reduce
from jlstm.cell import Cell, PyTree

# In the order in which they are tried. "auto" begins with `gpu`, so that it never tries `parallel`.
MODULES: dict[str, Backend] = {"parallel": parallel, "gpu": gpu, "cpu": cpu, "fused": fused, "scan": scan}
OF_PLATFORM = ("gpu", "cpu")  # the backends that only the platform of the same name has; elsewhere they are tried only by name
BACKENDS = ("auto", *MODULES)
LOG = logging.getLogger(__name__)


class Choice(NamedTuple):
    """Which backend runs a cell, and why.

    Attributes:
        cell: the cell that the caller runs, or the name of another framework's cell, which that framework runs.
        backend: name of the backend, or of the framework.
        reduced: the cell that the backend runs, `cell` or an inner cell of it.
        obstacles: by name of each backend that was tried before: why it does not run the cell, in one sentence.
        parts: names of the layer and the direction that the cell belongs to, from the outside to the inside.
        instructions: the instruction set that the kernel for CPUs uses, "baseline", "avx2" or "avx512"; "" for other backends.
    """

    cell: Cell | str
    backend: str
    reduced: Cell | str
    obstacles: dict[str, str]
    parts: tuple[str, ...] = ()
    instructions: str = ""

    def __str__(self) -> str:
        inner = "" if self.reduced == self.cell else f" as {self.reduced}"
        rejections = "".join(f"; not by {name}: {reason}" for name, reason in self.obstacles.items())
        where = f"{', '.join(self.parts)}: " if self.parts else ""
        instructions = f" ({self.instructions})" if self.instructions else ""
        return f"{where}{self.cell} is run by {self.backend}{instructions}{inner}{rejections}"


_parts: ContextVar[tuple[str, ...]] = ContextVar("parts", default=())
_choices: ContextVar[list[Choice] | None] = ContextVar("choices", default=None)


class Auto(NamedTuple):
    """How "auto" chooses.

    Attributes:
        first: the backend that it tries first, or the one after it, if that is for another platform.
        heeds_drawbacks: whether it leaves a call to the next backend where this one has a drawback.
    """

    first: str = "gpu"
    heeds_drawbacks: bool = True


_AUTO = Auto()
_auto: ContextVar[Auto] = ContextVar("auto", default=_AUTO)


@contextmanager
def auto(first: str = "gpu", *, heeds_drawbacks: bool = True) -> Iterator[None]:
    """Change how "auto" chooses in the block. Tests use it to run all layers on one backend.

    Args:
        first: name of the backend that it tries first, or the one after it, if that is for another platform.
        heeds_drawbacks: whether it leaves a call to the next backend where this one has a drawback.

    Returns:
        A context manager.
    """
    token = _auto.set(Auto(first, heeds_drawbacks))
    try:
        yield
    finally:
        _auto.reset(token)


def tried(backend: str = "auto") -> list[str]:
    """Return the names of the backends that a call with this `backend` tries on the platform of JAX, in this order."""
    names, first = list(MODULES), _auto.get().first if backend == "auto" else backend
    elsewhere = [name for name in OF_PLATFORM if name not in (jax.default_backend(), backend)]
    return [name for name in names[names.index(first) :] if name not in elsewhere]


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run a cell by the backend of the options, or by the next one that can. Arguments and results are those of `Backend.run`."""
    choice, (cell, inputs, finish) = choose(cell, inputs, options)
    record(choice)
    carry, (ys, step_values) = MODULES[choice.backend].run(cell, inputs, options)  # step_values: results of `options.keep`
    return carry, (finish(ys), step_values)


def choose(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[Choice, Reduction]:
    """Return the first backend that can run a call, and the reduced run.

    The backends are tried in the order of `tried`. `scan` is the last one and runs every call.

    Args:
        cell: the cell that the caller runs.
        inputs: the arrays.
        options: how to run the loop, and by which backend.

    Returns:
        The choice, and the cell and inputs that the backend runs, which may be those of an inner cell.
    """
    unreduced = Reduction.of(cell, inputs)
    reduced = unreduced if options.backend == "scan" else reduce(cell, inputs)
    obstacles: dict[str, str] = {}
    for name in tried(options.backend):
        module, reduction = MODULES[name], unreduced if name == "scan" else reduced
        reason = module.obstacle(reduction.cell, reduction.inputs, options)
        if not reason and name != options.backend and _auto.get().heeds_drawbacks:  # a backend named by the caller runs anyway
            reason = module.drawback(reduction.inputs)
        if not reason:
            break
        obstacles[name] = reason
    instructions = library.load().instructions if name == cpu.PLATFORM else ""
    return Choice(cell, name, reduction.cell, obstacles, _parts.get(), instructions), reduction


@contextmanager
def part(name: str) -> Iterator[None]:
    """Add the name of a layer or a direction to each `Choice` that is made in the block, and so to the lines of `jlstm.explain`.

    Blocks may be nested: "layer 0" around "forward" gives the parts ("layer 0", "forward").
    """
    token = _parts.set((*_parts.get(), name))
    try:
        yield
    finally:
        _parts.reset(token)


def record(choice: Choice) -> None:
    """Write a choice to the log, and add it to the lists of `recorded`."""
    LOG.debug("%s", choice)
    if (choices := _choices.get()) is not None:
        choices.append(choice)


@contextmanager
def recorded() -> Iterator[list[Choice]]:
    """Return a context manager that yields a list, to which each `Choice` that is made in the block is added."""
    choices: list[Choice] = []
    token = _choices.set(choices)
    try:
        yield choices
    finally:
        _choices.reset(token)
