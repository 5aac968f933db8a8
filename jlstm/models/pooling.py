"""One vector for a sequence: the outputs of a layer at its last step, their mean, or their maximum."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlstm.layers import Bidirectional, Layer, Stack
from jlstm.layers.bidirectional import MERGES

Mask = Bool[Array, "batch time"] | None


def apart(layer: Layer) -> Layer:
    """Return the same layer with the outputs of its two directions, if it has two, not yet merged, as `last` takes them.

    Raises:
        ValueError: a Bidirectional directly around another, where no step is the last.
    """
    if isinstance(layer, Stack):
        return replace(layer, layers=(*layer.layers[:-1], apart(layer.layers[-1])))
    if not isinstance(layer, Bidirectional):
        return layer
    if apart(layer.layer) != layer.layer:
        raise ValueError("a Bidirectional around another has no last step: pool with 'mean' or 'max', or put them in a tuple")
    return replace(layer, merge=None)


def last(layer: Layer, ys: Any, mask: Mask) -> Float[Array, "batch features"]:
    """Return what a layer says at the end of its run: at the last step that counts, or the first if it runs backwards.

    Args:
        layer: what made `ys`, before `apart`: both directions of a Bidirectional are taken at their own ends and merged then.
        ys: the outputs of `apart(layer)`.
        mask: which steps count; where none does, the result is zero, as all outputs are.
    """
    if isinstance(layer, Stack):
        return last(layer.layers[-1], ys, mask)
    if isinstance(layer, Bidirectional):
        directions = {"forward": layer.layer, "backward": layer.layer.flipped()}
        return MERGES[layer.merge](*(last(one, ys[name], mask) for name, one in directions.items()))
    backwards = getattr(layer, "reverse", False)
    if mask is None:
        return ys[:, 0] if backwards else ys[:, -1]
    steps = mask.argmax(axis=1) if backwards else mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return jnp.take_along_axis(ys, steps[:, None, None], axis=1)[:, 0]


def mean(ys: Float[Array, "batch time features"], mask: Mask) -> Float[Array, "batch features"]:
    """Return the mean over the steps that count; zero where none does. Outputs at others are zero already."""
    if mask is None:
        return ys.mean(axis=1)
    return ys.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1).astype(ys.dtype)[:, None]


def highest(ys: Float[Array, "batch time features"], mask: Mask) -> Float[Array, "batch features"]:
    """Return the maximum over the steps that count; zero where none does."""
    if mask is None:
        return ys.max(axis=1)
    counted = jnp.where(mask[:, :, None], ys, -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), counted, 0)
