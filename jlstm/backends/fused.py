"""The backend `fused`: the recurrence with a custom derivative, which computes the gradient of recurrent weights in one matmul.

The derivative of a plain `lax.scan` adds up the gradient of the recurrent kernel U step by step, with a small matmul at each
step. The tangent of the product h U is dh U + h dU. Here the term h dU is computed for all steps in one matmul, whose transpose,
the weight gradient, is one matmul too. The rest is a loop that is linear in the tangents. JAX transposes that loop itself, so
that forward and reverse mode work at every order. Other weights that the loop reads, such as those of a projection, are
differentiated in it.

Reference: Appleyard, Kočiský & Blunsom, 2016, "Optimizing performance of recurrent neural networks on GPUs",
https://arxiv.org/abs/1604.01946.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends import scan
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell, PyTree
from jlstm.cells.base import RecurrentCell

Results = tuple[PyTree, tuple[Array, PyTree]]  # what `scan.run` returns


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> Results:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    zs = cell.project(inputs.params, inputs.context, inputs.xs)
    # JAX itself derives the projection, outside of the custom derivative. The loop does not read xs.
    return _recurrence(cell, options, inputs._replace(xs=inputs.xs[:0]), zs)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why this backend cannot run a call, or ""."""
    if not isinstance(cell, RecurrentCell) or type(cell).step is not RecurrentCell.step:  # a subclass may override the step
        return f"it is not for {type(cell).__name__}"
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(inputs.carry)):
        return "the carry has integers"
    return cell.hoisting_obstacle


def drawback(inputs: RunInputs) -> str:
    """Return "": the forward pass is the same loop as that of `scan`, and the backward pass does less in the loop."""
    return ""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recurrence(cell: RecurrentCell, options: RunOptions, inputs: RunInputs, zs: PyTree) -> Results:
    return scan.loop(cell, inputs, zs, options)


@_recurrence.defjvp
def _jvp(
    cell: RecurrentCell, options: RunOptions, primals: tuple[RunInputs, PyTree], tangents: tuple[RunInputs, PyTree]
) -> tuple[Results, Results]:
    (inputs, zs), (inputs_tangent, zs_tangent) = primals, tangents
    weights, weights_tangent = (inputs.params, inputs.context), (inputs_tangent.params, inputs_tangent.context)

    # `cell.step` has already computed these sums: XLA finds the common subexpressions and computes them once.
    def keep(carry: PyTree, z: PyTree, new_carry: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        return carry, cell.sums(*weights, carry, z), options.keep(carry, z, new_carry) if options.keep else None

    last_carry, (ys, (carries, sums, step_values)) = scan.loop(cell, inputs, zs, options._replace(keep=keep))

    # The tangent of the sums without the part by the tangent of the carry, dz + h dU, for all steps in one matmul. Its transpose
    # is one matmul too: the gradient of U, hᵀ dz summed over time and batch.
    @jax.vmap
    def hoisted(carry: PyTree, z: PyTree, z_tangent: PyTree) -> PyTree:
        def sums(params: PyTree, context: PyTree, z: PyTree) -> PyTree:
            return cell.sums(params, context, carry, z)

        return jax.jvp(sums, (*weights, z), (*weights_tangent, z_tangent))[1]

    def advance(params: PyTree, context: PyTree, carry: PyTree, z: PyTree, sums: PyTree) -> tuple[PyTree, tuple[Array, PyTree]]:
        new_carry, y = cell.advance(params, context, carry, sums)
        return new_carry, (y, options.keep(carry, z, new_carry) if options.keep else None)

    # The backward pass computes the activation functions of a step again: they are cheaper than to store all their derivatives.
    @partial(jax.checkpoint, prevent_cse=False)
    def step(carry_tangent: PyTree, step_inputs: tuple[Any, ...]) -> tuple[PyTree, tuple[Array, PyTree]]:
        carry, z, sums, z_tangent, sums_tangent, counts, reset = step_inputs
        if counts is not None:  # the loop has replaced the carry of a masked step by zeros, at which a derivative may be infinite
            carry = select(counts, carry, inputs.initial)
        start = carry_tangent if reset is None else select(reset, inputs_tangent.initial, carry_tangent)
        by_carry = jax.jvp(lambda carry: cell.sums(*weights, carry, z), (carry,), (start,))[1]
        sums_tangent = jax.tree.map(jnp.add, sums_tangent, by_carry)
        operands, operands_tangent = (*weights, carry, z, sums), (*weights_tangent, start, z_tangent, sums_tangent)
        end, out = jax.jvp(advance, operands, operands_tangent)[1]
        if counts is None:
            return end, out
        return select(counts, end, carry_tangent), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    steps = (carries, zs, sums, zs_tangent, hoisted(carries, zs, zs_tangent), inputs.mask, inputs.resets)
    return (last_carry, (ys, step_values)), scan.scan(step, inputs_tangent.carry, steps, options)
