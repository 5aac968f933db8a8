"""Pooling of a sequence of outputs to one vector: last step, mean or maximum."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlstm.layers import Bidirectional, Layer, Stack
from jlstm.layers.bidirectional import MERGES

Mask = Bool[Array, "batch time"] | None


def apart(layer: Layer) -> Layer:
    """Return the layer without the merging of its two directions, if it has two. `last` expects the outputs of this layer.

    Raises:
        ValueError: A Bidirectional directly wraps another one, so that no step is the last.
    """
    if isinstance(layer, Stack):
        return replace(layer, layers=(*layer.layers[:-1], apart(layer.layers[-1])))
    if not isinstance(layer, Bidirectional):
        return layer
    if apart(layer.layer) != layer.layer:
        raise ValueError("a Bidirectional around another has no last step: pool with 'mean' or 'max', or put them in a tuple")
    return replace(layer, merge=None)


def last(layer: Layer, ys: Any, mask: Mask) -> Float[Array, "batch features"]:
    """Return the output at the last step that a layer runs and that counts. If the layer runs backwards, this is the first step.

    For a Bidirectional, each direction is taken at its own last step, and then the two are merged.

    Args:
        layer: The layer, before `apart`.
        ys: Outputs of `apart(layer)`.
        mask: Whether a step counts. If none does, the result is zero, since the outputs are.

    Returns:
        One vector per sequence.
    """
    if isinstance(layer, Stack):
        return last(layer.layers[-1], ys, mask)
    if isinstance(layer, Bidirectional):
        directions = {"forward": layer.layer, "backward": layer.layer.flipped()}
        return MERGES[layer.merge](*(last(part, ys[name], mask) for name, part in directions.items()))
    backwards = getattr(layer, "reverse", False)
    if mask is None:
        return ys[:, 0] if backwards else ys[:, -1]
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
    maxima = jnp.where(mask[:, :, None], ys, -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), maxima, 0)
