"""Flax nnx: `nnx.RNN` of `nnx.OptimizedLSTMCell` or `GRUCell`, time-major, split into graph and parameters under `jax.jit`.

It has one bias. The variant, if there is one, is the module that replaces `flax.nnx`.
"""

import importlib
from typing import Any

import jax
from flax import nnx

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence, unpadded
from benchmarks.speed.points import Point, Size


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs. Modules are split and merged by hand, which costs less per call than `nnx.jit`.

    They are merged as copies, because a layer counts its draws of a carry, and must not change that count during tracing.
    """
    if point.form == "matrix":
        return {}
    rngs, xs = nnx.Rngs(0), point.inputs()
    if point.form == "step":
        cell = nnx.OptimizedLSTMCell(point.features, point.units[0], rngs=rngs)
        carry = cell.initialize_carry(xs[0].shape, rngs)
        graph, params, counters = _split(cell)

        def step(params: Any, carry: Any, x: jax.Array) -> Any:
            return nnx.merge(graph, params, counters, copy=True)(carry, x)

        return {"step": blocking_call(step, params, carry, xs[0])}
    kind = nnx.GRUCell if point.cell == "gru" else nnx.OptimizedLSTMCell
    modules = importlib.import_module(setting.variant or "flax.nnx")
    layers = nnx.List([_layer(modules, kind, size, rngs) for size in point.layers])
    graph, params, counters = _split(layers)
    lengths = point.lengths if point.form == "ragged" else None

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        for layer in nnx.merge(graph, params, counters, copy=True):
            xs = layer(xs, seq_lengths=lengths, time_major=True)
        return unpadded(xs, point) if point.form == "ragged" else xs

    return sequence(outputs, params, point)


def _layer(modules: Any, kind: Any, size: Size, rngs: nnx.Rngs) -> Any:
    forward, backward = (modules.RNN(kind(size.features, size.units, rngs=rngs), rngs=rngs) for _ in range(2))
    return modules.Bidirectional(forward, backward, rngs=rngs) if size.directions == 2 else forward


def _split(module: Any) -> Any:
    """Return the graph, the parameters, and the other state of a module, such as the counts of its random draws."""
    return nnx.split(module, nnx.Param, ...)
