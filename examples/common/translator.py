"""The network of 07_translation.py: a bidirectional encoder, and a decoder that attends to its outputs."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jlstm
from common.translation_tasks import CHARACTERS, END, PAD, START, Pairs
from jlstm.attention import Attention, with_memory
from jlstm.models import Beams, beam_search
from jlstm.train import Outcome

glorot = jax.nn.initializers.glorot_uniform()


@dataclass(frozen=True)
class Translator:
    """Pure functions of parameters: embedding → bidirectional LSTM; embedding → LSTM with attention → logits.

    Args:
        units: units of the decoder. The encoder has half as many in each direction.
        score: "additive" or "multiplicative".
    """

    units: int
    score: str

    @property
    def encoder(self) -> jlstm.Layer:
        """The layer that reads the source."""
        return jlstm.Bidirectional(jlstm.LSTM(self.units // 2))

    @property
    def decoder(self) -> jlstm.Layer:
        """The layer that writes the target. It attends to the outputs of the encoder."""
        cell = jlstm.LSTMCell(self.units)
        memory = self.encoder.features_out
        return jlstm.RNN(Attention(cell, memory, score=self.score, attention_features=self.units, activation="tanh"))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draw the parameters. Source and target share an embedding."""
        for_embedding, for_encoder, for_decoder, for_head = jax.random.split(key, 4)
        count = len(CHARACTERS)
        return {
            "embedding": glorot(for_embedding, (count, self.units // 2)),
            "encoder": self.encoder.init(for_encoder, self.units // 2),
            "decoder": self.decoder.init(for_decoder, self.units // 2),
            "head": {"kernel": glorot(for_head, (self.units, count)), "bias": jnp.zeros(count)},
        }

    def read(self, params: Any, source: jax.Array, lengths: jax.Array) -> Any:
        """Return the parameters of the decoder with the source as its memory."""
        _, memory = self.encoder.apply(params["encoder"], params["embedding"][source], lengths=lengths)
        return with_memory(params["decoder"], memory, lengths=lengths)

    def logits(self, params: Any, pairs: Pairs) -> tuple[jax.Array, jax.Array]:
        """Return the logits of each token of the target from all tokens before it, and the weights of the attention.

        The inputs are the right tokens, not those that the network would write: this is teacher forcing.
        """
        inputs = jnp.pad(pairs.target[:, :-1], ((0, 0), (1, 0)), constant_values=START)
        bound = self.read(params, pairs.source, pairs.lengths)
        _, states = jlstm.cell_states(self.decoder, bound, params["embedding"][inputs])
        return self._head(params, states.attention), states.weights

    def loss(self, params: Any, pairs: Pairs, _key: Any, carry: None) -> Outcome:
        """Return the cross-entropy in nats, summed over the target, and the share of texts of which every token is likeliest."""
        logits, _ = self.logits(params, pairs)
        counts = pairs.target != PAD
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, pairs.target) * counts
        right = ((logits.argmax(-1) == pairs.target) | ~counts).all(1)
        return Outcome(nats.sum(1), {"right": right}, carry)

    def translate(self, params: Any, source: jax.Array, lengths: jax.Array, *, width: int, length: int) -> Beams:
        """Return the texts that a beam search finds; with a width of 1, a greedy search."""
        bound = self.read(params, source, lengths)
        # One memory for all beams: an axis of size 1 stands for the axis of the beams.
        bound |= {"memory": jax.tree.map(lambda leaf: leaf[:, None], bound["memory"])}

        def step(carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
            carry, attention = self.decoder.step(bound, carry, params["embedding"][tokens])
            return carry, self._head(params, attention)

        carry = self.decoder.initial_carry(bound, (len(source), width))
        return beam_search(step, carry, start=START, end=END, length=length)

    def _head(self, params: Any, attention: jax.Array) -> jax.Array:
        return attention @ params["head"]["kernel"] + params["head"]["bias"]
