"""LanguageModel: prediction of the next token."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from jlstm._src import checks
from jlstm.cell import PyTree
from jlstm.layers import LSTM, RNN
from jlstm.linen import Recurrent
from jlstm.models import parts
from jlstm.models.uniform import Uniform


class LanguageModel(nn.Module):
    """Language model: an embedding, LSTM layers, and logits of the next token at every step.

        Embed → dropout → LSTM → dropout [→ LSTM → dropout]… → logits

    Dropout is applied to non-recurrent connections only. The parameters are `embed/embedding` (vocabulary, units); `layer_0`,
    `layer_1`, … with `kernel`, `recurrent_kernel` and `bias`; and `head/kernel` (units, vocabulary) and `head/bias`
    (vocabulary,). With `tied`, the logits are y Eᵀ + bias with the embedding E, and `bias` (vocabulary,) replaces `head`.

    Args:
        vocabulary: Number of different tokens. A traced token ≥ `vocabulary` makes the logits NaN.
        units: Number of units of every LSTM and of features of the embedding.
        layers: Number of LSTM layers.
        dropout: Dropout rate of the embedding and of the outputs of each LSTM, with a new mask at every step.
        variational: Use one dropout mask for all steps of a call. `lstm={"recurrent_dropout": rate}` also drops inside the LSTMs.
        tied: Use the embedding as the output matrix. This saves parameters and usually improves the perplexity.
        init_scale: All parameters are initialized uniformly in ±init_scale. The paper uses 0.1 (small), 0.05 (medium) and 0.04
            (large).
        forget_bias: Initial bias of the forget gates. None initializes it like the other parameters, as in the paper.
        lstm: Further options of every `LSTM(units)`, such as `{"unroll": 5}`, `{"remat": True}` or initializers.

    Raises:
        ValueError: A size is below 1, a rate is outside [0, 1), or the LSTMs run backwards or are time-major.
        TypeError: `LSTM` does not have an option.

    References:
        Zaremba, Sutskever & Vinyals 2014, "Recurrent Neural Network Regularization", https://arxiv.org/abs/1409.2329.
        `variational`: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        https://arxiv.org/abs/1512.05287.
        `tied`: Press & Wolf 2017, "Using the Output Embedding to Improve Language Models", https://arxiv.org/abs/1608.05859;
        Inan, Khosravi & Socher 2017, "Tying Word Vectors and Word Classifiers", https://arxiv.org/abs/1611.01462.

    Differs from: Gal & Ghahramani also drop whole words of the embedding. TensorFlow 1's tutorial initializes biases to zero.

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
        # Last: Flax freezes the fields of a module here.
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], carry: PyTree | None = None, *, key: Array | None = None, **sequence: Any
    ) -> tuple[Float[Array, "batch time vocabulary"], PyTree]:
        """Return the logits of the next token at every step, and the carry after the last step.

        Args:
            tokens: Indices into the vocabulary, of an integer dtype.
            carry: Carry to start from: the result of `initial_carry` or of a previous call. None means `initial_carry`.
            key: Random key that enables dropout. The `"dropout"` rng of `apply` does the same. Without either, no dropout.
            **sequence: `lengths`, `mask` or `resets`, as for `Layer.apply`.

        Returns:
            The logits, and a tuple with the carry of each layer.

        Raises:
            ValueError: The shape of `tokens`, the carry or another argument is wrong, or a token is outside the vocabulary.
            TypeError: `tokens` has no integer dtype.
        """
        # One key for the dropout of the embedding, and for each layer one for the LSTM and one for the dropout of its outputs.
        tokens, keys = parts.tokens("tokens", tokens, self.vocabulary), parts.keys(self, key, 2 * self.layers + 1)
        carries = (None,) * self.layers if carry is None else self._checked(carry)
        embed = nn.Embed(self.vocabulary, self.units, embedding_init=Uniform(self.init_scale), name="embed")
        xs, new_carries = self._dropped(embed(tokens), 0, keys[0]), []
        for k, start in enumerate(carries):
            arguments = parts.without_none(carry=start, key=keys[2 * k + 1], **sequence)
            last, ys = Recurrent(self.layer, name=f"layer_{k}")(xs, **arguments)
            xs = self._dropped(ys, k + 1, keys[2 * k + 2])
            new_carries.append(last)
        return self._logits(embed, xs), tuple(new_carries)

    @property
    def layer(self) -> RNN:
        """The LSTM layer. All layers share its options, but not its parameters."""
        initial = Uniform(self.init_scale)
        # As in Zaremba et al., 2014: all parameters, also the biases, are drawn from one uniform distribution.
        options = {"kernel_init": initial, "recurrent_init": initial, "bias_init": initial, "forget_bias": self.forget_bias}
        return LSTM(self.units, **(options | dict(self.lstm)))

    @property
    def stochastic(self) -> bool:
        """Whether a random key changes the results, because it turns dropout on."""
        return self.dropout > 0 or self.layer.stochastic

    @nn.nowrap
    def initial_carry(self, size: int) -> PyTree:
        """Return the initial carry for a batch of `size` texts: a tuple with zeros for each layer. No parameters are needed."""
        size, layer = checks.whole("size", size), self.layer
        # The initial carry is zero, so only its shapes are needed, and no parameters are drawn.
        shapes = jax.eval_shape(lambda key: layer.initial_carry(layer.init(key, self.units), (size,)), jax.random.key(0))
        return tuple(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes) for _ in range(self.layers))

    def _checked(self, carry: PyTree) -> tuple[PyTree, ...]:
        # A NamedTuple is a tuple too: without the last test the carry of a single layer could pass for one of two layers.
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
        # Tied (Press & Wolf, 2017): y Eᵀ with the embedding E.
        logits = embed.attend(ys)
        return logits + self.param("bias", initial, (self.vocabulary,)).astype(logits.dtype)[None, None]
