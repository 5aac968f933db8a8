"""One cell run over a sequence, with the inputs and outputs of every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from jlstm.backends.reduction import reduce
from jlstm.backends.scan import Recurrence, select
from jlstm.cell import Cell, Params, PyTree
from jlstm.layers import RNN, cell_states
from jlstm.loop import lengths_to_mask


class Run(NamedTuple):
    """A run of a cell, for a wrapped cell that of the inner cell. Time is the first axis, in the order in which steps are run."""

    cell: Cell
    params: Params  # in the compute dtype
    context: PyTree
    zs: PyTree
    before: PyTree  # the carry before each step
    after: PyTree  # the carry after each step, zero if the step does not count
    counts: Bool[Array, " time *batch"]  # whether a step counts
    resets: Bool[Array, " time *batch"] | None
    finish: Callable[[Array], Array]  # applies the outer cells to the outputs

    def step(self, before: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        """Run one step of the cell. Return the carry after it and the output."""
        return self.cell.step(self.params, self.context, before, z)

    def gates(self) -> Any:
        """Return the gate activations at every step, or None for a cell without gates."""
        return jax.vmap(lambda before, z: self.cell.gates(self.params, self.context, before, z))(self.before, self.zs)


def run(layer: RNN, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any) -> Run:
    """Run an RNN without dropout and return the inputs and outputs of every step.

    The arguments and errors are the same as for `Layer.apply`.
    """
    _, states = cell_states(layer, params, xs, carry, lengths=lengths, mask=mask, resets=resets)
    batch_axes = jnp.ndim(xs) - 2 - len(layer.spatial_in)
    carries = in_order(layer, states, batch_axes)
    dtype = jax.tree.leaves(carries)[0].dtype
    params, xs = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, in_order(layer, xs, batch_axes)))
    initial, context = layer.cell.begin(params, xs.shape[1 : 1 + batch_axes], dtype)
    counts = jnp.ones(xs.shape[: 1 + batch_axes], bool)
    if lengths is not None:
        counts = jnp.moveaxis(lengths_to_mask(lengths, len(xs)), -1, 0)
        counts = jnp.flip(counts, 0) if layer.reverse else counts
    elif mask is not None:
        counts = in_order(layer, mask, batch_axes)
    xs = select(counts, xs, jnp.zeros_like(xs))
    start = initial if carry is None else jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), carry)
    previous = _shifted(start, carries, counts)
    if resets is not None:
        resets = in_order(layer, resets, batch_axes)
        previous = select(resets, jax.tree.map(lambda leaf: leaf[None], initial), previous)
    cell, inner, finish = reduce(layer.cell, Recurrence(params, context, initial, start, xs, counts, resets))
    zs = cell.project(inner.params, inner.context, inner.xs)
    return Run(cell, inner.params, inner.context, zs, previous, carries, counts, resets, finish)


def in_order(layer: RNN, tree: PyTree, batch_axes: int) -> PyTree:
    """Move the time axis to the front, and reverse it if the layer runs backwards."""

    def leaf(a: Any) -> Array:
        time_first = jnp.asarray(a) if layer.time_major else jnp.moveaxis(jnp.asarray(a), batch_axes, 0)
        return jnp.flip(time_first, 0) if layer.reverse else time_first

    return jax.tree.map(leaf, tree)


def as_given(layer: RNN, tree: PyTree, batch_axes: int) -> PyTree:
    """Undo `in_order`: put the time axis and the order of steps back as in the inputs of the layer."""

    def leaf(a: Array) -> Array:
        forward = jnp.flip(a, 0) if layer.reverse else a
        return forward if layer.time_major else jnp.moveaxis(forward, 0, batch_axes)

    return jax.tree.map(leaf, tree)


def _shifted(start: PyTree, after: PyTree, counts: Array) -> PyTree:
    """Return the carry before each step: the carry after the latest counting step, or the start."""
    history = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, after)
    steps = jnp.expand_dims(jnp.arange(1, len(counts) + 1), range(1, counts.ndim))
    # `history` has the start at index 0, so the running maximum of counting step numbers is the index to take.
    latest = lax.cummax(jnp.where(counts, steps, 0), axis=0)
    latest = jnp.concatenate([jnp.zeros_like(latest[:1]), latest[:-1]])
    return jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, jnp.expand_dims(latest, range(latest.ndim, leaf.ndim)), axis=0), history
    )
