"""What both models are made of: a check of their inputs, keys for their parts, and dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Int

from jlstm import checks


def tokens(name: str, value: Any, vocabulary: int, *, least: int = 0) -> Int[Array, "batch time"]:
    """Return tokens as an array; require whole numbers (batch, time) with at least so many steps, of the vocabulary.

    Of others JAX would take the embedding to be NaN, or that of another token. Traced tokens cannot be looked at.
    """
    numbers = value
    value = checks.array(name, value)
    if value.ndim != 2 or value.shape[1] < least:
        some = f" with at least {least} time step" if least else ""
        raise ValueError(f"{name} must have shape (batch, time){some}, got {value.shape}: pad sequences of different lengths")
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be whole numbers, indices into the vocabulary, got {value.dtype}: pass {name}.astype('int32')"
        )
    if checks.readable(numbers) and value.size:
        low, high = np.min(numbers), np.max(numbers)  # before JAX makes them int32
        if low < 0 or high >= vocabulary:
            raise ValueError(
                f"{name} must be indices into the vocabulary, from 0 to {vocabulary - 1}, got some from {low} to {high}"
            )
    return value


def keys(module: nn.Module, key: Array | None, count: int) -> Any:
    """Return `count` keys made from the one given, else from the `"dropout"` rng of `apply`; without either, as many None."""
    if key is None and module.has_rng("dropout"):
        key = module.make_rng("dropout")
    if key is not None:
        checks.key("key", key)
    return (None,) * count if key is None else jax.random.split(key, count)


def given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None: those that a summary should show."""
    return {name: value for name, value in arguments.items() if value is not None}


def dropout(xs: Array, rate: float, key: Array | None, *, constant: bool, name: str) -> Array:
    """Zero a share of `xs` and scale up the rest, with the same mask at all steps (axis 1) if `constant`; no key, no dropout."""
    if not rate:
        return xs
    drop = nn.Dropout(rate, broadcast_dims=(1,) if constant else (), deterministic=key is None, name=name)
    return drop(xs, **given(rng=key))
