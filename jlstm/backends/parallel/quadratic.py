"""Run the mLSTM over all steps at once, as attention with weights that decay: no loop, and O(time²) memory.

Reference: Beck et al., 2024, "xLSTM: extended long short-term memory", https://arxiv.org/abs/2405.04517.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jlstm.backends.scan import Recurrence, Way
from jlstm.cell import Cell
from jlstm.cells.mlstm import MLSTMCarry


def run(cell: Cell, start: Recurrence, way: Way) -> tuple[MLSTMCarry, Array]:
    """Return the last carry and the outputs."""
    steps = cell.project(start.params, start.context, start.xs)
    steps = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), steps) if way.reverse else steps
    mask, resets = (leaf if leaf is None or not way.reverse else jnp.flip(leaf, 0) for leaf in (start.mask, start.resets))
    q, k, v, forget, enter, o = steps
    wide = np.promote_types(q.dtype, "float32")  # sums of logarithms grow with time
    forget, enter = forget.astype(wide), enter.astype(wide)
    if mask is not None:  # a step that does not count forgets nothing, log 1, and adds nothing, log 0
        forget = jnp.where(mask[..., None], forget, 0)
        enter = jnp.where(mask[..., None], enter, -jnp.inf)
    time = forget.shape[0]
    total = jnp.cumsum(forget, axis=0)
    later = jnp.tril(jnp.ones((time, time), bool)).reshape(time, time, *(1,) * (forget.ndim - 1))
    since = total  # log of the factor that the carry at the start has at each step
    m0, matrix0, n0 = (
        jnp.broadcast_to(leaf[None], (time, *leaf.shape)) for leaf in (start.carry.m.astype(wide), start.carry.C, start.carry.n)
    )
    if resets is not None:
        counted = resets if mask is None else resets & mask
        segment = jnp.cumsum(counted, axis=0)[..., None]  # a step reads only what was written after the same reset
        later = later & (segment[:, None] == segment[None])
        # the step of the last reset, -1 before the first one
        reset = lax.cummax(jnp.where(counted, jnp.expand_dims(jnp.arange(time), range(1, counted.ndim)), -1), axis=0)[..., None]
        total_before = jnp.take_along_axis(total - forget, jnp.maximum(reset, 0), axis=0)
        was_reset = reset >= 0
        since = jnp.where(was_reset, total - total_before, total)
        m0 = jnp.where(was_reset, start.initial.m[None].astype(wide), m0)
        matrix0 = jnp.where(was_reset[..., None, None], start.initial.C[None], matrix0)
        n0 = jnp.where(was_reset[..., None], start.initial.n[None], n0)
    logs = jnp.where(later, total[:, None] - total[None] + enter[None], -jnp.inf)  # (time read, time written, *batch, heads)
    m = jnp.maximum(logs.max(axis=1), since + m0)
    weights, rest = jnp.exp(logs - m[:, None]).astype(q.dtype), jnp.exp(since + m0 - m).astype(q.dtype)
    scores = weights * jnp.einsum("t...k,s...k->ts...", q, k)
    read = jnp.einsum("ts...,s...v->t...v", scores, v) + rest[..., None] * jnp.einsum("...vk,...k->...v", matrix0, q)
    norm = scores.sum(axis=1) + rest * jnp.einsum("...k,...k->...", n0, q)
    scale, bound = (jnp.exp(log).astype(q.dtype) for log in (jnp.minimum(m, 0), -jnp.maximum(m, 0)))  # as in the cell
    ys = o * (read * (scale / jnp.maximum(jnp.abs(norm) * scale, bound))[..., None]).reshape(o.shape)
    matrix = jnp.einsum("s...,s...v,s...k->...vk", weights[-1], v, k) + rest[-1][..., None, None] * matrix0[-1]
    n = jnp.einsum("s...,s...k->...k", weights[-1], k) + rest[-1][..., None] * n0[-1]
    ys = ys if mask is None else jnp.where(mask[..., None], ys, 0)
    return MLSTMCarry(matrix, n, m[-1].astype(q.dtype)), jnp.flip(ys, 0) if way.reverse else ys
