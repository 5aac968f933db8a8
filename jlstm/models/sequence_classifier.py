"""SequenceClassifier: one class, or one yes-or-no answer, for a sequence of tokens."""

from dataclasses import KW_ONLY

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm.initializers import Initializer, initializer
from jlstm.layers import Layer, Stack
from jlstm.linen import Recurrent
from jlstm.models import parts, pooling
from jlstm.models.uniform import Uniform


class SequenceClassifier(nn.Module):
    """Sequence classifier: an embedding, recurrent layers, pooling over time, and a dense layer.

        Embed → layer [→ dropout → layer]… → pool → dropout → Dense

    The parameters are `embed/embedding` (vocabulary, features); `layer_0`, `layer_1`, … from the `init` of each layer;
    `head/kernel` (features_out, classes) and `head/bias` (classes,). A Keras model has the same weights in the same order.

    Args:
        vocabulary: Number of different tokens. A traced token ≥ `vocabulary` makes the logits NaN.
        features: Number of features of the embedding.
        layer: A recurrent layer, or a tuple of layers, the lowest first.
        classes: Number of logits. For one class, the logits have no class axis.
        dropout: Dropout rate of the outputs of each layer, with a new mask at every step. After the last layer it applies to the
            pooled vector. Dropout of the embedding and inside a layer is an option of the layer: `LSTM(10, dropout=0.2)`.
        variational: Use the same dropout mask at all steps between layers (Gal & Ghahramani 2016).
        masked: Treat token 0 as padding at every position. Padding does not change the carry and is not pooled.
        pool: "last", "mean" or "max" over the steps that count. "last" is the output at the last step, for a layer that runs
            backwards at the first step, and for a Bidirectional the merged outputs of both directions at their own last steps.
            If no step counts, the pooled vector is zero.
        embedding_init: A name or a callable `(key, shape, dtype) -> array`. The default is uniform in ±0.05, as in Keras.

    Raises:
        ValueError: A size is below 1, a rate is outside [0, 1), `pool` is unknown, or a layer is time-major or has merge=None.
        TypeError: `layer` is not a layer.

    Reference: `variational`: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks", https://arxiv.org/abs/1512.05287.

    Differs from: `DropoutWrapper(cell, output_keep_prob=p)` of TensorFlow 1 around every layer corresponds to `dropout=1-p` with
    pool="last". Its dropout at the earlier steps of the last layer has no effect on the result.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.models import SequenceClassifier
        >>> model = SequenceClassifier(5_000, 15, jlstm.LSTM(10), masked=True, dropout=0.2)
        >>> tokens = jax.numpy.array([[0, 0, 1, 14, 22], [1, 7, 7, 3, 0]])
        >>> params = model.init(jax.random.key(0), tokens)["params"]
        >>> logits = model.apply({"params": params}, tokens, key=jax.random.key(1))  # with dropout; without a key there is none
        >>> logits.shape
        (2,)
    """

    vocabulary: int
    features: int
    layer: Layer | tuple[Layer, ...]
    _: KW_ONLY
    classes: int = 1
    dropout: float = 0.0
    variational: bool = False
    masked: bool = False
    pool: str = "last"
    embedding_init: Initializer = Uniform(0.05)

    def __post_init__(self) -> None:
        for name in ("vocabulary", "features", "classes"):
            checks.positive(name, getattr(self, name))
        self.dropout = checks.rate("dropout", self.dropout)
        checks.flag("variational", self.variational)
        checks.flag("masked", self.masked)
        checks.one_of("pool", self.pool, ("last", "mean", "max"))
        initializer(self.embedding_init)
        if not isinstance(self.layer, Layer):
            self.layer = Stack(self.layer).layers  # Stack also checks the layers
        layers = self._layers
        if layers[0].time_major or layers[-1].unmerged:
            raise ValueError(
                "layer must not have time_major=True or merge=None: tokens are (batch, time) and pooled to one vector"
            )
        if self.pool == "last":
            # Raises ValueError for a layer without a last step: here, and not only when the model is called.
            layers[-1].unmerge()
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], *, lengths: Int[Array, " batch"] | None = None, key: Array | None = None
    ) -> Float[Array, " batch *classes"]:
        """Return the logits (batch, classes), or (batch,) for one class.

        Args:
            tokens: Indices into the vocabulary, of an integer dtype.
            lengths: Number of leading steps of each sequence that count. Not allowed together with `masked`.
            key: Random key that enables dropout. The `"dropout"` rng of `apply` does the same. Without either, no dropout.

        Raises:
            ValueError: `tokens` has the wrong shape, no steps or a token outside the vocabulary, or `lengths` does not fit or is
                given to a masked model.
            TypeError: `tokens` or `lengths` has no integer dtype.
        """
        tokens, layers = parts.tokens("tokens", tokens, self.vocabulary, least=1), self._layers
        # For each layer one key for its own dropout, and one for the dropout of its outputs.
        mask, keys = self._mask(tokens, lengths), parts.keys(self, key, 2 * len(layers))
        xs = nn.Embed(self.vocabulary, self.features, embedding_init=initializer(self.embedding_init), name="embed")(tokens)
        for k, layer in enumerate(layers):
            is_last = k == len(layers) - 1
            # "last" needs both directions of a Bidirectional separately, since their last steps differ. Pooling merges them.
            unmerged = layer.unmerge() if is_last and self.pool == "last" else layer
            xs = Recurrent(unmerged, name=f"layer_{k}")(xs, **parts.without_none(mask=mask, key=keys[2 * k]))[1]
            if is_last:
                xs = self._pooled(layer, xs, mask)
            constant = self.variational and not is_last  # the pooled vector has no time axis
            xs = parts.dropout(xs, self.dropout, keys[2 * k + 1], constant=constant, name=f"dropout_{k}")
        logits = nn.Dense(self.classes, name="head")(xs)
        return logits[:, 0] if self.classes == 1 else logits

    @property
    def stochastic(self) -> bool:
        """Whether a random key changes the results, because it turns dropout on."""
        return self.dropout > 0 or any(layer.stochastic for layer in self._layers)

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return (self.layer,) if isinstance(self.layer, Layer) else self.layer

    def _mask(self, tokens: Array, lengths: Array | None) -> Bool[Array, "batch time"] | None:
        if lengths is None:
            # Token 0 is padding, as with `mask_zero=True` in an Embedding of Keras.
            return tokens != 0 if self.masked else None
        if self.masked:
            raise ValueError("lengths are given to a model with masked=True, which sees from the zeros what counts: drop one")
        lengths = checks.lengths(lengths, tokens.shape[:1], tokens.shape[1])
        return jnp.arange(tokens.shape[1])[None] < lengths[:, None]

    def _pooled(self, layer: Layer, ys: Array, mask: Array | None) -> Float[Array, "batch features"]:
        if self.pool == "last":
            return pooling.last(layer, ys, mask)
        return pooling.mean(ys, mask) if self.pool == "mean" else pooling.highest(ys, mask)
