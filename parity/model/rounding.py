"""Estimates a layer's rounding error on given inputs: its equations in NumPy, compared with 80-bit arithmetic.

A trained layer may amplify the rounding of each step. Two correct programs then differ by more than a fixed limit allows. NumPy's
own rounding is independent of both programs, so it says how much to allow.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from parity import textbook, tolerance
from parity.diagnosis.facts import errors_by_time, is_sequence
from parity.measure import Quantity
from parity.problem import Problem
from parity.quantities import Quantities, named
from parity.values import Values

_DRAWS = 4  # runs: where rounding grows, a single run may have a small error by luck
_NEAR = 2  # steps before and after a step whose rounding counts for it


def widened(quantities: tuple[Quantity, ...], problem: Problem, values: Values) -> tuple[Quantity, ...]:
    """Raise the limits to `tolerance.OF_NUMPY` times NumPy's rounding error where that is larger, step by step.

    Steps before the rounding has grown keep their narrow limit, so that a wrong conversion still shows there.

    Args:
        quantities: as judged.
        problem: the layer and its dtype.
        values: parameters, inputs, carry and mask.

    Returns:
        The quantities. They are unchanged if the textbook does not know the layer, or if the dtype is neither float64 nor
        float32.
    """
    if problem.dtype not in ("float64", "float32") or not textbook.knows(problem.layer):
        return quantities
    # 80-bit numbers have 11 more bits than float64: their own rounding is below a thousandth of it.
    exact, rng = _run_textbook(problem, values, np.longdouble), np.random.default_rng(0)
    distances = {name: np.zeros(array.shape) for name, array in exact.items()}
    # The first run has the inputs as they are, the others have inputs that are off by at most one rounding. All are compared
    # with the exact results of the true inputs, so that an amplified rounding of the inputs counts too.
    for draw in range(_DRAWS):
        noise = rng.uniform(-1, 1, values.xs.shape) * np.finfo(problem.dtype).eps if draw else 0
        rounded = _run_textbook(problem, values._replace(xs=values.xs * (1 + noise)), problem.dtype)
        distances = {name: np.maximum(distances[name], _finite_distance(rounded[name], exact[name])) for name in distances}
    return tuple(_widened(quantity, distances[quantity.name]) for quantity in quantities)


def _finite_distance(rounded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the rounding error; 0 where the layer overflows, which must not widen the limit."""
    finite = np.isfinite(rounded) & np.isfinite(exact)
    distance = np.where(finite, rounded, 0) - np.where(finite, exact, 0)
    return np.abs(distance).astype(np.float64)


def _run_textbook(problem: Problem, values: Values, dtype: Any) -> Quantities:
    params, xs, carry = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (values.params, values.xs, values.carry))
    with np.errstate(over="ignore", invalid="ignore"):  # a wrong conversion may overflow
        carry, ys, _ = textbook.run(problem.layer, params, xs, carry, values.mask)
    return named(ys, carry, None, None, None, dtype=np.longdouble)


def _widened(quantity: Quantity, distances: np.ndarray) -> Quantity:
    if not is_sequence(quantity.name):
        return replace(quantity, limit=max(quantity.limit, tolerance.OF_NUMPY * float(distances.max(initial=0))))
    # The largest rounding in a window of 5 steps, because two programs may have their peaks at neighboring steps. Zeros fill up
    # the windows at both ends.
    by_time = np.pad(errors_by_time(distances, np.zeros_like(distances)), _NEAR)
    window_max = np.lib.stride_tricks.sliding_window_view(by_time, 2 * _NEAR + 1).max(-1)
    limits = np.maximum(quantity.limit, tolerance.OF_NUMPY * window_max)
    return replace(quantity, limit=float(limits.max()), limit_by_time=tuple(limits.tolist()) if quantity.ours_by_time else ())
