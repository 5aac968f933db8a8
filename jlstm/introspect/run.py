"""One cell run over a sequence, with the inputs and outputs of every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jlstm._src.loop import without_padding
from jlstm.backends import scan
from jlstm.backends.contract import RunOptions
from jlstm.backends.reduction import reduce
from jlstm.cell import Cell, Params, PyTree
from jlstm.layers import RNN
from jlstm.layers.shapes import checked_steps


class Trajectory(NamedTuple):
    """A run of a cell over a sequence. Time is the first axis, in the order in which steps are run.

    For a wrapped cell it is the run of the inner cell.
    """

    cell: Cell
    params: Params  # in the compute dtype
    context: PyTree
    zs: PyTree
    carry_before: PyTree  # the carry before each step, after a reset, zero if the step does not count
    carry_after: PyTree  # the carry after each step, zero if the step does not count
    counts: Bool[Array, " time *batch"]  # whether a step counts
    resets: Bool[Array, " time *batch"] | None
    finish: Callable[[Array], Array]  # applies the outer cells to the outputs

    def step(self, carry: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        """Run one step of the cell. Return the carry after it and the output."""
        return self.cell.step(self.params, self.context, carry, z)

    def gates(self) -> Any:
        """Return the gate activations at every step, or None for a cell without gates."""
        return jax.vmap(lambda before, z: self.cell.gates(self.params, self.context, before, z))(self.carry_before, self.zs)


def run(layer: RNN, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any) -> Trajectory:
    """Run an RNN without dropout and return the inputs and outputs of every step.

    The arguments and errors are the same as for `Layer.apply`.
    """
    steps = checked_steps(layer, params, xs, carry, lengths, mask, resets)
    outer_inputs = without_padding(layer.run_inputs(params, steps, carry))
    # The loop below runs forwards only, so the steps of a reversed layer are flipped first.
    if layer.reverse:
        flipped = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), (outer_inputs.xs, outer_inputs.mask, outer_inputs.resets))
        outer_inputs = outer_inputs._replace(**dict(zip(("xs", "mask", "resets"), flipped, strict=True)))
    cell, inputs, finish = reduce(layer.cell, outer_inputs)
    zs = cell.project(inputs.params, inputs.context, inputs.xs)
    _, (_, (before, after)) = scan.loop(cell, inputs, zs, RunOptions(keep=lambda before, _, after: (before, after)))
    batch_axes = jnp.ndim(xs) - 2 - len(layer.spatial_in)
    counts = jnp.ones(steps.xs.shape[: 1 + batch_axes], bool) if inputs.mask is None else inputs.mask
    return Trajectory(cell, inputs.params, inputs.context, zs, before, after, counts, inputs.resets, finish)


def in_input_order(layer: RNN, tree: PyTree, batch_axes: int) -> PyTree:
    """Put the time axis and the order of steps back as they are in the inputs of the layer."""

    def leaf(a: Array) -> Array:
        forward = jnp.flip(a, 0) if layer.reverse else a
        return forward if layer.time_major else jnp.moveaxis(forward, 0, batch_axes)

    return jax.tree.map(leaf, tree)
