"""LanguageModel: prediction of the next token."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from jlstm._src import checks
from jlstm.cell import PyTree
from jlstm.cells.wrappers import WeightDrop
from jlstm.layers import LSTM, RNN
from jlstm.linen import Recurrent
from jlstm.models import parts
from jlstm.models.uniform import Uniform


class LanguageModel(nn.Module):
    """Language model: an embedding, LSTM layers, and logits of the next token at every step.

        Embed → dropout → LSTM → dropout [→ LSTM → dropout]… → logits

    Dropout is applied to non-recurrent connections only, unless `weight_drop` is set. The parameters are `embed/embedding`
    (vocabulary, features); `layer_0`, `layer_1`, … with `kernel`, `recurrent_kernel` and `bias`; and `head/kernel` (units,
    vocabulary) and `head/bias` (vocabulary,). With `tied`, the logits are y Eᵀ + bias with the embedding E, and `bias`
    (vocabulary,) replaces `head`.

    Args:
        vocabulary: Number of different tokens. A traced token ≥ `vocabulary` makes the logits NaN.
        units: Number of units of every LSTM, or a tuple with the number of each.
        layers: Number of LSTM layers. None means 2, or the length of `units` if that is a tuple.
        features: Size of the embedding. None means the units of the first LSTM, and with `tied` those of the last one.
        dropout: Dropout rate of the embedding and of the outputs of each LSTM, with a new mask at every step.
        input_dropout: Another rate for the embedding.
        output_dropout: Another rate for the outputs of the last LSTM.
        embedding_dropout: Share of the tokens of the vocabulary whose embedding is zero during a call.
        weight_drop: Share of the recurrent weights that are zero during a call, as in `jlstm.cells.WeightDrop`.
        variational: Use one dropout mask for all steps of a call. `lstm={"recurrent_dropout": rate}` also drops inside the LSTMs.
        tied: Use the embedding as the output matrix. This saves parameters and usually improves the perplexity. The last LSTM
            then needs as many units as the embedding has features.
        init_scale: All parameters are initialized uniformly in ±init_scale. The paper uses 0.1 (small), 0.05 (medium) and 0.04
            (large).
        forget_bias: Initial bias of the forget gates. None initializes it like the other parameters, as in the paper.
        lstm: Further options of every `LSTM(units)`, such as `{"unroll": 5}`, `{"remat": True}` or initializers.

    With `mutable="intermediates"`, `apply` also returns the outputs of the last LSTM, as `outputs`, and the same after dropout,
    as `dropped`. `activation_penalty` and `NeuralCache` take them.

    Raises:
        ValueError: A size is below 1, a rate is outside [0, 1), `layers` or `features` contradicts `units`, or the LSTMs run
            backwards or are time-major.
        TypeError: `LSTM` does not have an option.

    References:
        Zaremba, Sutskever & Vinyals 2014, "Recurrent Neural Network Regularization", https://arxiv.org/abs/1409.2329.
        `variational`: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        https://arxiv.org/abs/1512.05287.
        `tied`: Press & Wolf 2017, "Using the Output Embedding to Improve Language Models", https://arxiv.org/abs/1608.05859;
        Inan, Khosravi & Socher 2017, "Tying Word Vectors and Word Classifiers", https://arxiv.org/abs/1611.01462.
        `embedding_dropout`, `weight_drop` and LSTMs of different sizes: Merity, Keskar & Socher 2018, "Regularizing and
        Optimizing LSTM Language Models", https://arxiv.org/abs/1708.02182. Their model for the Penn Treebank is
        `LanguageModel(10000, (1150, 1150, 400), tied=True, variational=True, dropout=0.25, input_dropout=0.4,
        output_dropout=0.4, embedding_dropout=0.1, weight_drop=0.5)`.

    Differs from: TensorFlow 1's tutorial initializes biases to zero.

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
    units: int | tuple[int, ...]
    layers: int | None = None
    _: KW_ONLY
    features: int | None = None
    dropout: float = 0.0
    input_dropout: float | None = None
    output_dropout: float | None = None
    embedding_dropout: float = 0.0
    weight_drop: float = 0.0
    variational: bool = False
    tied: bool = False
    init_scale: float = 0.1
    forget_bias: float | None = None
    lstm: Mapping[str, Any] = FrozenDict()

    def __post_init__(self) -> None:
        checks.positive("vocabulary", self.vocabulary)
        checks.flag("tied", self.tied)
        self.units = tuple(self.units) if isinstance(self.units, list) else self.units
        self._check_sizes()
        for name in ("dropout", "input_dropout", "output_dropout", "embedding_dropout", "weight_drop"):
            if getattr(self, name) is not None or name not in ("input_dropout", "output_dropout"):
                setattr(self, name, checks.rate(name, getattr(self, name)))
        checks.flag("variational", self.variational)
        checks.bound("init_scale", self.init_scale)
        self.lstm = FrozenDict(self.lstm)  # hashable, so that the model can be a static argument of `jit`
        if any(layer.reverse or layer.time_major for layer in self.rnns):
            raise ValueError("lstm must not have reverse=True or time_major=True: tokens are (batch, time), predicted in order")
        # Last: Flax freezes the fields of a module here.
        super().__post_init__()

    @nn.nowrap
    def _check_sizes(self) -> None:
        for size in self.units if isinstance(self.units, tuple) else (self.units,):
            checks.positive("units", size)
        if self.layers is not None and checks.positive("layers", self.layers) != len(self.sizes):
            raise ValueError(f"units must have {self.layers} sizes with layers={self.layers}, got {self.units}: leave layers out")
        if not self.sizes:
            raise ValueError("units must have the size of at least one layer, got none")
        if self.features is not None and checks.positive("features", self.features) != self.sizes[-1] and self.tied:
            raise ValueError(
                f"features must be the {self.sizes[-1]} units of the last layer with tied=True, got {self.features}: leave it out"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of units of each LSTM."""
        return self.units if isinstance(self.units, tuple) else (self.units,) * (2 if self.layers is None else self.layers)

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
        rnns = self.rnns
        tokens, keys = parts.tokens("tokens", tokens, self.vocabulary), parts.keys(self, key, 2 * len(rnns) + 1)
        carries = (None,) * len(rnns) if carry is None else self._checked(carry)
        embed = nn.Embed(self.vocabulary, self._features, embedding_init=Uniform(self.init_scale), name="embed")
        xs = parts.drop_tokens(embed(tokens), tokens, self.vocabulary, self.embedding_dropout, keys[0])
        xs, new_carries = self._dropped(xs, 0, self.input_dropout, keys[0]), []
        rates = (None,) * (len(rnns) - 1) + (self.output_dropout,)
        for k, (layer, start, rate) in enumerate(zip(rnns, carries, rates, strict=True)):
            arguments = parts.without_none(carry=start, key=keys[2 * k + 1], **sequence)
            last, ys = Recurrent(layer, name=f"layer_{k}")(xs, **arguments)
            xs = self._dropped(ys, k + 1, rate, keys[2 * k + 2])
            new_carries.append(last)
        self.sow("intermediates", "outputs", ys)
        self.sow("intermediates", "dropped", xs)
        return self._logits(embed, xs), tuple(new_carries)

    @property
    def rnns(self) -> tuple[RNN, ...]:
        """The LSTM layers. All share the options, but not the number of units."""
        initial = Uniform(self.init_scale)
        # As in Zaremba et al., 2014: all parameters, also the biases, are drawn from one uniform distribution.
        options = {"kernel_init": initial, "recurrent_init": initial, "bias_init": initial, "forget_bias": self.forget_bias}
        layers = [LSTM(size, **(options | dict(self.lstm))) for size in self.sizes]
        if self.weight_drop:
            layers = [replace(layer, cell=WeightDrop(layer.cell, rate=self.weight_drop)) for layer in layers]
        return tuple(layers)

    @property
    def _features(self) -> int:
        return self.sizes[-1 if self.tied else 0] if self.features is None else self.features

    @property
    def stochastic(self) -> bool:
        """Whether a random key changes the results, because it turns dropout on."""
        rates = (self.dropout, self.input_dropout, self.output_dropout, self.embedding_dropout)
        return any(rates) or any(layer.stochastic for layer in self.rnns)

    @nn.nowrap
    def initial_carry(self, size: int) -> PyTree:
        """Return the initial carry for a batch of `size` texts: a tuple with zeros for each layer. No parameters are needed."""
        size, carries, features = checks.whole("size", size), [], self._features
        for layer in self.rnns:
            # The initial carry is zero, so only its shapes are needed, and no parameters are drawn.
            shapes = jax.eval_shape(partial(_initial_carry, layer, features, size), jax.random.key(0))
            carries.append(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
            features = layer.features_out
        return tuple(carries)

    def _checked(self, carry: PyTree) -> tuple[PyTree, ...]:
        # A NamedTuple is a tuple too: without the last test the carry of a single layer could pass for one of two layers.
        if not isinstance(carry, tuple) or len(carry) != len(self.sizes) or hasattr(carry, "_fields"):
            raise ValueError(
                f"carry must be a tuple with one entry for each of the {len(self.sizes)} layers: take initial_carry(batch)"
            )
        return carry

    def _dropped(self, xs: Array, k: int, rate: float | None, key: Array | None) -> Array:
        return parts.dropout(xs, self.dropout if rate is None else rate, key, constant=self.variational, name=f"dropout_{k}")

    def _logits(self, embed: nn.Embed, ys: Array) -> Float[Array, "batch time vocabulary"]:
        initial = Uniform(self.init_scale)
        if not self.tied:
            return nn.Dense(self.vocabulary, kernel_init=initial, bias_init=initial, name="head")(ys)
        # Tied (Press & Wolf, 2017): y Eᵀ with the embedding E.
        logits = embed.attend(ys)
        return logits + self.param("bias", initial, (self.vocabulary,)).astype(logits.dtype)[None, None]


def _initial_carry(layer: RNN, features: int, size: int, key: Array) -> PyTree:
    return layer.initial_carry(layer.init(key, features), (size,))
