"""Remove the wrappers of a cell that do nothing inside the loop over time."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends.contract import RunInputs
from jlstm.cell import Cell


class Reduction(NamedTuple):
    """A run of an inner cell, and the function `finish` that maps its outputs to those of the outer cell.

    Both cells have the same carries.
    """

    cell: Cell
    inputs: RunInputs
    finish: Callable[[Array], Array]

    @classmethod
    def of(cls, cell: Cell, inputs: RunInputs) -> Self:
        """Return the run of the cell itself, without any reduction."""
        return cls(cell, inputs, _identity)


def reduce(cell: Cell, inputs: RunInputs) -> Reduction:
    """Remove as many wrappers from the outside as `Cell.reduced` allows.

    A reset step starts from the initial carry. If there are resets, a wrapper therefore stays if its initial carry differs from
    that of its inner cell.
    """
    stages: list[Callable[[Array], Array]] = []
    while _reduction_is_valid(cell) and (inner := cell.reduced(inputs.params, inputs.context, inputs.xs)) is not None:
        # A reset would go back to the initial carry of the inner cell, which is another one.
        if inputs.resets is not None and not inner.same_initial_carry:
            break
        cell, inputs = inner.cell, inputs._replace(params=inner.params, context=inner.context, xs=inner.xs)
        stages.insert(0, inner.finish)  # in front: outputs pass through the innermost wrapper first
    return Reduction(cell, inputs, partial(_finish, stages, inputs.mask) if stages else _identity)


def _finish(stages: list[Callable[[Array], Array]], mask: Array | None, ys: Array) -> Array:
    for stage in stages:
        ys = stage(ys)
    # The backend returned zeros at masked steps. A stage may change them, as Residual does, which adds the inputs.
    return ys if mask is None else select(mask, ys, jnp.zeros_like(ys))


def _identity(ys: Array) -> Array:
    return ys


def _reduction_is_valid(cell: Cell) -> bool:
    """Whether `reduced` describes the equations of the class of this cell.

    It does not if a subclass overrides a part of the equations and inherits `reduced`.
    """
    # The position in the method resolution order at which each method is defined: smaller is more specific.
    mro = type(cell).__mro__
    depths = {name: _first(mro, name) for name in ("reduced", "project", "step", "sums", "advance")}
    return all(depths["reduced"] <= depth for depth in depths.values())


def _first(mro: tuple[type, ...], name: str) -> int:
    return next((k for k, kind in enumerate(mro) if name in vars(kind)), len(mro))
