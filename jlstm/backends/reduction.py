"""Remove the wrappers of a cell that do nothing inside the loop over time."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.scan import Recurrence, select
from jlstm.cell import Cell


class Reduction(NamedTuple):
    """A run of an inner cell, and the function `finish` that maps its outputs to those of the outer cell.

    Both cells have the same carries.
    """

    cell: Cell
    start: Recurrence
    finish: Callable[[Array], Array]

    @classmethod
    def of(cls, cell: Cell, start: Recurrence) -> Self:
        """Return the run of the cell itself, without any reduction."""
        return cls(cell, start, _same)


def reduce(cell: Cell, start: Recurrence) -> Reduction:
    """Remove as many wrappers from the outside as `Cell.reduced` allows.

    With resets, a wrapper stays whose initial carry differs from that of its inner cell, since `resets` put that carry back.
    """
    stages: list[Callable[[Array], Array]] = []
    # the outputs pass through the innermost wrapper first
    while _speaks_for_itself(cell) and (inner := cell.reduced(start.params, start.context, start.xs)) is not None:
        if start.resets is not None and not inner.begins_alike:
            break
        cell, start = inner.cell, start._replace(params=inner.params, context=inner.context, xs=inner.xs)
        stages.insert(0, inner.finish)
    return Reduction(cell, start, partial(_finish, stages, start.mask) if stages else _same)


def _finish(stages: list[Callable[[Array], Array]], mask: Array | None, ys: Array) -> Array:
    for stage in stages:
        ys = stage(ys)
    return ys if mask is None else select(mask, ys, jnp.zeros_like(ys))


def _same(ys: Array) -> Array:
    return ys


def _speaks_for_itself(cell: Cell) -> bool:
    """Whether `reduced` describes the equations of this class.

    It does not if a subclass overrides `project` or `step` and inherits `reduced`.
    """
    mro = type(cell).__mro__
    depths = {name: next(k for k, kind in enumerate(mro) if name in vars(kind)) for name in ("reduced", "project", "step")}
    return depths["reduced"] <= min(depths["project"], depths["step"])
