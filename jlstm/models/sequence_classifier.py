"""SequenceClassifier: tokens, an embedding, recurrent layers, one vector a sequence, logits."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.initializers import Initializer, initializer
from jlstm.layers import RNN, Bidirectional, Layer, Stack
from jlstm.layers.bidirectional import MERGES
from jlstm.linen import Recurrent
from jlstm.models.uniform import uniform


class SequenceClassifier(nn.Module):
    """Embed → layer → dropout → … → layer → pool → dropout → Dense."""

    vocabulary: int
    features: int
    layer: Layer | Sequence[Layer]
    _: KW_ONLY
    classes: int = 1
    dropout: float = 0.0
    variational: bool = False
    masked: bool = False
    pool: str = "last"
    embedding_init: Initializer = uniform(0.05)

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], *, lengths: Int[Array, " batch"] | None = None, key: Array | None = None
    ) -> Float[Array, "batch *classes"]:
        """Return the logits."""
        layers = (self.layer,) if isinstance(self.layer, Layer) else tuple(self.layer)
        if key is None and self.has_rng("dropout"):
            key = self.make_rng("dropout")
        keys: Any = (None,) * (2 * len(layers)) if key is None else jax.random.split(key, 2 * len(layers))
        mask = _mask(tokens, lengths, self.masked)
        xs = nn.Embed(self.vocabulary, self.features, embedding_init=initializer(self.embedding_init), name="embed")(tokens)
        for k, layer in enumerate(layers):
            top = k + 1 == len(layers)
            if top and self.pool == "last":
                layer = _apart(layer)
            xs = Recurrent(layer, name=f"layer_{k}")(xs, mask=mask, key=keys[2 * k])[1]
            if top:
                xs = _last(layers[-1], xs, mask) if self.pool == "last" else POOLS[self.pool](xs, mask)
            dims = (1,) if self.variational and not top else ()
            drop = nn.Dropout(self.dropout, broadcast_dims=dims, name=f"dropout_{k}")
            xs = drop(xs, deterministic=key is None, rng=keys[2 * k + 1])
        logits = nn.Dense(self.classes, name="head")(xs)
        return logits[:, 0] if self.classes == 1 else logits


def _mask(tokens: Array, lengths: Array | None, masked: bool) -> Array | None:
    if lengths is not None and masked:
        raise ValueError("lengths are given to a classifier with masked=True, which takes them from the zeros: drop one of both")
    if lengths is not None:
        lengths = checks.lengths(lengths, tokens.shape[:1], tokens.shape[1])
        return jnp.arange(tokens.shape[1])[None] < lengths[:, None]
    return tokens != 0 if masked else None


def _apart(layer: Layer) -> Layer:
    """The same layer with the outputs of both directions apart."""
    if isinstance(layer, Stack):
        return replace(layer, layers=(*layer.layers[:-1], _apart(layer.layers[-1])))
    return replace(layer, merge=None) if isinstance(layer, Bidirectional) else layer


def _last(layer: Layer, ys: Any, mask: Array | None) -> Array:
    """The output of the last step that counts; of a layer that runs backwards, of the first."""
    if isinstance(layer, Stack):
        return _last(layer.layers[-1], ys, mask)
    if isinstance(layer, Bidirectional):
        directions = {"forward": layer.layer, "backward": layer.layer.flipped()}
        return MERGES[layer.merge](*(_last(one, ys[name], mask) for name, one in directions.items()))
    backwards = isinstance(layer, RNN) and layer.reverse
    if mask is None:
        return ys[:, 0] if backwards else ys[:, -1]
    steps = jnp.argmax(mask, axis=1) if backwards else mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return jnp.take_along_axis(ys, steps[:, None, None], axis=1)[:, 0]


def _mean(ys: Float[Array, "batch time features"], mask: Bool[Array, "batch time"] | None) -> Array:
    if mask is None:
        return ys.mean(axis=1)
    return ys.sum(axis=1) / jnp.maximum(mask.sum(axis=1, dtype=ys.dtype), 1)[:, None]


def _max(ys: Float[Array, "batch time features"], mask: Bool[Array, "batch time"] | None) -> Array:
    if mask is None:
        return ys.max(axis=1)
    lowest = jnp.where(mask[:, :, None], ys, jnp.finfo(ys.dtype).min).max(axis=1)
    return jnp.where(mask.any(axis=1)[:, None], lowest, 0)


POOLS = {"mean": _mean, "max": _max}
