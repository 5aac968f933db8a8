"""Run the mLSTM over all steps at once, as attention with weights that decay: no loop, and O(time²) memory.

Reference: Beck et al., 2024, "xLSTM: extended long short-term memory", https://arxiv.org/abs/2405.04517.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jlstm.backends.contract import RunInputs, RunOptions
from jlstm.cell import Cell
from jlstm.cells.mlstm import MLSTMCarry


def run(cell: Cell, inputs: RunInputs, options: RunOptions) -> tuple[MLSTMCarry, Array]:
    """Return the last carry and the outputs.

    With F_t the sum of log f up to step t, the recurrence of C unrolls to

        C_t = exp(F_t) C_0 + Σ_{s ≤ t} exp(F_t - F_s + log i_s) v_s k_sᵀ

    so that C_t q_t is attention over the steps s, plus what remains of C_0. Their maximum over s, m_t, is subtracted from the
    exponents, as in the cell. These are equations 62 to 76 of the paper, with an initial carry, a mask and resets added.
    """
    steps = cell.project(inputs.params, inputs.context, inputs.xs)
    steps = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), steps) if options.reverse else steps
    mask, resets = (leaf if leaf is None or not options.reverse else jnp.flip(leaf, 0) for leaf in (inputs.mask, inputs.resets))
    q, k, v, log_f, log_i, o = steps
    wide = np.promote_types(q.dtype, "float32")  # sums of logarithms grow with time
    log_f, log_i = log_f.astype(wide), log_i.astype(wide)
    if mask is not None:  # a step that does not count forgets nothing, log 1, and adds nothing, log 0
        log_f = jnp.where(mask[..., None], log_f, 0)
        log_i = jnp.where(mask[..., None], log_i, -jnp.inf)

    # Which steps a step reads, and how much of the carry at the start remains at each step.
    time = log_f.shape[0]
    log_decay = jnp.cumsum(log_f, axis=0)  # F_t
    reads = jnp.tril(jnp.ones((time, time), bool)).reshape(time, time, *(1,) * (log_f.ndim - 1))  # (t, s): step t reads step s
    log_decay_of_start = log_decay  # log of the share of the carry at the start that remains at each step
    m0, matrix0, n0 = (
        jnp.broadcast_to(leaf[None], (time, *leaf.shape))
        for leaf in (inputs.carry.m.astype(wide), inputs.carry.C, inputs.carry.n)
    )
    if resets is not None:
        counted = resets if mask is None else resets & mask
        segment = jnp.cumsum(counted, axis=0)[..., None]  # a step reads only what was written after the same reset
        reads = reads & (segment[:, None] == segment[None])
        # the step of the last reset, -1 before the first one
        reset = lax.cummax(jnp.where(counted, jnp.expand_dims(jnp.arange(time), range(1, counted.ndim)), -1), axis=0)[..., None]
        # The reset step itself forgets a share of the initial carry, so the sum starts before it: F at the step minus its log f.
        log_decay_before_reset = jnp.take_along_axis(log_decay - log_f, jnp.maximum(reset, 0), axis=0)
        was_reset = reset >= 0
        log_decay_of_start = jnp.where(was_reset, log_decay - log_decay_before_reset, log_decay)
        m0 = jnp.where(was_reset, inputs.initial.m[None].astype(wide), m0)
        matrix0 = jnp.where(was_reset[..., None, None], inputs.initial.C[None], matrix0)
        n0 = jnp.where(was_reset[..., None], inputs.initial.n[None], n0)

    # log of the weight of what step s wrote at step t: (time read, time written, *batch, heads)
    log_weights = jnp.where(reads, log_decay[:, None] - log_decay[None] + log_i[None], -jnp.inf)
    # The largest exponent at each step, as m' in the cell: no weight is then above 1.
    m = jnp.maximum(log_weights.max(axis=1), log_decay_of_start + m0)
    weights = jnp.exp(log_weights - m[:, None]).astype(q.dtype)
    start_weight = jnp.exp(log_decay_of_start + m0 - m).astype(q.dtype)

    # The outputs, o C q / max(|n q|, exp(-m)), with the sums over s as matrix products.
    scores = weights * jnp.einsum("t...k,s...k->ts...", q, k)
    numerator = jnp.einsum("ts...,s...v->t...v", scores, v) + start_weight[..., None] * jnp.einsum("...vk,...k->...v", matrix0, q)
    denominator = scores.sum(axis=1) + start_weight * jnp.einsum("...k,...k->...", n0, q)
    # max(|n q|, exp(-m)) with both sides times exp(min(m, 0)), as in the cell: exp(-m) alone could overflow
    scale, bound = (jnp.exp(log).astype(q.dtype) for log in (jnp.minimum(m, 0), -jnp.maximum(m, 0)))
    ys = o * (numerator * (scale / jnp.maximum(jnp.abs(denominator) * scale, bound))[..., None]).reshape(o.shape)

    # The last row of the weights is what remains of each step in the carry after the last one.
    matrix = jnp.einsum("s...,s...v,s...k->...vk", weights[-1], v, k) + start_weight[-1][..., None, None] * matrix0[-1]
    n = jnp.einsum("s...,s...k->...k", weights[-1], k) + start_weight[-1][..., None] * n0[-1]
    ys = ys if mask is None else jnp.where(mask[..., None], ys, 0)
    return MLSTMCarry(matrix, n, m[-1].astype(q.dtype)), jnp.flip(ys, 0) if options.reverse else ys
