"""What the native kernels compute, written in JAX: used for second derivatives and on other platforms."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends import fused, scan
from jlstm.backends.cpu.operands import Inputs, Kept, Outputs, pack, unpack
from jlstm.backends.scan import Recurrence, Way, select
from jlstm.cells.lstm import LSTMCell
from jlstm.cells.tuples import LSTMCarry, LSTMGates


def forward(inputs: Inputs, *, keep: bool, reverse: bool) -> tuple[Array, ...]:
    """Return the fields of `Outputs` and, with `keep`, those of `Kept`."""
    cell = LSTMCell(inputs.units)
    start = _start(inputs)

    def kept(before: LSTMCarry, z: LSTMGates, _: LSTMCarry) -> tuple[LSTMCarry, LSTMGates]:
        return before, cell.gates(start.params, {}, before, z)

    carry, (ys, out) = scan.run(cell, start, Way(reverse, keep=kept if keep else None))
    outputs = Outputs(ys, *carry)
    if not keep:
        return tuple(outputs)
    before, gates = out
    return *outputs, *Kept(pack(gates), pack((before.c,)), before.h if inputs.carried else ys[:0, :0, :0])


def tangent(inputs: Inputs, ys: Array, kept: Kept, change: Sequence[Array], *, reverse: bool) -> Outputs:
    """Return the tangents of the outputs, which are linear in `change`, the tangents of `inputs.differentiable`."""
    dxs, dkernel, drecurrent, dbias, dh, dc = change
    hs, start = h_before(inputs, ys, kept, reverse=reverse), _start(inputs)
    if start.mask is not None:  # the carry before a masked step may not be finite, and 0 · inf is NaN
        hs = select(start.mask, hs, jnp.zeros_like(hs))
    i, f, g, o = unpack(kept.gates, 4, inputs.units)
    (c,) = unpack(kept.cs, 1, inputs.units)
    residuals = fused.Residuals(LSTMCarry(hs, c), LSTMGates(i, f, g, o), jnp.tanh(f * c + i * g))
    dzs = dxs @ inputs.kernel + inputs.xs @ dkernel + dbias[None, None] + hs @ drecurrent
    start_tangent = start._replace(carry=LSTMCarry(dh, dc))  # its zero `initial` is constant, so the tangent is zero too
    carry, (dys, _) = fused.tangent(Way(reverse), start, residuals, start_tangent, dzs)
    return Outputs(dys, *carry)


def transposed(inputs: Inputs, ys: Array, kept: Kept, change: Outputs, *, reverse: bool) -> tuple[Array, ...]:
    """Return the gradients of `inputs.differentiable`: the transpose of `tangent`, applied to `change`."""

    def of(*change: Array) -> Outputs:
        return tangent(inputs, ys, kept, change, reverse=reverse)

    return jax.linear_transpose(of, *inputs.differentiable)(change)


def h_before(inputs: Inputs, ys: Array, kept: Kept, *, reverse: bool) -> Array:
    """Return h before each step."""
    if inputs.carried:
        return kept.hs
    first = inputs.h[None]
    return jnp.concatenate([ys, first])[1:] if reverse else jnp.concatenate([first, ys])[:-1]


def _start(inputs: Inputs) -> Recurrence:
    params = {"kernel": inputs.kernel, "recurrent_kernel": inputs.recurrent_kernel, "bias": inputs.bias}
    zeros = jnp.zeros_like(inputs.h)
    mask, resets = (steps if steps.size else None for steps in (inputs.mask, inputs.resets))
    return Recurrence(params, {}, LSTMCarry(zeros, zeros), LSTMCarry(inputs.h, inputs.c), inputs.xs, mask, resets)
