"""The run of one cell over a sequence, laid open: what every step began with and what it ended with."""

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
    """A run, time first, steps in the order in which they are run; of a cell around another one, that of the inner cell."""

    cell: Cell
    params: Params  # in the compute dtype
    context: PyTree
    zs: PyTree
    before: PyTree  # the carries that the steps began with
    after: PyTree  # the carries that they ended with, zero where a step does not count
    counts: Bool[Array, "time *batch"]  # which steps do
    resets: Bool[Array, "time *batch"] | None
    finish: Callable[[Array], Array]  # what the outer cells make of the outputs

    def step(self, before: PyTree, z: PyTree) -> tuple[PyTree, Array]:
        """One step of the cell."""
        return self.cell.step(self.params, self.context, before, z)

    def gates(self) -> Any:
        """What the gates let through at every step; None if there are none."""
        return jax.vmap(lambda before, z: self.cell.gates(self.params, self.context, before, z))(self.before, self.zs)


def run(layer: RNN, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any) -> Run:
    """Run a layer of one cell without dropout, with the arguments of `Layer.apply`; it raises the same errors."""
    _, states = cell_states(layer, params, xs, carry, lengths=lengths, mask=mask, resets=resets)
    batch_axes = jnp.ndim(xs) - 2 - len(layer.spatial_in)
    after = in_order(layer, states, batch_axes)
    dtype = jax.tree.leaves(after)[0].dtype
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
    before = _shifted(start, after, counts)
    if resets is not None:
        resets = in_order(layer, resets, batch_axes)
        before = select(resets, jax.tree.map(lambda leaf: leaf[None], initial), before)
    cell, inner, finish = reduce(layer.cell, Recurrence(params, context, initial, start, xs, counts, resets))
    zs = cell.project(inner.params, inner.context, inner.xs)
    return Run(cell, inner.params, inner.context, zs, before, after, counts, resets, finish)


def in_order(layer: RNN, tree: PyTree, batch_axes: int) -> PyTree:
    """Put time, which users hold first or after the batch axes, first, and in the order in which the layer runs."""

    def leaf(a: Any) -> Array:
        first = jnp.asarray(a) if layer.time_major else jnp.moveaxis(jnp.asarray(a), batch_axes, 0)
        return jnp.flip(first, 0) if layer.reverse else first

    return jax.tree.map(leaf, tree)


def as_given(layer: RNN, tree: PyTree, batch_axes: int) -> PyTree:
    """Put time back where the layer's users have it."""

    def leaf(a: Array) -> Array:
        turned = jnp.flip(a, 0) if layer.reverse else a
        return turned if layer.time_major else jnp.moveaxis(turned, 0, batch_axes)

    return jax.tree.map(leaf, tree)


def _shifted(start: PyTree, after: PyTree, counts: Array) -> PyTree:
    """The carry before each step: that after the latest step that counts, or the start."""
    history = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, after)
    steps = jnp.expand_dims(jnp.arange(1, len(counts) + 1), range(1, counts.ndim))
    latest = lax.cummax(jnp.where(counts, steps, 0), axis=0)
    latest = jnp.concatenate([jnp.zeros_like(latest[:1]), latest[:-1]])
    return jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, jnp.expand_dims(latest, range(latest.ndim, leaf.ndim)), axis=0), history
    )
