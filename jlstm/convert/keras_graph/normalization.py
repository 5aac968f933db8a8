"""BatchNormalization, LayerNormalization and UnitNormalization."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph.core import elementwise
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import Version

Config = Mapping[str, Any]


def batch_normalization(config: Config, version: Version) -> Run:
    """Return (x - moving_mean) / sqrt(moving_variance + ε) · gamma + beta, in training too. The mask is passed on.

    The moving statistics get no gradients.
    """

    def run(params: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        axes = _axes(config["axis"], x.ndim)
        mean, variance = (jax.lax.stop_gradient(params[name]) for name in ("moving_mean", "moving_variance"))
        scaled = (x - _along(mean, axes, x)) * jax.lax.rsqrt(_along(variance, axes, x) + config["epsilon"])
        return Value(_affine(scaled, params, axes), mask)

    return run


def layer_normalization(config: Config, version: Version) -> Run:
    """Return (x - mean) / sqrt(variance + ε) · gamma + beta, with the mean and variance of each entry over its axes."""

    def run(params: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        axes = _axes(config["axis"], x.ndim)
        centered = x - x.mean(axes, keepdims=True)
        variance = (centered * centered).mean(axes, keepdims=True)
        return Value(_affine(centered * jax.lax.rsqrt(variance + config["epsilon"]), params, axes), mask)

    return run


def unit_normalization(config: Config, version: Version) -> Run:
    """Return x divided by its Euclidean norm over the axes, of which the square is at least 1e-12."""

    def function(x: Array) -> Array:
        squares = (x * x).sum(_axes(config["axis"], x.ndim), keepdims=True)
        return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))

    return elementwise(function)


def _axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Return the axes as positive numbers in order. A configuration has one number or a list."""
    return tuple(sorted(number % rank for number in (axis if isinstance(axis, list) else [axis])))


def _along(array: Array, axes: tuple[int, ...], x: Array) -> Array:
    """Return an array of the sizes of some axes in a shape that broadcasts against x."""
    return array.reshape(tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape)))


def _affine(x: Array, params: Params, axes: tuple[int, ...]) -> Array:
    x = x * _along(params["gamma"], axes, x) if "gamma" in params else x
    return x + _along(params["beta"], axes, x) if "beta" in params else x
