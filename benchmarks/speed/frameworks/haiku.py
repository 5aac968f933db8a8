"""Haiku: `hk.dynamic_unroll(hk.LSTM)`, time-major, transformed, under `jax.jit`. One bias.

It has no ragged batches, and its GRU resets before the matrix product.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence
from benchmarks.speed.points import Point


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs. Two directions are two unrolls whose outputs are concatenated."""
    if point.form in ("matrix", "ragged"):
        return {}
    key, xs = jax.random.key(0), point.inputs()
    if point.form == "step":
        cell = hk.without_apply_rng(hk.transform(lambda x, state: hk.LSTM(point.units[0])(x, state)))
        state = hk.LSTMState(*(jnp.zeros((point.batch, point.units[0])) for _ in range(2)))
        return {"step": blocking_call(cell.apply, cell.init(key, xs[0], state), xs[0], state)}

    def outputs(xs: jax.Array) -> jax.Array:
        for _, units, directions in point.layers:
            ys = []
            for reverse in (False, True)[:directions]:
                core = hk.LSTM(units)
                ys.append(hk.dynamic_unroll(core, xs, core.initial_state(point.batch), reverse=reverse)[0])
            xs = jnp.concatenate(ys, axis=-1)
        return xs

    model = hk.without_apply_rng(hk.transform(outputs))
    return sequence(model.apply, model.init(key, xs), point)
