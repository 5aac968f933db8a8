"""The LSTM's recurrence with a derivative of its own: a linear recurrence, from which the weights' gradient is taken out.

Left to `lax.scan`, the gradient of the recurrent kernel is added up step by step, one small matrix product each. Here the
tangent of a step's pre-activations, dz + dh U + h dU, has its last term computed for all steps at once; JAX transposes that one
matrix product to one matrix product. What remains in the loop is linear in (dz, dh, dc), so that forward and reverse mode, and
all orders of both, are JAX's own.
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
OUTSIDE = {"units", "use_bias", "forget_bias", "dropout", "recurrent_dropout", "recurrent_dropout_on"}  # of the recurrence
INITIAL = {"kernel_init", "recurrent_init", "bias_init"}


class Residuals(NamedTuple):
    """What the linear recurrence needs of each step: the carry it began with, what its gates let through, and tanh(c)."""

    before: LSTMCarry
    gates: LSTMGates
    output: Float[Array, "time *batch units"]


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """The same as `scan.run`."""
    kernel = {"recurrent_kernel": start.params["recurrent_kernel"]}
    zs = cell.project(start.params, start.context, start.xs)
    return _recurrence(cell, way, start._replace(params=kernel, context={}, xs=start.xs[:0]), zs)


def obstacle(cell: Cell, start: Recurrence, way: Way) -> str:
    """Why this cannot serve a call, or nothing: it is for the plain LSTM."""
    if type(cell) is not LSTMCell:
        return f"it is not for {type(cell).__name__}"
    if (cell.recurrent_activation, cell.activation, cell.output_function) != ("sigmoid", "tanh", "tanh"):
        return "it is for the activations sigmoid and tanh"
    for option in fields(cell):
        if option.name not in FUNCTIONS | OUTSIDE | INITIAL and getattr(cell, option.name) != option.default:
            return f"it is for LSTMs without {option.name}"
    return f"{cell.recurrent_dropout_on} has dropout" if "recurrent" in start.context else ""


def drawback(start: Recurrence) -> str:
    """Nothing: forwards it is the same loop as `scan`, and backwards one with less in it."""
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
    """Linear in `change` and in `dzs`, which has the tangent of the recurrent kernel in it already."""
    kernel = start.params["recurrent_kernel"]
    coefficients = _coefficients(residuals)

    def step(carry: LSTMCarry, inputs: tuple[Any, ...]) -> tuple[LSTMCarry, tuple[Array, PyTree]]:
        dz, (of_i, of_f, of_g, f, of_o, of_c), counts, reset = inputs
        before = carry if reset is None else select(reset, change.initial, carry)
        i, f_, g, o = split_gates(dz + before.h @ kernel)
        c = f * before.c + of_i * i + of_f * f_ + of_g * g
        after = LSTMCarry(of_o * o + of_c * c, c)
        out = (after.h, way.keep(before, dz, after) if way.keep else None)
        if counts is None:
            return after, out
        return select(counts, after, carry), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    return scan.scan(step, change.carry, (dzs, coefficients, start.mask, start.resets), way)


def _coefficients(residuals: Residuals) -> tuple[Array, ...]:
    """∂c/∂z of i, f and g, ∂c/∂c before, ∂h/∂z of o, ∂h/∂c."""
    (_, c), (i, f, g, o), output = residuals
    return g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), f, output * o * (1 - o), o * (1 - output**2)
