"""How a difference develops over time, and whether it is the rounding of a lower dtype."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from parity import tolerance
from parity.quantities import Quantities

LOWER = {"float64": ("bfloat16", "float16", "float32"), "float32": ("bfloat16", "float16")}


class Growth(NamedTuple):
    """How a difference develops over time.

    Args:
        first: the first step, in the order of computation, at which it exceeds rounding.
        shape: "grows", "fades", "stays about the same" or "is at that step alone".
        gradual: whether smaller differences precede that step, as with accumulated rounding.
    """

    first: int
    shape: str
    gradual: bool

    def __str__(self) -> str:
        return f"difference starts at step {self.first} and {self.shape}"


def growth(errors: np.ndarray, allowed: float, *, reverse: bool = False) -> Growth | None:
    """Describe errors step by step; None if none exceeds `allowed`.

    Args:
        errors: the largest error at each step.
        allowed: the largest error that counts as rounding.
        reverse: whether the computation ran backwards in time.
    """
    # In the order of computation: an error can only spread to later steps of the run.
    order = np.arange(len(errors))[:: -1 if reverse else 1]
    ordered = np.nan_to_num(errors[order], nan=np.inf)
    steps_above = np.flatnonzero(ordered > allowed)
    if not len(steps_above):
        return None
    first = int(steps_above[0])
    errors_from, errors_before = ordered[first:], ordered[:first]
    gradual = first > 0 and float(errors_before[-1]) > tolerance.NEAR_LIMIT * allowed
    # Medians, so that one step does not decide. A gradual difference is compared with the steps before it, since it has no clear
    # start; any other one compares its first third with its last.
    third = max(1, len(errors_from) // 3)
    start = float(np.median(errors_before if gradual else errors_from[:third]))
    end = float(np.median(errors_from if gradual else errors_from[-third:]))
    if len(steps_above) == 1 and len(errors_from) > 1 and not gradual:
        shape = "is at that step alone"
    elif (len(errors_from) == 1 and not gradual) or (start / tolerance.SAME_SIZE <= end <= tolerance.SAME_SIZE * start):
        shape = "stays about the same"
    else:
        shape = "grows" if end > start else "fades"
    return Growth(int(order[first]), shape, gradual)


def dtype_of(results: Quantities, dtype: str) -> str:
    """Return the lowest dtype that represents all results exactly, if it is lower than `dtype`; else `dtype`."""
    values = np.concatenate([value.ravel() for value in results.values()]) if results else np.zeros(0)
    if len(np.unique(values)) < 4:  # zeros and ones are exact in every dtype: they prove nothing
        return dtype
    for lower in LOWER.get(dtype, ()):  # lowest first: what bfloat16 represents exactly, float32 does too
        if (values == values.astype(jnp.dtype(lower)).astype(np.float64)).all():
            return lower
    return dtype
