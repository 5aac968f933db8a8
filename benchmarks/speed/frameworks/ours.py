"""Our own LSTM and GRU, time-major, compiled by `jax.jit`. The variant is the backend."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence
from benchmarks.speed.points import Point
from jlstm import GRU, LSTM, Bidirectional, Stack


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs. All backends share `step`, so only the variant "auto" has it, beside a call that does nothing."""
    if point.form == "matrix":
        return {"product": blocking_call(lambda a, b: a @ b, *point.factors())} if setting.variant == "auto" else {}
    backend: Any = setting.variant
    make = GRU if point.cell == "gru" else LSTM
    layers = [make(units, time_major=True, backend=backend) for units in point.units]
    layer = Stack(tuple(Bidirectional(rnn) if point.form == "bidirectional" else rnn for rnn in layers))
    params = layer.init(jax.random.key(0), point.features)
    if point.form == "step":
        arguments = params, layer.initial_carry(params, (point.batch,)), point.inputs()[0]
        nothing = blocking_call(lambda _params, carry, x: (carry, x), *arguments)
        return {"step": blocking_call(layer.step, *arguments), "empty": nothing} if setting.variant == "auto" else {}
    lengths = jnp.asarray(point.lengths) if point.form == "ragged" else None
    return sequence(lambda params, xs: layer.apply(params, xs, lengths=lengths)[1], params, point)
