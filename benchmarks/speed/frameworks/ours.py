"""Our own LSTM and GRU, time-major, compiled by `jax.jit`. The variant is the backend. Errors are those against `scan`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence
from benchmarks.speed.points import Point
from jlstm import GRU, LSTM, RNN, Bidirectional, Layer, Stack


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs. All backends share `step`, so only the variant "auto" has it, beside a call that does nothing."""
    if point.form == "matrix":
        return {"product": blocking_call(lambda a, b: a @ b, *point.factors())} if setting.variant == "auto" else {}
    layer = _layer(point, backend=setting.variant)
    params = jax.tree.map(lambda leaf: leaf.astype(setting.dtype), layer.init(jax.random.key(0), point.features))
    if point.form == "step":
        arguments = layer.initial_carry(params, (point.batch,)), point.inputs()[0]
        nothing = blocking_call(lambda carry, x: (carry, x), *arguments)
        step = partial(layer.step, params)  # the program holds the weights, as a session of ONNX Runtime does
        return {"step": blocking_call(step, *arguments), "empty": nothing} if setting.variant == "auto" else {}
    lengths: Any = point.lengths if point.form == "ragged" else None
    exact_layer = _layer(point, backend="scan", unroll=1) if setting.variant == "auto" else None

    def outputs(layer: Layer) -> Callable[[Any, jax.Array], jax.Array]:
        return lambda params, xs: layer.apply(params, xs, lengths=lengths)[1]

    return sequence(outputs(layer), params, point, dtype=setting.dtype, exact=exact_layer and outputs(exact_layer))


def _layer(point: Point, **options: Any) -> Layer:
    def layer(units: int) -> RNN:
        if point.cell == "gru":
            return GRU(units, time_major=True, **options)
        projection = point.hidden(units) if point.cell == "projection" else None
        return LSTM(units, peephole=point.cell == "peephole", projection=projection, time_major=True, **options)

    layers = [layer(units) for units in point.units]
    return Stack(tuple(Bidirectional(rnn) if point.form == "bidirectional" else rnn for rnn in layers))
