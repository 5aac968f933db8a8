"""Equinox: `eqx.nn.LSTMCell` or `GRUCell` in `lax.scan`, as in its documentation, and `vmap` over the batch. One bias.

It has nothing for ragged batches.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence
from benchmarks.speed.points import Point


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs. The modules hold their parameters; `eqx.partition` passes only arrays to `jax.jit`."""
    if point.form in ("matrix", "ragged"):
        return {}
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(point.layers)))
    kind = eqx.nn.GRUCell if point.cell == "gru" else eqx.nn.LSTMCell
    layers = [[kind(f, units, key=next(keys)) for _ in range(directions)] for f, units, directions in point.layers]
    params, static = eqx.partition(layers, eqx.is_array)
    if point.form == "step":
        state = tuple(jnp.zeros((point.batch, point.units[0])) for _ in range(2))

        def step(params: Any, x: jax.Array, state: Any) -> Any:
            return jax.vmap(eqx.combine(params, static)[0][0])(x, state)

        return {"step": blocking_call(step, params, point.inputs()[0], state)}

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        for cells in eqx.combine(params, static):
            ys = [jax.vmap(lambda xs, k=k, cell=cell: _run(cell, xs, reverse=k == 1), 1, 1)(xs) for k, cell in enumerate(cells)]
            xs = jnp.concatenate(ys, axis=-1)
        return xs

    return sequence(outputs, params, point)


def _run(cell: Any, xs: jax.Array, *, reverse: bool) -> jax.Array:
    def step(state: Any, x: jax.Array) -> Any:
        state = cell(x, state)
        return state, state[0] if isinstance(state, tuple) else state

    start: Any = jnp.zeros(cell.hidden_size)
    start = (start, start) if isinstance(cell, eqx.nn.LSTMCell) else start
    return lax.scan(step, start, xs, reverse=reverse)[1]
