"""LanguageModel: the next token from those before it."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from jlstm.layers import LSTM, RNN
from jlstm.linen import Recurrent
from jlstm.models.uniform import uniform


class LanguageModel(nn.Module):
    """Embed → dropout → [LSTM → dropout] × layers → logits of the next token."""

    vocabulary: int
    units: int
    layers: int = 2
    _: KW_ONLY
    dropout: float = 0.0
    variational: bool = False
    tied: bool = False
    init_scale: float = 0.1
    forget_bias: float | None = None
    lstm: Mapping[str, Any] = FrozenDict()

    def __post_init__(self) -> None:
        self.lstm = FrozenDict(self.lstm)  # hashable, so that the model can be a static argument of `jit`
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], carry: Any = None, *, key: Array | None = None, **sequence: Any
    ) -> tuple[Float[Array, "batch time vocabulary"], Any]:
        """Return the logits and the last carry."""
        if key is None and self.has_rng("dropout"):
            key = self.make_rng("dropout")
        count = 2 * self.layers + 1
        keys: Any = (None,) * count if key is None else jax.random.split(key, count)
        embed = nn.Embed(self.vocabulary, self.units, embedding_init=uniform(self.init_scale), name="embed")
        xs = self._drop(0, embed(tokens), keys[0])
        carries = []
        for k in range(self.layers):
            given = None if carry is None else carry[k]
            last, xs = Recurrent(self.layer, name=f"layer_{k}")(xs, given, key=keys[2 * k + 1], **sequence)
            xs = self._drop(k + 1, xs, keys[2 * k + 2])
            carries.append(last)
        return self._logits(embed, xs), tuple(carries)

    @property
    def layer(self) -> RNN:
        """One of the layers, all of which have the same options."""
        initial = uniform(self.init_scale)
        options = {"kernel_init": initial, "recurrent_init": initial, "bias_init": initial, "forget_bias": self.forget_bias}
        return LSTM(self.units, **(options | dict(self.lstm)))

    @nn.nowrap
    def initial_carry(self, size: int, dtype: Any = "float32") -> Any:
        """Return what a pass over `size` streams starts from: zeros."""
        layer = self.layer
        params = jax.eval_shape(lambda: layer.init(jax.random.key(0), self.units))
        shapes = jax.eval_shape(lambda p: layer.initial_carry(p, (size,), dtype), params)
        return tuple(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes) for _ in range(self.layers))

    def _drop(self, k: int, xs: Array, key: Array | None) -> Array:
        drop = nn.Dropout(self.dropout, broadcast_dims=(1,) if self.variational else (), name=f"dropout_{k}")
        return drop(xs, deterministic=key is None, rng=key)

    def _logits(self, embed: nn.Embed, xs: Array) -> Array:
        initial = uniform(self.init_scale)
        if not self.tied:
            return nn.Dense(self.vocabulary, kernel_init=initial, bias_init=initial, name="head")(xs)
        logits = embed.attend(xs)
        return logits + self.param("bias", initial, (self.vocabulary,)).astype(logits.dtype)[None, None]
