"""Trying faults, one and then two at a time, until one makes our side's truth equal to what the other side has."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import jlstm
from jlstm.cells import GRUCell
from parity import textbook
from parity.case import Problem, Quantities, Values
from parity.diagnosis import cells, sequence, structure, weights
from parity.diagnosis.facts import error
from parity.diagnosis.fault import Fault
from parity.diagnosis.fault import cells as cells_of

FIRST = (
    weights.gates,
    weights.biases,
    weights.layouts,
    weights.gates_of_one_matrix,
    sequence.time,
    sequence.padding,
    sequence.axes,
    cells.activations,
    cells.carries,
    cells.dropouts,
    structure.structures,
)
TWO = ((weights.gates,), (weights.biases, weights.layouts, sequence.time, sequence.padding, cells.carries))
LONGEST_FOR_TWO = 200  # steps: each trial is a Python loop over them
AS_GOOD = 4.0  # times the best one's error


class Found(NamedTuple):
    """A fault that explains a difference, and the error that remains."""

    fault: Fault
    remains: float


def search(
    problem: Problem, values: Values, theirs: Quantities, error_now: float, close: float, *, two: bool = True
) -> list[Found]:
    """The faults that explain a difference: those that leave least of it, at most `close` and a quarter of it.

    Args:
        problem: what was run.
        values: its numbers.
        theirs: outputs and last carry to be explained.
        error_now: the largest error without any fault.
        close: what counts as equal.
        two: whether to try two faults at a time where no single one explains it.

    Returns:
        The faults that remain as good as the best one, in the order of the tables; none if nothing explains it.
    """
    if untried(problem.layer):
        return []
    for faults in (_one(problem, values), _two(problem, values) if two else ()):
        found = [Found(fault, remaining(fault, problem, values, theirs)) for fault in faults]
        best = min((one.remains for one in found), default=np.inf)
        if best <= min(close, error_now / 4):
            return [one for one in found if one.remains <= max(AS_GOOD * best, close / 1000)]
    return []


def untried(layer: Any) -> str:
    """Why no fault of a layer is tried, in a sentence; "" where faults are."""
    for _, one in cells_of(layer):
        cell = getattr(one, "cell", None)
        if not isinstance(cell, jlstm.LSTMCell | GRUCell):
            return f"no faults of {type(one if cell is None else cell).__name__} are known, so that none was tried"
        if not textbook.knows(one):
            return f"the textbook does not know {one!r}, so that no fault was tried"
    return ""


def remaining(fault: Fault, problem: Problem, values: Values, theirs: Quantities) -> float:
    """The largest error of the results with that fault; infinite where it gives other quantities or shapes."""
    with np.errstate(all="ignore"):  # a wrong activation may overflow
        results = fault.results(problem, values)
    if not theirs.keys() <= results.keys():
        return float("inf")
    return max(float(np.nan_to_num(error(got, results[name]), nan=np.inf)) for name, got in theirs.items())


def _one(problem: Problem, values: Values) -> Iterator[Fault]:
    for faults in FIRST:
        yield from faults(problem, values)


def _two(problem: Problem, values: Values) -> Iterator[Fault]:
    if values.xs.shape[1] > LONGEST_FOR_TWO:
        return
    for first in (fault for faults in TWO[0] for fault in faults(problem, values)):
        changed = first.before(problem, values)
        for second in (fault for faults in TWO[1] for fault in faults(*changed)):
            if first.everywhere and second.everywhere:
                yield first.and_then(second)
