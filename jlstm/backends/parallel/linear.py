"""Run cells whose step is linear in the carry as an associative scan, which is O(log time) steps deep.

Two steps h' = a h + b and h'' = a' h' + b' make one linear step with the factor a' a and the summand a' b + b'.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jlstm.backends.scan import Recurrence, RunOptions, select
from jlstm.cell import Cell
from jlstm.cells.minimal import Linear
from jlstm.cells.tuples import HiddenCarry


def run(cell: Cell, start: Recurrence, options: RunOptions) -> tuple[HiddenCarry, Array]:
    """Return the last carry and the outputs."""
    steps = cell.project(start.params, start.context, start.xs)
    if start.resets is not None:  # a reset step does not depend on h
        reset_steps = Linear(jnp.zeros_like(steps.decay), steps.decay * start.initial.h[None] + steps.added)
        steps = select(start.resets, reset_steps, steps)
    if start.mask is not None:  # after the resets: a masked step ignores its reset and becomes the identity, h' = 1 h + 0
        steps = select(start.mask, steps, Linear(jnp.ones_like(steps.decay), jnp.zeros_like(steps.added)))
    decay, added = lax.associative_scan(_compose, steps, reverse=options.reverse)
    hs = decay * start.carry.h[None] + added
    last = HiddenCarry(hs[0 if options.reverse else -1])
    return last, hs if start.mask is None else select(start.mask, hs, jnp.zeros_like(hs))


def _compose(first: Linear, second: Linear) -> Linear:
    """Return the linear step that equals `first`, then `second`."""
    return Linear(first.decay * second.decay, second.decay * first.added + second.added)
