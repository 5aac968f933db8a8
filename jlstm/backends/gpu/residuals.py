"""A run in JAX with the residuals that the kernel keeps, for sizes that it cannot run."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.native import reference
from jlstm.backends.native.operands import Inputs, Run, padded_units
from jlstm.cells.gru import GRUCell


def forward(run: Run, inputs: Inputs, *, keep: bool) -> list[Array]:
    """Return what `kernel.forward` does.

    The residuals are not zeros, as those of `reference.forward`, because the backward run may have a kernel, which reads them.
    XLA leaves them out if nothing does.
    """
    if not keep:
        return reference.forward(run, inputs, keep=False)
    cell: Any = run.cell

    def gates_and_carry(carry: Any, z: Any, _new_carry: Any) -> tuple[Any, Any]:
        gates = tuple(cell.gates(inputs.params, {}, carry, z))
        if isinstance(cell, GRUCell):
            gates = (*gates, cell.sums(inputs.params, {}, carry, z).h_g)
        return gates, carry

    outputs, (gates, carries) = reference.run_and_keep(run, inputs, gates_and_carry)
    hs = [carries.h] if inputs.stores_h else []
    cs = _fill_up(carries.c) if hasattr(carries, "c") else carries.h[:, :, :0]
    return [*outputs, jnp.concatenate(list(map(_fill_up, gates)), axis=-1), cs, *hs]


def _fill_up(values: Array) -> Array:
    """Add zeros to the last axis, up to `padded_units`."""
    units = values.shape[-1]
    return jnp.pad(values, [(0, 0), (0, 0), (0, padded_units(units, values.dtype) - units)])
