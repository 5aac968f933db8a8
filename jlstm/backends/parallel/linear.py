"""Run cells whose step is linear in the carry as an associative scan, which is O(log time) steps deep.

Two steps h' = a h + b and h'' = a' h' + b' make one linear step with the factor a' a and the summand a' b + b'.

Reference: Martin & Cundy, 2018, "Parallelizing linear recurrent neural nets over sequence length",
https://arxiv.org/abs/1709.04057.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell
from jlstm.cells.minimal import Linear
from jlstm.cells.tuples import HiddenCarry


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[HiddenCarry, Array]:
    """Return the last carry and the outputs."""
    steps = cell.project(inputs.params, inputs.context, inputs.xs)
    if inputs.resets is not None:  # a reset step does not depend on h
        reset_steps = Linear(jnp.zeros_like(steps.decay), steps.decay * inputs.initial.h[None] + steps.added)
        steps = select(inputs.resets, reset_steps, steps)
    if inputs.mask is not None:  # after the resets: a masked step ignores its reset and becomes the identity, h' = 1 h + 0
        steps = select(inputs.mask, steps, Linear(jnp.ones_like(steps.decay), jnp.zeros_like(steps.added)))
    # Step t of the result maps the carry at the start to h after step t.
    decay, added = lax.associative_scan(_compose, steps, reverse=options.reverse)
    hs = decay * inputs.carry.h[None] + added
    last = HiddenCarry(hs[0 if options.reverse else -1])
    return last, hs if inputs.mask is None else select(inputs.mask, hs, jnp.zeros_like(hs))


def _compose(first: Linear, second: Linear) -> Linear:
    """Return the linear step that equals `first`, then `second`."""
    # d₂ (d₁ h + a₁) + a₂, with the products taken apart.
    return Linear(first.decay * second.decay, second.decay * first.added + second.added)
