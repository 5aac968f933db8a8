"""Run a cell over time: choose the backend, keep padding out of the gradients, and rematerialize in chunks on request."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jlstm import backends
from jlstm._src import checks
from jlstm._src.arrays import select
from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.backends.scan import scan
from jlstm.cell import Cell, PyTree


class Steps(NamedTuple):
    """The inputs of all time steps, with time as their first axis, whatever the layer's `time_major` is.

    Attributes:
        xs: inputs (time, *batch, features), or `MaskedInputs`.
        mask: True at each step that counts; the others are padding. None means that all count.
        resets: True at each step before which the carry becomes the initial carry again. None means that none does.
    """

    xs: Any
    mask: Bool[Array, " time *batch"] | None = None
    resets: Bool[Array, " time *batch"] | None = None


class Results(NamedTuple):
    """The results of a run over all time steps. Time is the first axis of `ys` and `states`.

    Attributes:
        carry: the last carry.
        ys: the outputs of all steps.
        states: the carries after all steps, a tree like the carry. Without arrays if the caller did not ask for them.
    """

    carry: PyTree
    ys: Array
    states: PyTree = None


def lengths_to_mask(lengths: Int[Array, "*batch"], time: int) -> Bool[Array, "*batch time"]:
    """Return a mask that is True at the first `lengths` steps of each sequence; `apply` makes the same mask from `lengths`.

    Args:
        lengths: integers from 0 to `time`. Traced lengths cannot be checked; they are clipped to this range.
        time: number of steps.

    Returns:
        A boolean mask (*batch, time).

    Raises:
        TypeError: `lengths` are not integers.
        ValueError: concrete lengths are out of range, or `time` is not a whole number of at least 0.

    Examples:
        >>> import jax, jlstm
        >>> jlstm.lengths_to_mask(jax.numpy.array([3, 0, 1]), time=3).tolist()
        [[True, True, True], [False, False, False], [True, False, False]]
    """
    if not isinstance(time, int) or isinstance(time, bool) or time < 0:
        raise ValueError(f"time must be the number of steps, a whole number of at least 0, got {checks.brief(time)}")
    checks.whole("time", time)
    lengths = checks.lengths(lengths, jnp.shape(lengths), time)
    return jnp.expand_dims(jnp.arange(time), range(lengths.ndim)) < jnp.expand_dims(lengths, -1)


def recur(cell: Cell, inputs: RunInputs, options: RunOptions) -> Results:
    """Run a cell over time-major inputs by the backend that the options ask for, in chunks if they ask for `remat`.

    Returns:
        The results. `states` is what `options.keep` returned at each step.

    Raises:
        ValueError: `remat` is on, and the number of steps is symbolic.
    """

    def run(carry: PyTree, steps: Steps) -> tuple[PyTree, tuple[Array, PyTree]]:
        return backends.run(cell, without_padding(inputs._replace(carry=carry, **steps._asdict())), options)

    if options.remat is not False:
        run = in_chunks(run, options.remat, options.reverse, len(cell.spatial_in) + 1)
    carry, (ys, states) = run(inputs.carry, Steps(inputs.xs, inputs.mask, inputs.resets))
    return Results(carry, ys, states)


def without_padding(inputs: RunInputs) -> RunInputs:
    """Return the inputs with zeros at the steps that do not count.

    They are zeroed before the projection. Masking its result would not do: padding may hold NaN, and the gradient of the kernel,
    xᵀ dz, would contain NaN · 0 = NaN.
    """
    if inputs.mask is None:
        return inputs
    return inputs._replace(xs=select(inputs.mask, inputs.xs, jax.tree.map(jnp.zeros_like, inputs.xs)))


def keep_carry(_carry: PyTree, _z: PyTree, new_carry: PyTree) -> PyTree:
    """Return the carry after a step. This is a `keep` function for `RunOptions`."""
    return new_carry


def in_chunks(run: Callable, size: int | str, reverse: bool, step_ndim: int) -> Callable:
    """Return a function that runs `run` chunk by chunk and keeps only the carries between chunks for the backward pass.

    The backward pass runs each chunk again. Chunks of √T steps take O(√T) memory instead of O(T), for one more forward pass.

    Args:
        run: maps a carry and steps to the last carry and the outputs.
        size: steps of a chunk; "sqrt" takes √T.
        reverse: whether to run the chunks from the last to the first.
        step_ndim: number of axes that one step of one sequence has: its features and, before them, its spatial axes.

    Reference: Chen et al., 2016, "Training deep nets with sublinear memory cost", https://arxiv.org/abs/1604.06174.
    """

    def chunked(carry: PyTree, steps: Steps) -> tuple[PyTree, PyTree]:
        time, *batch = jax.tree.leaves(steps.xs)[0].shape[:-step_ndim]
        if not isinstance(time, int):
            raise ValueError("remat cuts time into chunks and so needs a known number of steps, got a symbolic one: leave it out")
        # √T steps: both the carries between chunks and the values kept within one are then O(√T).
        length = max(1, math.isqrt(time)) if isinstance(size, str) else min(size, max(1, time))
        chunks, extra = -(-time // length), -time % length
        # `lax.scan` needs chunks of equal length, so masked steps fill up the last one: they change neither the carry nor
        # gradients. They stand at the end of time. With `reverse` they thus run first, and the carry passes through them.
        if extra:
            mask = jnp.ones((time, *batch), bool) if steps.mask is None else steps.mask
            steps = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, extra)] + [(0, 0)] * (leaf.ndim - 1)), steps._replace(mask=mask))
        split = jax.tree.map(lambda leaf: leaf.reshape(chunks, length, *leaf.shape[1:]), steps)
        # prevent_cse=False: the barriers against common subexpressions are only needed outside of a scan, and cost time in it.
        carry, out = scan(jax.checkpoint(run, prevent_cse=False), carry, split, RunOptions(reverse))
        return carry, jax.tree.map(lambda leaf: leaf.reshape(chunks * length, *leaf.shape[2:])[:time], out)

    return chunked
