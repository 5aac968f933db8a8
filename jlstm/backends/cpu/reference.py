"""The computations of the native kernel, written in JAX: used for second derivatives and on other platforms."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends import fused, scan
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu.operands import Inputs, Outputs, Residuals, pack, unpack
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import LSTMCarry, LSTMGates


def forward(inputs: Inputs, *, keep: bool, reverse: bool) -> tuple[Array, ...]:
    """Run the LSTM. Return the fields of `Outputs` and, with `keep`, those of `Residuals`."""
    cell = LSTMCell(inputs.units)
    run_inputs = _recurrence(inputs)

    def carry_and_gates(carry: LSTMCarry, z: LSTMGates, _: LSTMCarry) -> tuple[LSTMCarry, LSTMGates]:
        return carry, cell.gates(run_inputs.params, {}, carry, z)

    last_carry, (ys, step_values) = scan.run(cell, run_inputs, RunOptions(reverse, keep=carry_and_gates if keep else None))
    outputs = Outputs(ys, *last_carry)
    if not keep:
        return tuple(outputs)
    carries, gates = step_values
    return *outputs, *Residuals(pack(gates), pack((carries.c,)), carries.h if inputs.stores_h else ys[:0, :0, :0])


def tangent(inputs: Inputs, ys: Array, residuals: Residuals, tangents: Sequence[Array], *, reverse: bool) -> Outputs:
    """Return the tangents of the outputs. They are linear in `tangents`, the tangents of `inputs.differentiable`.

    Args:
        inputs: the operands of the run.
        ys: the outputs of the run.
        residuals: the residuals of the run.
        tangents: one array for each of `inputs.differentiable`, of the same shape.
        reverse: whether the run goes from the last step to the first.
    """
    dxs, dkernel, drecurrent, dbias, dh, dc = tangents
    hs, run_inputs = h_before(inputs, ys, residuals, reverse=reverse), _recurrence(inputs)
    if run_inputs.mask is not None:  # the carry before a masked step may not be finite, and 0 · inf is NaN
        hs = select(run_inputs.mask, hs, jnp.zeros_like(hs))
    i, f, g, o = unpack(residuals.gates, 4, inputs.units)
    (c,) = unpack(residuals.cs, 1, inputs.units)
    # tanh(c') is not among the residuals. The gates and c before the step determine it.
    step_values = fused.Residuals(LSTMCarry(hs, c), LSTMGates(i, f, g, o), jnp.tanh(f * c + i * g))
    dzs = dxs @ inputs.kernel + inputs.xs @ dkernel + dbias[None, None] + hs @ drecurrent
    inputs_tangent = run_inputs._replace(carry=LSTMCarry(dh, dc))  # its zero `initial` is constant, so the tangent is zero too
    carry, (dys, _) = fused.tangent(RunOptions(reverse), run_inputs, step_values, inputs_tangent, dzs)
    return Outputs(dys, *carry)


def transposed(inputs: Inputs, ys: Array, residuals: Residuals, cotangents: Outputs, *, reverse: bool) -> tuple[Array, ...]:
    """Return the gradients of `inputs.differentiable`: the transpose of `tangent`, applied to the cotangents of the outputs."""

    def tangent_map(*tangents: Array) -> Outputs:
        return tangent(inputs, ys, residuals, tangents, reverse=reverse)

    return jax.linear_transpose(tangent_map, *inputs.differentiable)(cotangents)


def h_before(inputs: Inputs, ys: Array, residuals: Residuals, *, reverse: bool) -> Array:
    """Return h before each step (time, batch, units)."""
    if inputs.stores_h:
        return residuals.hs
    first = inputs.h[None]  # without mask and resets the h before a step is the output of the previous one
    return jnp.concatenate([ys, first])[1:] if reverse else jnp.concatenate([first, ys])[:-1]


def _recurrence(inputs: Inputs) -> RunInputs:
    params = {"kernel": inputs.kernel, "recurrent_kernel": inputs.recurrent_kernel, "bias": inputs.bias}
    zeros = jnp.zeros_like(inputs.h)
    mask, resets = (steps if steps.size else None for steps in (inputs.mask, inputs.resets))
    return RunInputs(params, {}, LSTMCarry(zeros, zeros), LSTMCarry(inputs.h, inputs.c), inputs.xs, mask, resets)
