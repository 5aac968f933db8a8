"""How a difference develops over time, and whether it is the rounding of a lower dtype."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

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
    order = np.arange(len(errors))[:: -1 if reverse else 1]
    off = np.nan_to_num(errors[order], nan=np.inf)
    beyond = np.flatnonzero(off > allowed)
    if not len(beyond):
        return None
    first = int(beyond[0])
    rest, before = off[first:], off[:first]
    gradual = first > 0 and float(before[-1]) > allowed / 100
    third = max(1, len(rest) // 3)
    start = float(np.median(before if gradual else rest[:third]))
    end = float(np.median(rest if gradual else rest[-third:]))
    if len(beyond) == 1 and len(rest) > 1 and not gradual:
        shape = "is at that step alone"
    elif (len(rest) == 1 and not gradual) or start / 4 <= end <= 4 * start:
        shape = "stays about the same"
    else:
        shape = "grows" if end > start else "fades"
    return Growth(int(order[first]), shape, gradual)


def dtype_of(results: Quantities, dtype: str) -> str:
    """Return the lowest dtype that represents all results exactly, if it is lower than `dtype`; else `dtype`."""
    values = np.concatenate([value.ravel() for value in results.values()]) if results else np.zeros(0)
    if len(np.unique(values)) < 4:  # zeros and ones are exact in every dtype: they prove nothing
        return dtype
    for lower in LOWER.get(dtype, ()):
        if (values == values.astype(jnp.dtype(lower)).astype(np.float64)).all():
            return lower
    return dtype
