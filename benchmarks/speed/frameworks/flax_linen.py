"""Flax linen: `nn.RNN(nn.OptimizedLSTMCell)` or `nn.GRUCell`, time-major, under `jax.jit`. One bias.

The variant, if there is one, is the module that replaces `flax.linen`.
"""

import importlib
from typing import Any

import jax
from flax import linen as nn

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.frameworks.jitted import Jobs, blocking_call, sequence, unpadded
from benchmarks.speed.points import Point


class Model(nn.Module):
    """The recurrent layers of a benchmark point, one above the other, as a Flax module."""

    point: Point
    modules: Any

    @nn.compact
    def __call__(self, xs: jax.Array) -> jax.Array:
        """Return the outputs of all steps, time-major."""
        lengths = self.point.lengths if self.point.form == "ragged" else None
        kind = self.modules.GRUCell if self.point.cell == "gru" else self.modules.OptimizedLSTMCell
        for units in self.point.units:
            layer: Any = self.modules.RNN(kind(units))
            if self.point.form == "bidirectional":
                layer = self.modules.Bidirectional(layer, self.modules.RNN(kind(units)))
            xs = layer(xs, seq_lengths=lengths, time_major=True)
        return unpadded(xs, self.point) if self.point.form == "ragged" else xs


def build(point: Point, setting: Setting) -> Jobs:
    """Return the jobs: the model's outputs, or one step of the cell."""
    if point.form == "matrix":
        return {}
    key, xs = jax.random.key(0), point.inputs()
    if point.form == "step":
        cell = nn.OptimizedLSTMCell(point.units[0])
        carry = cell.initialize_carry(key, xs[0].shape)
        return {"step": blocking_call(cell.apply, cell.init(key, carry, xs[0]), carry, xs[0])}
    modules = importlib.import_module(setting.variant or "flax.linen")
    model = Model(point._replace(units=tuple(point.units)), modules)  # modules are hashed

    def outputs(params: Any, xs: jax.Array) -> Any:
        return model.apply(params, xs)

    return sequence(outputs, model.init(key, xs), point)
