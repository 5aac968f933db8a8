"""cuDNN's LSTM through `jax.experimental.rnn`: batch-major, NVIDIA GPUs only. Two biases."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, sequence
from benchmarks.speed.points import Point


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs, with one call per layer, because one call cannot run layers of different sizes."""
    if point.form in ("matrix", "step"):
        return {}
    keys = jax.random.split(jax.random.key(0), len(point.layers))
    sizes = zip(keys, point.layers, strict=True)
    params = [rnn.init_lstm_weight(key, features, units, 1, directions == 2) for key, (features, units, directions) in sizes]
    # `rnn.lstm` requires lengths, even if all sequences have the full length.
    lengths = jnp.asarray(point.lengths if point.form == "ragged" else [point.time] * point.batch, jnp.int32)

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        for weights, (features, units, directions) in zip(params, point.layers, strict=True):
            zeros = jnp.zeros((directions, point.batch, units))
            options = {"input_size": features, "hidden_size": units, "num_layers": 1, "dropout": 0.0}
            xs = rnn.lstm(xs, zeros, zeros, weights, lengths, bidirectional=directions == 2, **options)[0]
        return xs

    return sequence(outputs, params, point, batch_major=True)
