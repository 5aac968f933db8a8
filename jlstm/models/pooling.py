"""Pooling of a sequence of outputs to one vector: last step, mean or maximum."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlstm.layers import Composite, Layer

Mask = Bool[Array, "batch time"] | None


def last(layer: Layer, ys: Any, mask: Mask) -> Float[Array, "batch features"]:
    """Return the output at the last step that a layer runs and that counts. If the layer runs backwards, this is the first step.

    For a Bidirectional, each direction is taken at its own last step, and then the two are merged.

    Args:
        layer: The layer.
        ys: Outputs of `layer.unmerge()`.
        mask: Whether a step counts. If none does, the result is zero, since the outputs are.

    Returns:
        One vector per sequence.
    """
    if isinstance(layer, Composite):
        outputs = layer.split_outputs(ys)
        return layer.merge_outputs({key: last(layer.children[key], output, mask) for key, output in outputs.items()})
    backwards = getattr(layer, "reverse", False)
    if mask is None:
        return ys[:, 0] if backwards else ys[:, -1]
    # `argmax` returns the position of the first True. On the reversed mask this is the last step that counts.
    steps = mask.argmax(axis=1) if backwards else mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return jnp.take_along_axis(ys, steps[:, None, None], axis=1)[:, 0]


def mean(ys: Float[Array, "batch time features"], mask: Mask) -> Float[Array, "batch features"]:
    """Return the mean over the steps that count, or zero if none does. `ys` must be zero at the other steps."""
    if mask is None:
        return ys.mean(axis=1)
    return ys.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1).astype(ys.dtype)[:, None]


def highest(ys: Float[Array, "batch time features"], mask: Mask) -> Float[Array, "batch features"]:
    """Return the maximum over the steps that count, or zero if none does."""
    if mask is None:
        return ys.max(axis=1)
    # Outputs are zero at the other steps, and zero could be the maximum, so they become -inf.
    maxima = jnp.where(mask[:, :, None], ys, -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), maxima, 0)
