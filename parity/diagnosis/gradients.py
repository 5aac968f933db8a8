"""Describes wrong gradients of a side whose outputs are right."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from parity.diagnosis.facts import error, gates_of, is_sequence
from parity.problem import Problem
from parity.quantities import Quantities


def gradient_causes(
    problem: Problem, theirs: Quantities, truths: Quantities, wrong_names: list[str], match_limit: float
) -> tuple[str, ...]:
    """Return one sentence for each kind of error among the wrong gradients.

    Args:
        problem: what was run.
        theirs: the results to explain.
        truths: what the textbook computes.
        wrong_names: names of the quantities that differ.
        match_limit: the largest error of a match, see `tolerance.match`.
    """
    names_by_error: dict[str, list[str]] = {}
    for name in wrong_names:
        names_by_error.setdefault(_cause(problem, name, theirs[name], truths[name], match_limit), []).append(name)
    return tuple(
        f"the outputs agree, but {', '.join(names)} {'is' if len(names) == 1 else 'are'} {description}"
        for description, names in names_by_error.items()
    )


def _cause(problem: Problem, name: str, got: np.ndarray, expected: np.ndarray, match_limit: float) -> str:
    if got.shape != expected.shape:
        return f"of shape {got.shape} instead of {expected.shape}"
    if not np.isfinite(got).all():
        return "not finite"
    return next(
        (
            description
            for description, candidate in _candidates(problem, name, got, expected)
            if error(got, candidate) <= match_limit
        ),
        "different",
    )


def _candidates(problem: Problem, name: str, got: np.ndarray, expected: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what the gradient may be: a description and the array it describes. The first that agrees is reported."""
    yield "off by more rounding than there should be", expected
    yield "zero", np.zeros_like(expected)
    yield "of the opposite sign", -expected
    # The least-squares factor: it finds any wrong scale, such as that of a mean over the batch in place of a sum.
    factor = float(np.vdot(got, expected) / (np.vdot(expected, expected) or 1.0))
    yield f"{factor:.4g} times the right one", factor * expected
    if is_sequence(name):
        yield "reversed in time", expected[:, ::-1]
        yield "in reverse order along the batch", expected[::-1]
    names = gates_of(problem, name, expected.shape)
    parts = np.split(expected, len(names) or 1, -1)
    # Every quantity is tried alone: a port may permute the gates of one gradient and not of another.
    for a, b in combinations(range(len(names)), 2):
        order = list(range(len(names)))
        order[a], order[b] = b, a
        yield f"right if the {names[a]} and {names[b]} gates are swapped", np.concatenate([parts[k] for k in order], -1)
    if expected.ndim == 2 and expected.shape[0] == expected.shape[1]:
        yield "transposed", expected.T
    if expected.ndim == 2 and names and parts[0].shape[0] == parts[0].shape[1]:
        yield "transposed gate by gate", np.concatenate([part.T for part in parts], -1)
