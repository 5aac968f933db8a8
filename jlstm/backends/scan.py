"""The backend `scan`: the recurrence as a plain `lax.scan`, for every cell on every platform."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell, PyTree

# Steps per iteration if the caller does not say. On an H200 the loop runs twice as fast with 8 as with 1, at every size that was
# measured. On a CPU it does not. On other devices nothing was measured.
UNROLL, UNROLL_ON_CPU = 8, 1


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run a cell over time.

    A step where `mask` is False does not count: the carry stays unchanged, whatever `resets` says, and its output is zero.

    Returns:
        The last carry, and a pair with the outputs of all steps and the stacked results of `options.keep`.
    """
    return loop(cell, inputs, cell.project(inputs.params, inputs.context, inputs.xs), options)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return "": `scan` can run every call."""
    return ""


def drawback(inputs: RunInputs) -> str:
    """Return "": no backend comes after `scan`."""
    return ""


def loop(cell: Cell, inputs: RunInputs, zs: PyTree, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the steps of a cell on the projected inputs `zs`. Results are those of `run`; `inputs.xs` is not read."""

    def step(carry: PyTree, step_inputs: tuple[PyTree, Array | None, Array | None]) -> tuple[PyTree, tuple[Array, PyTree]]:
        z, counts, reset = step_inputs
        step_carry = carry if reset is None else select(reset, inputs.initial, carry)
        # A masked step is computed too, and its result is discarded. It starts from the initial carry: from a large carry it
        # might overflow, and the gradient through `select` would then contain 0 · inf = NaN.
        if counts is not None:
            step_carry = select(counts, step_carry, inputs.initial)
        new_carry, y = cell.step(inputs.params, inputs.context, step_carry, z)
        out = (y, options.keep(step_carry, z, new_carry) if options.keep else None)
        if counts is None:
            return new_carry, out
        # A masked step ignores its reset: it returns `carry`, not `step_carry`.
        return select(counts, new_carry, carry), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    return scan(step, inputs.carry, (zs, inputs.mask, inputs.resets), options)


def scan(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, steps: PyTree, options: RunOptions
) -> tuple[PyTree, PyTree]:
    """Run `lax.scan`, after the carry has been cast to the type that it has after a step.

    On an explicit mesh and inside `shard_map` the type of an array includes its sharding. A carry of zeros is not sharded, but
    the carry after a step is sharded like the inputs, and `lax.scan` requires that both types are equal.
    """
    if not all(jax.typeof(leaf).sharding.mesh.empty for leaf in jax.tree.leaves((carry, steps))):
        new_carry, _ = jax.eval_shape(lambda: step(carry, jax.tree.map(_first, steps)))
        carry = jax.tree.map(lambda leaf, like: leaf + lax.full_like(like, 0), carry, new_carry)  # adding zeros casts the type
    default = UNROLL_ON_CPU if jax.default_backend() == "cpu" else UNROLL
    unroll = default if options.unroll is None else options.unroll
    unroll = unroll if isinstance(unroll, int) else True  # `lax.scan` unrolls the whole loop for True, the option for "all"
    return lax.scan(step, carry, steps, reverse=options.reverse, unroll=unroll)


def _first(leaf: Array) -> Array:
    return lax.index_in_dim(leaf, 0, keepdims=False)
