"""The computations of the native kernel, written in JAX: used for second derivatives and on other platforms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src.arrays import select
from jlstm.backends import fused, scan
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.cpu.operands import Inputs, Outputs, Residuals, pack, unpack
from jlstm.cell import Cell
from jlstm.cells.gru import GRUCell
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import HiddenCarry, LSTMCarry, LSTMGates


def forward(inputs: Inputs, *, keep: bool, cell: str, reverse: bool) -> tuple[Array, ...]:
    """Run a cell, "lstm" or "gru". Return the fields of `Outputs` and, with `keep`, those of `Residuals`."""
    run_cell, run_inputs = CELLS[cell](inputs)

    def carry_and_gates(carry: Any, z: Any, _: Any) -> tuple[Any, tuple[Array, ...]]:
        gates = tuple(run_cell.gates(run_inputs.params, {}, carry, z))
        if cell == "gru":  # b, with which the candidate is tanh(a + r b)
            params = run_inputs.params
            gates += (carry.h @ params["recurrent_kernel"][:, 2 * inputs.units :] + params["recurrent_bias"][None],)
        return carry, gates

    last_carry, (ys, step_values) = scan.run(run_cell, run_inputs, RunOptions(reverse, keep=carry_and_gates if keep else None))
    outputs = Outputs(ys, last_carry.h, last_carry.c if inputs.has_c else inputs.c)
    if not keep:
        return tuple(outputs)
    carries, gates = step_values
    cs = pack((carries.c,)) if inputs.has_c else jnp.zeros((*ys.shape[:2], 0), ys.dtype)
    return *outputs, *Residuals(pack(gates), cs, carries.h if inputs.stores_h else ys[:0, :0, :0])


def tangent(inputs: Inputs, ys: Array, residuals: Residuals, tangents: Sequence[Array], *, cell: str, reverse: bool) -> Outputs:
    """Return the tangents of the outputs. They are linear in `tangents`, the tangents of `inputs.differentiable`.

    Args:
        inputs: the operands of the run.
        ys: the outputs of the run.
        residuals: the residuals of the run.
        tangents: one array for each of `inputs.differentiable`, of the same shape.
        cell: the cell of the run. That of "gru" is run again, instead of using its residuals.
        reverse: whether the run goes from the last step to the first.
    """
    if cell == "gru":
        return Outputs(*jax.jvp(_outputs(inputs, cell=cell, reverse=reverse), inputs.differentiable, tuple(tangents))[1])
    dxs, dkernel, drecurrent, dbias, dh, dc = tangents
    hs, run_inputs = h_before(inputs, ys, residuals, reverse=reverse), _lstm(inputs)[1]
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


def transposed(
    inputs: Inputs, ys: Array, residuals: Residuals, cotangents: Outputs, *, cell: str, reverse: bool
) -> tuple[Array, ...]:
    """Return the gradients of `inputs.differentiable`: the transpose of `tangent`, applied to the cotangents of the outputs."""
    if cell == "gru":
        return jax.vjp(_outputs(inputs, cell=cell, reverse=reverse), *inputs.differentiable)[1](tuple(cotangents))

    def tangent_map(*tangents: Array) -> Outputs:
        return tangent(inputs, ys, residuals, tangents, cell=cell, reverse=reverse)

    return jax.linear_transpose(tangent_map, *inputs.differentiable)(cotangents)


def _outputs(inputs: Inputs, **options: Any) -> Callable[..., tuple[Array, ...]]:
    """Return the outputs of a run as a function of `inputs.differentiable`."""
    return lambda *operands: forward(Inputs(*(*operands, inputs.mask, inputs.resets)), keep=False, **options)


def h_before(inputs: Inputs, ys: Array, residuals: Residuals, *, reverse: bool) -> Array:
    """Return h before each step (time, batch, units)."""
    if inputs.stores_h:
        return residuals.hs
    first = inputs.h[None]  # without mask and resets the h before a step is the output of the previous one
    return jnp.concatenate([ys, first])[1:] if reverse else jnp.concatenate([first, ys])[:-1]


def _lstm(inputs: Inputs) -> tuple[Cell, RunInputs]:
    params = {"kernel": inputs.kernel, "recurrent_kernel": inputs.recurrent_kernel, "bias": inputs.bias}
    zeros = jnp.zeros_like(inputs.h)
    carries = LSTMCarry(zeros, zeros), LSTMCarry(inputs.h, inputs.c)
    return LSTMCell(inputs.units), RunInputs(params, {}, *carries, inputs.xs, *_mask_and_resets(inputs))


def _gru(inputs: Inputs) -> tuple[Cell, RunInputs]:
    first, second, last = inputs.units * 2, inputs.units * 3, inputs.units * 4
    recurrent = inputs.recurrent_kernel
    params = {
        "kernel": inputs.kernel[:, :second],
        "recurrent_kernel": jnp.concatenate([recurrent[:, :first], recurrent[:, second:last]], axis=1),
        "bias": inputs.bias[:second],
        "recurrent_bias": inputs.bias[second:],
    }
    carries = HiddenCarry(jnp.zeros_like(inputs.h)), HiddenCarry(inputs.h)
    return GRUCell(inputs.units), RunInputs(params, {}, *carries, inputs.xs, *_mask_and_resets(inputs))


def _mask_and_resets(inputs: Inputs) -> tuple[Array | None, ...]:
    return tuple(steps if steps.size else None for steps in (inputs.mask, inputs.resets))


# Functions that return a cell and its run in the terms of the backends.
CELLS: dict[str, Callable[[Inputs], tuple[Any, RunInputs]]] = {"lstm": _lstm, "gru": _gru}
