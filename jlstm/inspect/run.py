"""The run of one cell over a sequence, laid open: what every step began with and what it ended with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from jlstm.backends.scan import select
from jlstm.cell import Cell, Params, PyTree
from jlstm.layers import RNN, cell_states
from jlstm.loop import lengths_to_mask


class Run(NamedTuple):
    """A run, time first, steps in the order in which they are run."""

    params: Params  # in the compute dtype
    context: PyTree
    zs: PyTree
    before: PyTree  # the carries that the steps began with
    after: PyTree  # the carries that they ended with, zero where a step does not count
    initial: PyTree
    mask: Bool[Array, "time *batch"] | None
    resets: Bool[Array, "time *batch"] | None

    def gates(self, cell: Cell) -> Any:
        """What the cell's gates let through at every step; None if it has none."""
        return jax.vmap(lambda before, z: cell.gates(self.params, self.context, before, z))(self.before, self.zs)


def run(layer: RNN, params: Params, xs: Any, carry: PyTree, lengths: Any, mask: Any, resets: Any) -> Run:
    """Run a layer of one cell without dropout, with the arguments of `Layer.apply`; it raises the same errors."""
    _, states = cell_states(layer, params, xs, carry, lengths=lengths, mask=mask, resets=resets)
    after = in_order(layer, states)
    dtype = jax.tree.leaves(after)[0].dtype
    params, xs = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, in_order(layer, xs)))
    batch_shape = xs.shape[1 : -_behind(layer)]
    initial, context = layer.cell.begin(params, batch_shape, dtype)
    if lengths is not None:
        mask = jnp.moveaxis(lengths_to_mask(lengths, xs.shape[0]), -1, 0)
        mask = jnp.flip(mask, 0) if layer.reverse else mask
    elif mask is not None:
        mask = in_order(layer, mask, behind=0)
    if mask is not None:
        xs = select(mask, xs, jnp.zeros_like(xs))
    start = initial if carry is None else jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), carry)
    before = _shifted(start, after, mask)
    if resets is not None:
        resets = in_order(layer, resets, behind=0)
        before = select(resets, jax.tree.map(lambda leaf: leaf[None], initial), before)
    return Run(params, context, layer.cell.project(params, context, xs), before, after, initial, mask, resets)


def in_order(layer: RNN, tree: PyTree, *, behind: int | None = None) -> PyTree:
    """Put time first, in the order in which the layer runs; `behind` tells how many axes follow it in what users hold."""
    behind = _behind(layer) if behind is None else behind

    def leaf(a: Any) -> Array:
        first = jnp.asarray(a) if layer.time_major else jnp.moveaxis(jnp.asarray(a), -1 - behind, 0)
        return jnp.flip(first, 0) if layer.reverse else first

    return jax.tree.map(leaf, tree)


def as_given(layer: RNN, tree: PyTree, *, behind: int | None = None) -> PyTree:
    """Put time back where the layer's users have it, before the `behind` axes of one step or first."""
    behind = _behind(layer) if behind is None else behind

    def leaf(a: Array) -> Array:
        turned = jnp.flip(a, 0) if layer.reverse else a
        return turned if layer.time_major else jnp.moveaxis(turned, 0, -1 - behind)

    return jax.tree.map(leaf, tree)


def _behind(layer: RNN) -> int:
    """How many axes one step of one sequence has."""
    return len(layer.spatial_in) + 1


def _shifted(start: PyTree, after: PyTree, mask: Array | None) -> PyTree:
    """The carry before each step: that after the latest step that counts, or the start."""
    history = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, after)
    if mask is None:
        return jax.tree.map(lambda leaf: leaf[:-1], history)
    steps = jnp.expand_dims(jnp.arange(1, len(mask) + 1), range(1, mask.ndim))
    latest = lax.cummax(jnp.where(mask, steps, 0), axis=0)
    latest = jnp.concatenate([jnp.zeros_like(latest[:1]), latest[:-1]])
    return jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, jnp.expand_dims(latest, range(latest.ndim, leaf.ndim)), axis=0), history
    )
