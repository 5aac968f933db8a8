"""The recurrence as a plain `lax.scan`: always there, on every platform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from jlstm.cell import Cell, Params, PyTree


class Recurrence(NamedTuple):
    """What one run over time starts from, besides the cell."""

    params: Params
    context: PyTree
    initial: PyTree  # the cell's own carry, put back by `resets`
    carry: PyTree
    xs: Any  # (time, *batch, features), or Noisy
    mask: Bool[Array, "time *batch"] | None
    resets: Bool[Array, "time *batch"] | None


class Way(NamedTuple):
    """How to run, and what to keep of each step besides its output: nothing, or what `keep(before, z, after)` returns."""

    reverse: bool = False
    unroll: int | str = 1
    keep: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """Return the last carry, and of every step the output and what is to be kept.

    A step that `mask` leaves out does not count: the carry stays as it is, whatever `resets` says, and what it yields is zero.
    """
    return loop(cell, start, cell.project(start.params, start.context, start.xs), way)


def obstacle(cell: Cell, start: Recurrence, way: Way) -> str:
    """Nothing: this can serve every call."""
    return ""


def drawback(start: Recurrence) -> str:
    """Nothing: there is no other after it."""
    return ""


def loop(cell: Cell, start: Recurrence, zs: PyTree, way: Way) -> tuple[PyTree, tuple[Array, PyTree]]:
    """The same from inputs that are projected already; `start.xs` is not read."""

    def step(carry: PyTree, inputs: tuple[PyTree, Array | None, Array | None]) -> tuple[PyTree, tuple[Array, PyTree]]:
        z, counts, reset = inputs
        before = carry if reset is None else select(reset, start.initial, carry)
        if counts is not None:  # from a large carry such a step might overflow, and 0 · inf is NaN in the gradient
            before = select(counts, before, start.initial)
        after, y = cell.step(start.params, start.context, before, z)
        out = (y, way.keep(before, z, after) if way.keep else None)
        if counts is None:
            return after, out
        return select(counts, after, carry), select(counts, out, jax.tree.map(jnp.zeros_like, out))

    return scan(step, start.carry, (zs, start.mask, start.resets), way)


def select(where: Bool[Array, "*batch"], yes: PyTree, no: PyTree) -> PyTree:
    """`jnp.where` over two trees, with a condition on the leading axes."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(lax.expand_dims(where, range(where.ndim, a.ndim)), a, b)

    return jax.tree.map(leaf, yes, no)


def scan(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree, steps: PyTree, way: Way
) -> tuple[PyTree, PyTree]:
    """`lax.scan` that first gives the carry the type it has after a step.

    On an explicit mesh and inside `shard_map` an array's type tells how it is spread over devices. Zeros made from a shape
    are spread over none, the carry after a step is spread like the inputs, and `lax.scan` demands that both are the same.
    """
    if not all(jax.typeof(leaf).sharding.mesh.empty for leaf in jax.tree.leaves((carry, steps))):
        result, _ = jax.eval_shape(lambda: step(carry, jax.tree.map(_first, steps)))
        carry = jax.tree.map(lambda leaf, like: leaf + lax.full_like(like, 0), carry, result)
    unroll = way.unroll if isinstance(way.unroll, int) else True
    return lax.scan(step, carry, steps, reverse=way.reverse, unroll=unroll)


def _first(leaf: Array) -> Array:
    return lax.index_in_dim(leaf, 0, keepdims=False)
