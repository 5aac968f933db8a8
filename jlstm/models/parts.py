"""Parts that both models share: a check of their tokens, random keys and dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Int

from jlstm._src import checks
from jlstm.cell import Params


def tokens(name: str, value: Any, vocabulary: int, *, least: int = 0) -> Int[Array, "batch time"]:
    """Return tokens as an array after checking shape, dtype and range.

    JAX does not check indices: it would return NaN or the embedding of another token. The range of traced tokens is not checked.

    Args:
        name: Name of the argument, for error messages.
        value: Tokens of shape (batch, time).
        vocabulary: Number of different tokens.
        least: Minimum number of time steps.

    Returns:
        The tokens as an array.

    Raises:
        ValueError: The shape is wrong, or a token is outside the vocabulary.
        TypeError: The dtype is not an integer dtype.
    """
    numbers = value
    value = checks.array(name, value)
    if value.ndim != 2 or value.shape[1] < least:
        minimum = f" with at least {least} time step" if least else ""
        raise ValueError(f"{name} must have shape (batch, time){minimum}, got {value.shape}: pad sequences of different lengths")
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be whole numbers, indices into the vocabulary, got {value.dtype}: pass {name}.astype('int32')"
        )
    if checks.readable(numbers) and value.size:
        low, high = np.min(numbers), np.max(numbers)  # the original values: conversion to int32 could wrap them
        if low < 0 or high >= vocabulary:
            raise ValueError(
                f"{name} must be indices into the vocabulary, from 0 to {vocabulary - 1}, got some from {low} to {high}"
            )
    return value


def draw(module: nn.Module, key: Array) -> Params:
    """Return new parameters of a model."""
    return module.init(key, np.zeros((1, 1), np.int32))["params"]


def param_shapes(module: nn.Module) -> Params:
    """Return the shapes of the parameters of a model, without drawing any."""
    return jax.eval_shape(lambda: draw(module, jax.random.key(0)))


def keys(module: nn.Module, key: Array | None, count: int) -> Any:
    """Return `count` keys, split from `key` or from the `"dropout"` rng of `apply`. Without either, return `count` times None."""
    if key is None and module.has_rng("dropout"):
        key = module.make_rng("dropout")
    if key is not None:
        checks.key("key", key)
    return (None,) * count if key is None else jax.random.split(key, count)


def without_none(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None. Flax's summary table would show an argument that is None."""
    return {name: value for name, value in arguments.items() if value is not None}


def dropout(xs: Array, rate: float, key: Array | None, *, constant: bool, name: str) -> Array:
    """Apply dropout: zero entries at random and scale up the others.

    Args:
        xs: Values of shape (batch, time, features) or (batch, features).
        rate: Probability of zeroing an entry.
        key: Random key, or None for no dropout.
        constant: Whether to use the same mask at all steps (axis 1).
        name: Name of the Flax module.

    Returns:
        Values of the same shape.
    """
    if not rate:
        return xs
    # Axis 1 is time: with `constant` one mask is drawn and broadcast over all steps.
    drop = nn.Dropout(rate, broadcast_dims=(1,) if constant else (), deterministic=key is None, name=name)
    return drop(xs, **without_none(rng=key))


def drop_tokens(xs: Array, tokens: Int[Array, "batch time"], vocabulary: int, rate: float, key: Array | None) -> Array:
    """Zero the embeddings of random tokens of the vocabulary, wherever they occur, and scale up the others.

    Args:
        xs: Embeddings of shape (batch, time, features).
        tokens: The tokens.
        vocabulary: Number of different tokens.
        rate: Probability of dropping a token of the vocabulary.
        key: Random key, or None for no dropout.

    Returns:
        Embeddings of the same shape.
    """
    if not rate or key is None:
        return xs
    # Another key than that of the dropout that follows, which gets `key` itself.
    kept = jax.random.bernoulli(jax.random.fold_in(key, 1), 1 - rate, (vocabulary,))
    return xs * (kept.astype(xs.dtype) / (1 - rate))[tokens][:, :, None]
