"""The operands and results of the primitives, as flat sequences of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlstm.cell import Params, PyTree
from jlstm.cells.base import RecurrentCell

# The batch axis of each operand or result; None if it has none
Axes = tuple[int | None, ...]


class Inputs(NamedTuple):
    """The operands of a run. `mask` and `resets` have the shape (0, 0) if the call has none.

    Primitives take a fixed number of arrays, so that an absent one cannot be None.
    """

    xs: Float[Array, "time batch features"]
    params: Params
    carry: PyTree  # a NamedTuple of arrays (batch, size)
    mask: Bool[Array, "time batch"]
    resets: Bool[Array, "time batch"]

    @property
    def differentiable(self) -> tuple[Any, ...]:
        """All operands but the boolean ones."""
        return self[:3]

    @property
    def stores_h(self) -> bool:
        """Whether h before a step may differ from the previous output, so that the derivative needs it as a separate array.

        With a mask or resets it differs: a masked step outputs zero and keeps h, and a reset replaces h.
        """
        return bool(self.mask.size or self.resets.size)


def default_precision() -> str | None:
    """Return `jax_default_matmul_precision` in this thread."""
    config: Any = jax.config
    return config.jax_default_matmul_precision


class Outputs(NamedTuple):
    """The results of a run: the outputs of all steps, and the last carry."""

    ys: Float[Array, "time batch units"]
    carry: PyTree


class Run(NamedTuple):
    """What is constant in a compiled run, and how its operands are told apart in a flat sequence.

    Attributes:
        cell: the cell.
        names: the names of its parameters.
        reverse: whether the run goes from the last step to the first.
        precision: `jax_default_matmul_precision` where the run was called. JAX lowers the primitives later, and XLA may divide
            them among devices in another thread, where the setting is another one.
    """

    cell: RecurrentCell
    names: tuple[str, ...]
    reverse: bool
    precision: str | None

    def inputs(self, operands: Any) -> Inputs:
        """Return the operands of a run from a flat sequence. Others may follow, and are left out."""
        first_carry = 1 + len(self.names)
        carry = self._carry(operands[first_carry:])
        first_flag = first_carry + len(carry)
        params = dict(zip(self.names, operands[1:first_carry], strict=True))
        return Inputs(operands[0], params, carry, *operands[first_flag : first_flag + 2])

    def outputs(self, results: Any) -> Outputs:
        """Return the results of a run from a flat sequence. Residuals may follow, and are left out."""
        return Outputs(results[0], self._carry(results[1:]))

    def flat(self, tree: Any) -> list[Any]:
        """Return `Inputs`, `Outputs` or a part of them as a flat sequence."""
        return jax.tree.leaves(tree)

    def _carry(self, leaves: Any) -> Any:
        kind = self.cell.carry_type
        return kind(*leaves[: len(kind._fields)])

    @property
    def tangent_axes(self) -> Axes:
        """The batch axis of each leaf of `Inputs.differentiable`; None for parameters, which have none."""
        return (1, *(None,) * len(self.names), *self.output_axes[1:])

    @property
    def input_axes(self) -> Axes:
        """The batch axis of each leaf of `Inputs`; None for parameters, which have none."""
        return (*self.tangent_axes, 1, 1)

    @property
    def output_axes(self) -> Axes:
        """The batch axis of each leaf of `Outputs`."""
        return (1, *(0,) * len(self.cell.carry_type._fields))

    @property
    def residual_axes(self) -> Axes:
        """The batch axis of each residual, see `residual_shapes`."""
        return (1, 1, 1)


def h_and_c(carry: Any) -> tuple[Array, Array]:
    """Return the arrays of a carry. A GRU has no c: it is an array without elements."""
    return carry.h, getattr(carry, "c", carry.h[:, :0])


def varying_axes(leaf: Array) -> frozenset[str]:
    """Return the axes of a mesh over which an array varies in `shard_map`."""
    return jax.typeof(leaf).manual_axis_type.varying


def vary_over(leaf: Array, axes: frozenset[str]) -> Array:
    """Cast an array to vary over some axes of a mesh too. The transpose is a sum over the axes that were added."""
    missing = tuple(sorted(axes - varying_axes(leaf)))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf


def residual_shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    """Return the shapes of the residuals, the values of a run that its derivative by a native kernel needs.

    They are the gates (time, batch, 4 · padded units), c before each step (time, batch, padded units), and h before each step
    (time, batch, size of h). For a cell without c that has no elements. If not `Inputs.stores_h`, h has the shape (0, 0, 0).

    The number of units is rounded up to a multiple of 64 bytes. In which order the columns of gates lie is the kernel's own. The
    columns that are added, and steps that do not count, have values without meaning. For a GRU the gates are z, r, g and b, see
    `columns`.
    """
    time, batch, _ = inputs.xs.shape
    h_size, units = inputs.carry.h.shape[-1], inputs.carry[-1].shape[-1]  # that of c, if there is c
    padded = padded_units(units, inputs.xs.dtype)
    hs = (time, batch, h_size) if inputs.stores_h else (0, 0, 0)
    return [(time, batch, 4 * padded), (time, batch, padded if hasattr(inputs.carry, "c") else 0), hs]


def padded_units(units: int, dtype: Any) -> int:
    """Return the number of units rounded up to a multiple of 64 bytes, whatever registers a kernel has."""
    lanes = 64 // jnp.dtype(dtype).itemsize  # kUnits in cpu/src/product.h
    return -(-units // lanes) * lanes
