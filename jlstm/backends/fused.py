"""The backend `fused`: the recurrence of the LSTM with a custom derivative, which computes the weight gradient in one matmul.

The derivative of a plain `lax.scan` adds up the gradient of the recurrent kernel U step by step, with a small matmul at each
step. The tangent of the pre-activations of a step is dz + dh U + h dU. Here the term h dU is computed for all steps in one
matmul, whose transpose, the weight gradient, is one matmul too. The rest is a loop that is linear in (dz, dh, dc). JAX
differentiates and transposes that loop itself, so that forward and reverse mode work at every order.

Reference: Appleyard, Kočiský & Blunsom, 2016, "Optimizing performance of recurrent neural networks on GPUs",
https://arxiv.org/abs/1604.01946.
"""

from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm._src.arrays import select
from jlstm.backends import scan
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell, PyTree
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import LSTMCarry, LSTMGates, split_gates

FUNCTIONS = {"activation", "recurrent_activation", "output_activation"}
# Options without effect in the loop. Recurrent dropout has one only if the context holds its masks, which `obstacle` checks.
NOT_IN_LOOP = {"units", "use_bias", "forget_bias", "dropout", "recurrent_dropout", "recurrent_dropout_on"}
INITIAL = {"kernel_init", "recurrent_init", "bias_init"}


class Residuals(NamedTuple):
    """Values of each step that the linear recurrence needs: the carry before it, the gates after activation, and tanh(c')."""

    carry: LSTMCarry
    gates: LSTMGates
    output: Float[Array, "time *batch units"]


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    kernel = {"recurrent_kernel": inputs.params["recurrent_kernel"]}
    zs = cell.project(inputs.params, inputs.context, inputs.xs)
    # Only what the loop reads: JAX itself derives the projection, outside of the custom derivative.
    return _recurrence(cell, options, inputs._replace(params=kernel, context={}, xs=inputs.xs[:0]), zs)


def obstacle(cell: Cell, inputs: RunInputs, options: RunOptions) -> str:
    """Return why this backend cannot run a call, or "": it is for the plain LSTM."""
    # Not isinstance: a subclass may override the step, whose derivative is written out below.
    if type(cell) is not LSTMCell:
        return f"it is not for {type(cell).__name__}"
    if (cell.recurrent_activation, cell.activation, cell.output_function) != ("sigmoid", "tanh", "tanh"):
        return "it is for the activations sigmoid and tanh"
    # Options are allowed by name, so that a new option of the cell is refused until this backend supports it
    for option in fields(cell):
        if option.name not in FUNCTIONS | NOT_IN_LOOP | INITIAL and getattr(cell, option.name) != option.default:
            return f"it is for LSTMs without {option.name}"
    return f"{cell.recurrent_dropout_on} has dropout" if "recurrent" in inputs.context else ""


def drawback(inputs: RunInputs) -> str:
    """Return "": the forward pass is the same loop as that of `scan`, and the backward pass does less in the loop."""
    return ""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recurrence(cell: LSTMCell, options: RunOptions, inputs: RunInputs, zs: LSTMGates) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
    return scan.loop(cell, inputs, zs, options)


@_recurrence.defjvp
def _jvp(
    cell: LSTMCell, options: RunOptions, primals: tuple[RunInputs, LSTMGates], tangents: tuple[RunInputs, LSTMGates]
) -> tuple[tuple[LSTMCarry, tuple[Array, PyTree]], tuple[LSTMCarry, tuple[Array, PyTree]]]:
    (inputs, zs), (inputs_tangent, dzs) = primals, tangents

    # `cell.step` has already computed these gates and tanh(c'): XLA finds the common subexpressions and computes them once.
    def keep(carry: LSTMCarry, z: LSTMGates, new_carry: LSTMCarry) -> tuple[Residuals, PyTree]:
        gates = cell.gates(inputs.params, {}, carry, z)
        return Residuals(carry, gates, jnp.tanh(new_carry.c)), options.keep(carry, z, new_carry) if options.keep else None

    carry, (ys, (residuals, step_values)) = scan.loop(cell, inputs, zs, options._replace(keep=keep))
    # h dU for all steps in one matmul. Its transpose is one matmul too: the gradient of U, hᵀ dz summed over time and batch.
    columns = jnp.concatenate(dzs, axis=-1) + residuals.carry.h @ inputs_tangent.params["recurrent_kernel"]
    return (carry, (ys, step_values)), tangent(options, inputs, residuals, inputs_tangent, columns)


def tangent(
    options: RunOptions, inputs: RunInputs, residuals: Residuals, inputs_tangent: RunInputs, dzs: Array
) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
    """Return the tangents of the results of a run. They are linear in `inputs_tangent` and `dzs`.

    Args:
        options: how to run the loop.
        inputs: the arguments of the run that is differentiated.
        residuals: values of each step of that run.
        inputs_tangent: tangents of `inputs`. Only `initial` and `carry` are read.
        dzs: tangents of the pre-activations (time, *batch, 4·units). They include h dU, but not dh U.

    Returns:
        The tangent of the last carry, and a pair with the tangents of the outputs and of the results of `options.keep`.
    """
    kernel = inputs.params["recurrent_kernel"]
    coefficients = _coefficients(residuals)

    def step(carry: LSTMCarry, step_inputs: tuple[Any, ...]) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
        dz, (c_by_i, c_by_f, c_by_g, c_by_c, h_by_o, h_by_c), counts, reset = step_inputs
        start_carry = carry if reset is None else select(reset, inputs_tangent.initial, carry)
        di, df, dg, do = split_gates(dz + start_carry.h @ kernel)
        # The derivatives of c' = f c + i g and h' = o tanh(c').
        dc = c_by_c * start_carry.c + c_by_i * di + c_by_f * df + c_by_g * dg
        end_carry = LSTMCarry(h_by_o * do + h_by_c * dc, dc)
        out = (end_carry.h, options.keep(start_carry, dz, end_carry) if options.keep else None)
        if counts is None:
            return end_carry, out
        return select(counts, end_carry, carry), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    return scan.scan(step, inputs_tangent.carry, (dzs, coefficients, inputs.mask, inputs.resets), options)


def _coefficients(residuals: Residuals) -> tuple[Array, ...]:
    """Return the derivatives of c' by z_i, z_f, z_g and c, and of h' by z_o and c', in this order.

    They follow from c' = f c + i g and h' = o tanh(c'), with σ' = σ (1 - σ) and tanh' = 1 - tanh².
    """
    (_, c), (i, f, g, o), output = residuals
    # σ' = σ (1 - σ) and tanh' = 1 - tanh², both by the values that the step has computed anyway.
    return g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), f, output * o * (1 - o), o * (1 - output**2)
