"""Dropout and noise. Without a key, these layers return their inputs."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import Version

Config = Mapping[str, Any]


def _with_key(function: Callable[[Array, Array], Array], level: float) -> Run:
    """Return a layer that applies `function(key, x)` in training, if its level of noise is above 0."""

    def run(_: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        return Value(x if call.key is None or not level else function(call.key, x), mask)

    return run


def dropout(config: Config, version: Version) -> Run:
    """Return inputs of which each is 0 with probability `rate`, and else divided by 1 - rate."""
    noise_shape = config.get("noise_shape")

    def function(key: Array, x: Array) -> Array:
        shape = x.shape if noise_shape is None else [s or size for s, size in zip(noise_shape, x.shape, strict=True)]
        return _drop(key, x, config["rate"], shape)

    return _with_key(function, config["rate"])


def spatial_dropout(config: Config, version: Version) -> Run:
    """Return inputs of which whole features are 0: one mask for all steps, or all pixels."""
    return _with_key(
        lambda key, x: _drop(key, x, config["rate"], (len(x), *(1 for _ in x.shape[1:-1]), x.shape[-1])), config["rate"]
    )


def _drop(key: Array, x: Array, rate: float, shape: Any) -> Array:
    if rate >= 1:
        return jnp.zeros_like(x)
    # Cast to bool first: a factor of x's dtype would round 1 / (1 - rate) before the product.
    return jnp.where(jax.random.bernoulli(key, 1 - rate, tuple(shape)), x / (1 - rate), 0)


def gaussian_noise(config: Config, version: Version) -> Run:
    """Return x plus normal noise of the standard deviation `stddev`."""
    return _with_key(lambda key, x: x + config["stddev"] * jax.random.normal(key, x.shape, x.dtype), config["stddev"])


def gaussian_dropout(config: Config, version: Version) -> Run:
    """Return x times normal noise of mean 1 and variance rate / (1 - rate)."""
    stddev = math.sqrt(config["rate"] / (1 - config["rate"]))
    return _with_key(lambda key, x: x * (1 + stddev * jax.random.normal(key, x.shape, x.dtype)), config["rate"])
