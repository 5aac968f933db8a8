"""LanguageModel: the next token from those before it."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from jlstm import checks
from jlstm.cell import PyTree
from jlstm.layers import LSTM, RNN
from jlstm.linen import Recurrent
from jlstm.models import parts
from jlstm.models.uniform import Uniform


class LanguageModel(nn.Module):
    """Embedding, LSTM layers, and logits of the next token at every step.

        Embed → dropout → LSTM → dropout [→ LSTM → dropout]… → logits

    Dropout is on non-recurrent connections only. Parameters: `embed/embedding` (vocabulary, units); `layer_0`, `layer_1`, … with
    `kernel`, `recurrent_kernel` and `bias`; and `head/kernel` (units, vocabulary) with `head/bias` (vocabulary,), or with
    `tied` only `bias` (vocabulary,), since the logits are then y E^T + bias with the embedding E.

    Args:
        vocabulary: number of different tokens; a token from there on makes the logits NaN.
        units: of every LSTM, and features of the embedding.
        layers: number of LSTMs.
        dropout: share zeroed of the embedding and of the outputs of each LSTM, with a new mask at every step.
        variational: one mask for all steps of a call instead; `lstm={"recurrent_dropout": rate}` adds that inside the LSTMs.
        tied: the embedding serves the logits, too: fewer parameters, and better as a rule.
        init_scale: all parameters start uniform in ±init_scale; the paper has 0.1 (small), 0.05 (medium), 0.04 (large).
        forget_bias: what forget gates' biases start at; None leaves them to `init_scale` as the others, as in the paper.
        lstm: more options of every `LSTM(units)`, such as `{"unroll": 5}`, `{"remat": True}` or initialisers.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1), LSTMs that run backwards or are time-major.
        TypeError: an option that LSTM does not have.

    Reference: Zaremba, Sutskever & Vinyals 2014; `variational`: Gal & Ghahramani 2016; `tied`: Press & Wolf 2017,
    Inan, Khosravi & Socher 2017.
    Differs from: Gal & Ghahramani drop whole words of the embedding as well; TensorFlow 1's tutorial starts biases at zero.

    Examples:
        >>> import jax
        >>> from jlstm.models import LanguageModel
        >>> model = LanguageModel(vocabulary=50, units=8, dropout=0.5)
        >>> tokens = jax.numpy.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
        >>> params = model.init(jax.random.key(0), tokens)["params"]
        >>> carry = model.initial_carry(2)
        >>> logits, carry = model.apply({"params": params}, tokens, carry, key=jax.random.key(1))  # no key, no dropout
        >>> logits, carry = model.apply({"params": params}, tokens, carry)  # reads on where it was
        >>> logits.shape
        (2, 5, 50)
    """

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
        for name in ("vocabulary", "units", "layers"):
            checks.positive(name, getattr(self, name))
        self.dropout = checks.rate("dropout", self.dropout)
        checks.flag("variational", self.variational)
        checks.flag("tied", self.tied)
        checks.bound("init_scale", self.init_scale)
        self.lstm = FrozenDict(self.lstm)  # hashable, so that the model can be a static argument of `jit`
        if self.layer.reverse or self.layer.time_major:
            raise ValueError("lstm must not have reverse=True or time_major=True: tokens are (batch, time), predicted in order")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], carry: PyTree | None = None, *, key: Array | None = None, **sequence: Any
    ) -> tuple[Float[Array, "batch time vocabulary"], PyTree]:
        """Return the logits of the token after each, and the carry to read on with.

        Args:
            tokens: indices into the vocabulary.
            carry: where to start: `initial_carry`, None for the same, or what a call before returned.
            key: turns dropout on, as a `"dropout"` rng given to `apply` does; without either it is inference.
            **sequence: `lengths`, `mask` or `resets` as `Layer.apply` takes them.

        Raises:
            ValueError: a shape does not fit.
            TypeError: `tokens` are not whole numbers.
        """
        tokens, keys = parts.tokens("tokens", tokens, self.vocabulary), parts.keys(self, key, 2 * self.layers + 1)
        carries = (None,) * self.layers if carry is None else self._checked(carry)
        embed = nn.Embed(self.vocabulary, self.units, embedding_init=Uniform(self.init_scale), name="embed")
        xs, lasts = self._dropped(embed(tokens), 0, keys[0]), []
        for k, start in enumerate(carries):
            given = parts.given(carry=start, key=keys[2 * k + 1], **sequence)
            last, ys = Recurrent(self.layer, name=f"layer_{k}")(xs, **given)
            xs = self._dropped(ys, k + 1, keys[2 * k + 2])
            lasts.append(last)
        return self._logits(embed, xs), tuple(lasts)

    @property
    def layer(self) -> RNN:
        """The LSTM that all layers are, each with its own parameters."""
        initial = Uniform(self.init_scale)
        options = {"kernel_init": initial, "recurrent_init": initial, "bias_init": initial, "forget_bias": self.forget_bias}
        return LSTM(self.units, **(options | dict(self.lstm)))

    @nn.nowrap
    def initial_carry(self, size: int) -> PyTree:
        """Return what reading `size` texts starts from, without any parameters: a tuple with zeros for each layer."""
        size, layer = checks.whole("size", size), self.layer
        shapes = jax.eval_shape(lambda key: layer.initial_carry(layer.init(key, self.units), (size,)), jax.random.key(0))
        return tuple(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes) for _ in range(self.layers))

    def _checked(self, carry: PyTree) -> tuple[PyTree, ...]:
        if not isinstance(carry, tuple) or len(carry) != self.layers or hasattr(carry, "_fields"):
            raise ValueError(
                f"carry must be a tuple with one entry for each of the {self.layers} layers: take initial_carry(batch)"
            )
        return carry

    def _dropped(self, xs: Array, k: int, key: Array | None) -> Array:
        return parts.dropout(xs, self.dropout, key, constant=self.variational, name=f"dropout_{k}")

    def _logits(self, embed: nn.Embed, ys: Array) -> Float[Array, "batch time vocabulary"]:
        initial = Uniform(self.init_scale)
        if not self.tied:
            return nn.Dense(self.vocabulary, kernel_init=initial, bias_init=initial, name="head")(ys)
        logits = embed.attend(ys)
        return logits + self.param("bias", initial, (self.vocabulary,)).astype(logits.dtype)[None, None]
