"""The one loop over time: projection hoisted out, padding selected away, memory traded for time where asked."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jlstm import backends, checks
from jlstm.backends.scan import Recurrence, Way, scan, select
from jlstm.cell import Cell, Params, PyTree


class Steps(NamedTuple):
    """The time steps of a sequence: inputs, and which of them count and start anew (None: all, none)."""

    xs: Any  # (time, *batch, features), or Noisy
    mask: Bool[Array, "time *batch"] | None = None
    resets: Bool[Array, "time *batch"] | None = None


class Results(NamedTuple):
    """What a run returns: the last carry, all outputs, and all carries where they were asked for."""

    carry: PyTree
    ys: Array
    states: PyTree = None


class Options(NamedTuple):
    """How to run: see `jlstm.RNN`."""

    reverse: bool
    unroll: int | str
    remat: int | str
    backend: str


def lengths_to_mask(lengths: Int[Array, "*batch"], time: int) -> Bool[Array, "*batch time"]:
    """Return which steps count where each sequence has so many, from its first: the mask that `lengths` stand for in `apply`.

    Args:
        lengths: whole numbers from 0 to `time`. Traced ones, which cannot be checked, are clipped to what there is.
        time: number of steps.

    Raises:
        TypeError: lengths that are not whole numbers.
        ValueError: concrete lengths that are out of range, or a `time` below 0.

    Examples:
        >>> import jax, jlstm
        >>> jlstm.lengths_to_mask(jax.numpy.array([3, 0, 1]), time=3).tolist()
        [[True, True, True], [False, False, False], [True, False, False]]
    """
    if not isinstance(time, int) or isinstance(time, bool) or time < 0:
        raise ValueError(f"time must be the number of steps, a whole number of at least 0, got {checks.brief(time)}")
    lengths = checks.lengths(lengths, jnp.shape(lengths), time)
    return jnp.expand_dims(jnp.arange(time), range(lengths.ndim)) < jnp.expand_dims(lengths, -1)


def recur(
    cell: Cell, params: Params, steps: Steps, carry: PyTree, initial: PyTree, context: PyTree, options: Options, states: bool
) -> Results:
    """Run a cell over time-major steps, from `carry`; `initial` is what `resets` puts back."""
    way = Way(options.reverse, options.unroll, after if states else None)

    def run(carry: PyTree, steps: Steps) -> tuple[PyTree, PyTree]:
        xs = steps.xs
        if steps.mask is not None:  # before the projection: 0 · NaN would be NaN in the weight gradient
            xs = select(steps.mask, xs, jax.tree.map(jnp.zeros_like, xs))
        start = Recurrence(params, context, initial, carry, xs, steps.mask, steps.resets)
        return backends.run(options.backend, cell, start, way)

    if options.remat is not False:
        run = in_chunks(run, options.remat, options.reverse, len(cell.spatial_in) + 1)
    carry, (ys, all_states) = run(carry, steps)
    return Results(carry, ys, all_states)


def after(before: PyTree, z: PyTree, after: PyTree) -> PyTree:  # noqa: ARG001
    """Keep the carry after each step."""
    return after


def in_chunks(run: Callable, size: int | str, reverse: bool, behind: int) -> Callable:
    """Run chunk by chunk, and keep only the carries between chunks for the backward pass, which runs each chunk anew.

    With chunks of √T steps that is O(√T) memory instead of O(T) for one more forward pass (Chen et al. 2016). `behind` is the
    number of axes that one step of one sequence has.
    """

    def chunked(carry: PyTree, steps: Steps) -> tuple[PyTree, PyTree]:
        time, *batch = jax.tree.leaves(steps.xs)[0].shape[:-behind]
        if not isinstance(time, int):
            raise ValueError("remat cuts time into chunks and so needs a known number of steps, got a symbolic one: leave it out")
        length = max(1, math.isqrt(time)) if isinstance(size, str) else min(size, max(1, time))
        chunks, extra = -(-time // length), -time % length
        if extra:  # steps that do not count fill the last chunk
            mask = jnp.ones((time, *batch), bool) if steps.mask is None else steps.mask
            steps = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, extra)] + [(0, 0)] * (leaf.ndim - 1)), steps._replace(mask=mask))
        split = jax.tree.map(lambda leaf: leaf.reshape(chunks, length, *leaf.shape[1:]), steps)
        carry, out = scan(jax.checkpoint(run, prevent_cse=False), carry, split, Way(reverse))
        return carry, jax.tree.map(lambda leaf: leaf.reshape(chunks * length, *leaf.shape[2:])[:time], out)

    return chunked
