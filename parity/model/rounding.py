"""Estimates a layer's rounding error on given inputs: its equations in NumPy, compared with 80-bit arithmetic.

A trained layer may amplify the rounding of each step. Two correct programs then differ by more than a fixed limit allows. NumPy's
own rounding is independent of both programs, so it says how much to allow.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from parity import textbook
from parity.diagnosis.facts import errors_by_time, is_sequence
from parity.measure import Quantity
from parity.problem import Problem
from parity.quantities import Quantities, named
from parity.values import Values

FACTOR = 8  # of NumPy's rounding that a side may have
_DRAWS = 4  # of inputs that are off by a rounding error: where that grows, one run alone may be lucky
_NEAR = 2  # steps to both sides that count for a step's rounding


def widened(quantities: tuple[Quantity, ...], problem: Problem, values: Values) -> tuple[Quantity, ...]:
    """Raise the limits to 8 times NumPy's rounding error where that is larger, step by step.

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
    exact, rng = _computed(problem, values, np.longdouble), np.random.default_rng(0)
    off = {name: np.zeros(array.shape) for name, array in exact.items()}
    for draw in range(_DRAWS):
        noise = rng.uniform(-1, 1, values.xs.shape) * np.finfo(problem.dtype).eps if draw else 0
        rounded = _computed(problem, values._replace(xs=values.xs * (1 + noise)), problem.dtype)
        off = {name: np.maximum(off[name], _finite_distance(rounded[name], exact[name])) for name in off}
    return tuple(_widened(quantity, off[quantity.name]) for quantity in quantities)


def _finite_distance(rounded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the rounding error; 0 where the layer overflows, which must not widen the limit."""
    finite = np.isfinite(rounded) & np.isfinite(exact)
    distance = np.where(finite, rounded, 0) - np.where(finite, exact, 0)
    return np.abs(distance).astype(np.float64)


def _computed(problem: Problem, values: Values, dtype: Any) -> Quantities:
    params, xs, carry = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (values.params, values.xs, values.carry))
    with np.errstate(over="ignore", invalid="ignore"):  # of a wrong conversion, which overflows
        carry, ys, _ = textbook.run(problem.layer, params, xs, carry, values.mask)
    return named(ys, carry, None, None, None, dtype=np.longdouble)


def _widened(quantity: Quantity, off: np.ndarray) -> Quantity:
    if not is_sequence(quantity.name):
        return replace(quantity, limit=max(quantity.limit, FACTOR * float(off.max(initial=0))))
    by_time = np.pad(errors_by_time(off, np.zeros_like(off)), _NEAR)
    near = np.lib.stride_tricks.sliding_window_view(by_time, 2 * _NEAR + 1).max(-1)
    limits = np.maximum(quantity.limit, FACTOR * near)
    return replace(quantity, limit=float(limits.max()), limit_by_time=tuple(limits.tolist()) if quantity.ours_by_time else ())
