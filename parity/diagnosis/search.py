"""Tries faults, alone and then in pairs, until our float64 truth with a fault equals the other side's results."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import jlstm
from jlstm.cells import GRUCell
from parity import textbook, tolerance
from parity.diagnosis import cells, sequence, structure, weights
from parity.diagnosis.facts import error
from parity.diagnosis.fault import Fault
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

# Every single fault is tried. The order is that of the report, which names only the first few of equally good causes.
SINGLE = (
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
# A pair is a wrong order of the gates together with one fault of the second group.
PAIRS = ((weights.gates,), (weights.biases, weights.layouts, sequence.time, sequence.padding, cells.carries))
LONGEST_FOR_PAIRS = 200  # steps: each trial is a Python loop over the steps, and pairs need many trials


class Match(NamedTuple):
    """A fault that was tried, and the largest error that remains if the truth has it."""

    fault: Fault
    remaining_error: float


def search(
    problem: Problem, values: Values, theirs: Quantities, initial_error: float, match_limit: float, *, try_pairs: bool = True
) -> list[Match]:
    """Return the faults that explain a difference.

    A fault explains it if the remaining error is at most `match_limit` and at most `initial_error` / `tolerance.SHRINKS`.

    Args:
        problem: what was run.
        values: its numbers.
        theirs: the outputs and the last carry to explain.
        initial_error: the largest error without any fault.
        match_limit: the largest error that may remain, see `tolerance.match`.
        try_pairs: whether to try pairs of faults if no single one explains the difference.

    Returns:
        The faults about as good as the best one, in the order of the tables; empty if nothing explains the difference.
    """
    if untried(problem.layer):
        return []
    for faults in (_single_faults(problem, values), _fault_pairs(problem, values) if try_pairs else ()):
        matches = [Match(fault, remaining(fault, problem, values, theirs)) for fault in faults]
        best = min((match.remaining_error for match in matches), default=np.inf)
        if best <= min(match_limit, initial_error / tolerance.SHRINKS):
            # Several faults may be reported, such as two that do the same to this problem.
            limit = max(tolerance.EQUALLY_GOOD * best, tolerance.UNRANKED * match_limit)
            return [match for match in matches if match.remaining_error <= limit]
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


def _single_faults(problem: Problem, values: Values) -> Iterator[Fault]:
    for faults in SINGLE:
        yield from faults(problem, values)


def _fault_pairs(problem: Problem, values: Values) -> Iterator[Fault]:
    if values.xs.shape[1] > LONGEST_FOR_PAIRS:
        return
    # The second faults are made for the problem that the first one has changed: faults of weights hold finished parameters, which
    # would undo the first fault otherwise.
    for first in (fault for faults in PAIRS[0] for fault in faults(problem, values)):
        changed_problem = first.change_problem(problem, values)
        for second in (fault for faults in PAIRS[1] for fault in faults(*changed_problem)):
            if first.everywhere and second.everywhere:  # faults of single layers would multiply the number of pairs
                yield first.and_then(second)
