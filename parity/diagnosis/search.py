"""Tries faults, alone and then in pairs, until our float64 truth with a fault equals the other side's results."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import jlstm
from jlstm.cells import GRUCell
from parity import textbook
from parity.diagnosis import cells, sequence, structure, weights
from parity.diagnosis.facts import error
from parity.diagnosis.fault import Fault
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

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
LONGEST_FOR_TWO = 200  # steps: each trial is a Python loop over the steps, and pairs need many trials
AS_GOOD = 4.0  # times the smallest error: faults within this factor are reported together


class Found(NamedTuple):
    """A fault that explains a difference, and the error that remains with it."""

    fault: Fault
    remains: float


def search(
    problem: Problem, values: Values, theirs: Quantities, error_now: float, close: float, *, two: bool = True
) -> list[Found]:
    """Return the faults that explain a difference.

    A fault explains it if the remaining error is at most `close` and at most a quarter of `error_now`.

    Args:
        problem: what was run.
        values: its numbers.
        theirs: the outputs and the last carry to explain.
        error_now: the largest error without any fault.
        close: the relative error that counts as equal.
        two: whether to try pairs of faults if no single one explains the difference.

    Returns:
        The faults about as good as the best one, in the order of the tables; empty if nothing explains the difference.
    """
    if untried(problem.layer):
        return []
    for faults in (_one(problem, values), _two(problem, values) if two else ()):
        matches = [Found(fault, remaining(fault, problem, values, theirs)) for fault in faults]
        best = min((match.remains for match in matches), default=np.inf)
        if best <= min(close, error_now / 4):
            return [match for match in matches if match.remains <= max(AS_GOOD * best, close / 1000)]
    return []


def untried(layer: Any) -> str:
    """Return why no fault of a layer can be tried; "" if faults can be."""
    for _, inner in layer.leaves():
        cell = getattr(inner, "cell", None)
        if not isinstance(cell, jlstm.LSTMCell | GRUCell):
            return f"no faults of {type(inner if cell is None else cell).__name__} are known, so that none was tried"
        if not textbook.knows(inner):
            return f"the textbook does not know {inner!r}, so that no fault was tried"
    return ""


def remaining(fault: Fault, problem: Problem, values: Values, theirs: Quantities) -> float:
    """Return the largest error of the results with the fault; inf if it produces other quantities or shapes."""
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
