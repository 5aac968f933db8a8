"""NeuralCache: predictions from the words that followed similar states of the recent past."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks


class CacheMemory(NamedTuple):
    """The last outputs of a language model and the token that followed each, the oldest first.

    Attributes:
        outputs: Outputs of the last layer.
        tokens: The token that followed.
        filled: False at places that have not been filled yet.
    """

    outputs: Float[Array, "batch size units"]
    tokens: Int[Array, "batch size"]
    filled: Bool[Array, "batch size"]


@dataclass(frozen=True)
class NeuralCache:
    """Mix the predictions of a language model with words that followed similar outputs in the recent past.

        p(w) = (1 - weight) · softmax(logits)(w) + weight · Σᵢ sᵢ [w = xᵢ₊₁],    s = softmaxᵢ(flatness · h_t·hᵢ)

    i runs over the last `size` steps before t: hᵢ is the output of the last layer, and xᵢ₊₁ the token that followed. Without a
    step before t, p is the model's own prediction. The model needs no training for it.

    Args:
        size: Number of steps that are remembered.
        flatness: Factor of the similarities. 0 counts all remembered steps alike.
        weight: Share of the cache in the prediction.

    Raises:
        ValueError: `size` is below 1, `flatness` is below 0, or `weight` is outside [0, 1).

    References:
        Grave, Joulin & Usunier 2017, "Improving Neural Language Models with a Continuous Cache",
        https://arxiv.org/abs/1612.04426.

    Examples:
        >>> import jax
        >>> from jlstm.models import LanguageModel, NeuralCache
        >>> model, text = LanguageModel(50, 8), jax.numpy.array([[3, 1, 4, 1, 5, 9, 2, 6]])
        >>> variables, cache = model.init(jax.random.key(0), text), NeuralCache(4, flatness=0.3, weight=0.1)
        >>> (logits, carry), state = model.apply(variables, text[:, :-1], mutable="intermediates")
        >>> (outputs,) = state["intermediates"]["outputs"]
        >>> log_probs, memory = cache(cache.initial_memory(1, 8), logits, outputs, text[:, 1:])
        >>> log_probs.shape  # of all tokens, at each step
        (1, 7, 50)
    """

    size: int = 500
    _: KW_ONLY
    flatness: float = 0.3
    weight: float = 0.1

    def __post_init__(self) -> None:
        checks.positive("size", self.size)
        object.__setattr__(self, "flatness", checks.bound("flatness", self.flatness, zero=True))
        object.__setattr__(self, "weight", checks.rate("weight", self.weight))

    def initial_memory(self, batch: int, units: int, dtype: jax.typing.DTypeLike = "float32") -> CacheMemory:
        """Return an empty memory for a number of texts and of units of the last layer.

        Raises:
            ValueError: A number is below 1.
        """
        shape = checks.positive("batch", batch), self.size
        empty = jnp.zeros((*shape, checks.positive("units", units)), dtype)
        return CacheMemory(empty, jnp.zeros(shape, "int32"), jnp.zeros(shape, bool))

    def __call__(
        self,
        memory: CacheMemory,
        logits: Float[Array, "batch time vocabulary"],
        outputs: Float[Array, "batch time units"],
        targets: Int[Array, "batch time"],
    ) -> tuple[Float[Array, "batch time vocabulary"], CacheMemory]:
        """Return the logarithms of the mixed probabilities at each step, and the memory after the last step.

        Args:
            memory: The memory before the first step: of `initial_memory`, or of the call for the window before.
            logits: The model's logits of the next token.
            outputs: The outputs of its last layer, without dropout.
            targets: The token that follows each step. A step's own target is used only from the next step on.

        Returns:
            The log-probabilities of all tokens, and the new memory.

        Raises:
            ValueError: The shapes do not fit.
        """
        shape = checks.array("logits", logits).shape
        fits = len(shape) == 3 and shape[:2] == targets.shape == outputs.shape[:2]
        if not fits or memory.outputs.shape != (shape[0], self.size, outputs.shape[-1]):
            raise ValueError(
                f"logits (batch, time, vocabulary), outputs (batch, time, units), targets (batch, time) and the memory must fit, "
                f"got {shape}, {outputs.shape}, {targets.shape} and a memory of {memory.outputs.shape}"
            )
        return jax.vmap(self._of_one_text)(memory, logits, outputs, targets)

    def _of_one_text(
        self, memory: CacheMemory, logits: Array, outputs: Array, targets: Array
    ) -> tuple[Float[Array, "time vocabulary"], CacheMemory]:
        time, vocabulary = logits.shape
        known = CacheMemory(outputs, targets.astype("int32"), jnp.ones(time, bool))
        joined = jax.tree.map(lambda old, new: jnp.concatenate([old, new.astype(old.dtype)]), memory, known)
        # Step t sees the places t to t + size - 1 of the joined memory: the `size` steps before it.
        distance = jnp.arange(time + self.size)[None] - jnp.arange(time)[:, None]
        visible = (distance >= 0) & (distance < self.size) & joined.filled[None]
        scores = jnp.where(visible, self.flatness * outputs @ joined.outputs.T, -jnp.inf)
        has_any = visible.any(1, keepdims=True)
        shares = jax.nn.softmax(jnp.where(has_any, scores, 0), axis=1)
        of_cache = jax.vmap(lambda share: jnp.zeros(vocabulary, share.dtype).at[joined.tokens].add(share))(shares)
        log_weights = jnp.log1p(-self.weight), jnp.log(of_cache) + jnp.log(self.weight)
        of_model = jax.nn.log_softmax(logits)
        mixed = jnp.logaddexp(of_model + log_weights[0], log_weights[1])
        return jnp.where(has_any, mixed, of_model), jax.tree.map(lambda leaf: leaf[time:], joined)
