"""The backend `fused`: the recurrence of the LSTM with a custom derivative, which computes the weight gradient in one matmul.

The derivative of a plain `lax.scan` adds up the gradient of the recurrent kernel U step by step, with a small matmul at each
step. The tangent of the pre-activations of a step is dz + dh U + h dU. Here the term h dU is computed for all steps in one
matmul, whose transpose, the weight gradient, is one matmul too. The rest is a loop that is linear in (dz, dh, dc). JAX
differentiates and transposes that loop itself, so that forward and reverse mode work at every order.
"""

from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlstm.backends import scan
from jlstm.backends.scan import Recurrence, Way, select
from jlstm.cell import Cell, PyTree
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import LSTMCarry, LSTMGates, split_gates

FUNCTIONS = {"activation", "recurrent_activation", "output_activation"}
OUTSIDE = {"units", "use_bias", "forget_bias", "dropout", "recurrent_dropout", "recurrent_dropout_on"}  # not used in the loop
INITIAL = {"kernel_init", "recurrent_init", "bias_init"}


class Residuals(NamedTuple):
    """What the linear recurrence needs of each step: the carry before it, the gates after activation, and tanh(c')."""

    before: LSTMCarry
    gates: LSTMGates
    output: Float[Array, "time *batch units"]


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Run the recurrence, with the arguments and results of `scan.run`."""
    kernel = {"recurrent_kernel": start.params["recurrent_kernel"]}
    zs = cell.project(start.params, start.context, start.xs)
    return _recurrence(cell, way, start._replace(params=kernel, context={}, xs=start.xs[:0]), zs)


def obstacle(cell: Cell, start: Recurrence, way: Way) -> str:
    """Return why this backend cannot run a call, or "": it is for the plain LSTM."""
    if type(cell) is not LSTMCell:
        return f"it is not for {type(cell).__name__}"
    if (cell.recurrent_activation, cell.activation, cell.output_function) != ("sigmoid", "tanh", "tanh"):
        return "it is for the activations sigmoid and tanh"
    # Options are allowed by name, so that a new option of the cell is refused until this backend supports it
    for option in fields(cell):
        if option.name not in FUNCTIONS | OUTSIDE | INITIAL and getattr(cell, option.name) != option.default:
            return f"it is for LSTMs without {option.name}"
    return f"{cell.recurrent_dropout_on} has dropout" if "recurrent" in start.context else ""


def drawback(start: Recurrence) -> str:
    """Return "": the forward pass is the same loop as that of `scan`, and the backward pass does less in the loop."""
    return ""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recurrence(cell: LSTMCell, way: Way, start: Recurrence, zs: LSTMGates) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
    return scan.loop(cell, start, zs, way)


@_recurrence.defjvp
def _jvp(
    cell: LSTMCell, way: Way, primals: tuple[Recurrence, LSTMGates], tangents: tuple[Recurrence, LSTMGates]
) -> tuple[tuple[LSTMCarry, tuple[Array, PyTree]], tuple[LSTMCarry, tuple[Array, PyTree]]]:
    (start, zs), (change, dzs) = primals, tangents

    def keep(before: LSTMCarry, z: LSTMGates, after: LSTMCarry) -> tuple[Residuals, PyTree]:  # XLA computes the gates once
        gates = cell.gates(start.params, {}, before, z)
        return Residuals(before, gates, jnp.tanh(after.c)), way.keep(before, z, after) if way.keep else None

    carry, (ys, (residuals, kept)) = scan.loop(cell, start, zs, way._replace(keep=keep))
    columns = jnp.concatenate(dzs, axis=-1) + residuals.before.h @ change.params["recurrent_kernel"]
    return (carry, (ys, kept)), tangent(way, start, residuals, change, columns)


def tangent(
    way: Way, start: Recurrence, residuals: Residuals, change: Recurrence, dzs: Array
) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
    """Return the tangents of the results, which are linear in `change` and `dzs`.

    Args:
        way: how to run the loop.
        start: the run whose tangent this is.
        residuals: values of each step of that run.
        change: tangents of `start`; only `initial` and `carry` are read.
        dzs: tangents of the pre-activations (time, *batch, 4·units), without dh U. They include h dU.
    """
    kernel = start.params["recurrent_kernel"]
    coefficients = _coefficients(residuals)

    def step(carry: LSTMCarry, inputs: tuple[Any, ...]) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
        dz, (c_by_i, c_by_f, c_by_g, c_by_c, h_by_o, h_by_c), counts, reset = inputs
        start_carry = carry if reset is None else select(reset, change.initial, carry)
        di, df, dg, do = split_gates(dz + start_carry.h @ kernel)
        dc = c_by_c * start_carry.c + c_by_i * di + c_by_f * df + c_by_g * dg
        end_carry = LSTMCarry(h_by_o * do + h_by_c * dc, dc)
        out = (end_carry.h, way.keep(start_carry, dz, end_carry) if way.keep else None)
        if counts is None:
            return end_carry, out
        return select(counts, end_carry, carry), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    return scan.scan(step, change.carry, (dzs, coefficients, start.mask, start.resets), way)


def _coefficients(residuals: Residuals) -> tuple[Array, ...]:
    """Return the derivatives of c' by z_i, z_f, z_g and c, and of h' by z_o and c', in this order."""
    (_, c), (i, f, g, o), output = residuals
    return g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), f, output * o * (1 - o), o * (1 - output**2)
