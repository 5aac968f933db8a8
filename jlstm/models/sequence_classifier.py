"""SequenceClassifier: tokens, an embedding, recurrent layers, one vector a sequence, logits."""

from dataclasses import KW_ONLY

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.initializers import Initializer, initializer
from jlstm.layers import Layer, Stack
from jlstm.linen import Recurrent
from jlstm.models import parts, pooling
from jlstm.models.uniform import Uniform


class SequenceClassifier(nn.Module):
    """Embedding, recurrent layers, one vector for the whole sequence, Dense.

        Embed → layer [→ dropout → layer]… → pool → dropout → Dense

    Parameters: `embed/embedding` (vocabulary, features); `layer_0`, `layer_1`, … as each layer's `init` makes them;
    `head/kernel` (features_out, classes) and `head/bias` (classes,). These are a Keras model's weights, in its order.

    Args:
        vocabulary: number of different tokens; a token from there on makes the logits NaN.
        features: of the embedding.
        layer: a recurrent layer, or a tuple of them, the lowest first.
        classes: number of logits; for 1 they lose that axis.
        dropout: share of the outputs of each layer that is zeroed, at every step with a new mask; above the last layer, of what
            was pooled. Dropout of the embedding and inside a layer is the layer's own: `LSTM(10, dropout=0.2)`.
        variational: between layers, the same mask at all steps (Gal & Ghahramani 2016).
        masked: token 0 is padding wherever it stands: such steps leave the carry as it is and are not pooled.
        pool: "last", the output of the last step that counts (of a layer that runs backwards, of the first; of a Bidirectional,
            each direction's own, merged), "mean" or "max" over all steps that count. Where none counts, it is zero.
        embedding_init: a name or a callable `(key, shape, dtype) -> array`; uniform in ±0.05 as Keras.

    Raises:
        ValueError: a size below 1, a rate outside [0, 1), an unknown pool, a layer that is time-major or merges nothing.
        TypeError: a layer that is none.

    Differs from: TensorFlow 1's `DropoutWrapper(cell, output_keep_prob=p)` around every layer is `dropout=1-p` here with
    pool="last": what it drops at the steps before the last of the uppermost layer reaches nothing.

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
            self.layer = Stack(self.layer).layers  # which checks them, too
        layers = self._layers
        if layers[0].time_major or layers[-1].unmerged:
            raise ValueError(
                "layer must not have time_major=True or merge=None: tokens are (batch, time) and pooled to one vector"
            )
        if self.pool == "last":
            pooling.apart(layers[-1])
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], *, lengths: Int[Array, " batch"] | None = None, key: Array | None = None
    ) -> Float[Array, "batch *classes"]:
        """Return the logits (batch, classes), or (batch,) for one class.

        Args:
            tokens: indices into the vocabulary.
            lengths: how many steps of each sequence count, from its first; instead of `masked`.
            key: turns dropout on, as a `"dropout"` rng given to `apply` does; without either it is inference.

        Raises:
            ValueError: `tokens` has another shape or no steps, `lengths` do not fit or are given to a masked model.
            TypeError: `tokens` or `lengths` are not whole numbers.
        """
        tokens, layers = parts.tokens("tokens", tokens, self.vocabulary, least=1), self._layers
        mask, keys = self._mask(tokens, lengths), parts.keys(self, key, 2 * len(layers))
        xs = nn.Embed(self.vocabulary, self.features, embedding_init=initializer(self.embedding_init), name="embed")(tokens)
        for k, layer in enumerate(layers):
            top = k == len(layers) - 1
            run = pooling.apart(layer) if top and self.pool == "last" else layer
            xs = Recurrent(run, name=f"layer_{k}")(xs, **parts.given(mask=mask, key=keys[2 * k]))[1]
            if top:
                xs = self._pooled(layer, xs, mask)
            constant = self.variational and not top
            xs = parts.dropout(xs, self.dropout, keys[2 * k + 1], constant=constant, name=f"dropout_{k}")
        logits = nn.Dense(self.classes, name="head")(xs)
        return logits[:, 0] if self.classes == 1 else logits

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return (self.layer,) if isinstance(self.layer, Layer) else self.layer

    def _mask(self, tokens: Array, lengths: Array | None) -> Bool[Array, "batch time"] | None:
        if lengths is None:
            return tokens != 0 if self.masked else None
        if self.masked:
            raise ValueError("lengths are given to a model with masked=True, which sees from the zeros what counts: drop one")
        lengths = checks.lengths(lengths, tokens.shape[:1], tokens.shape[1])
        return jnp.arange(tokens.shape[1])[None] < lengths[:, None]

    def _pooled(self, layer: Layer, ys: Array, mask: Array | None) -> Float[Array, "batch features"]:
        if self.pool == "last":
            return pooling.last(layer, ys, mask)
        return pooling.mean(ys, mask) if self.pool == "mean" else pooling.highest(ys, mask)
