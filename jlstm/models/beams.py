"""beam_search: the most likely sequences of a decoder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jlstm._src import checks
from jlstm.cell import PyTree


class Beams(NamedTuple):
    """The sequences that a beam search found, the best one first.

    Attributes:
        tokens: (batch, width, length). Steps after the end hold the end token.
        log_probs: the sum of the log-probabilities of the tokens, up to the end token (batch, width).
        lengths: number of tokens before the end token (batch, width).
    """

    tokens: Int[Array, "batch width length"]
    log_probs: Float[Array, "batch width"]
    lengths: Int[Array, "batch width"]


def beam_search(
    step: Callable[[PyTree, Array], tuple[PyTree, Array]],
    carry: PyTree,
    *,
    start: int,
    end: int,
    length: int,
    length_penalty: float = 0.0,
) -> Beams:
    """Search for the most likely sequences of a decoder. A width of 1 is a greedy search.

    At each step, every sequence is continued by every token, and the `width` best continuations remain. A sequence that has
    reached the end token stays as it is. Sequences are compared by

        log p(tokens) / ((5 + n) / 6) ^ length_penalty,  where n is the number of tokens, the end token included

    Args:
        step: maps a carry and the last tokens (batch, width), int32, to the next carry and the logits of the next token
            (batch, width, vocabulary).
        carry: the initial carry. All its arrays have the leading axes (batch, width), as those of
            `layer.initial_carry(params, (batch, width))`. These axes also say how wide the search is.
        start: the token before the first one.
        end: the token that ends a sequence.
        length: number of steps.
        length_penalty: 0 compares log-probabilities; larger numbers favor longer sequences.

    Returns:
        The sequences, sorted. If fewer sequences exist than the search is wide, the last ones have a log-probability of -inf.

    Raises:
        ValueError: `length` is below 1, `start` or `end` is not a token, or the arrays of `carry` do not share two leading axes.
        TypeError: `step` is not a function, the logits are not floating, or `length_penalty` is not a number.

    References:
        Beam search for translation: Sutskever, Vinyals & Le, 2014, "Sequence to sequence learning with neural networks",
        https://arxiv.org/abs/1409.3215.
        `length_penalty`: Wu et al., 2016, "Google's neural machine translation system", section 7,
        https://arxiv.org/abs/1609.08144.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jlstm.models import beam_search
        >>> logits = jnp.log(jnp.array([0.5, 0.3, 0.2]))  # of the tokens 0, 1 and 2, whatever came before
        >>> step = lambda carry, tokens: (carry, jnp.broadcast_to(logits, (*tokens.shape, 3)))
        >>> beams = beam_search(step, jnp.zeros((1, 2)), start=0, end=2, length=2)
        >>> beams.tokens[0].tolist(), [round(float(p), 2) for p in jnp.exp(beams.log_probs[0])]
        ([[0, 0], [0, 1]], [0.25, 0.15])
    """
    checks.function("step", step, "of carry and tokens")
    batch, width = _sizes(carry)
    start, end, length = checks.whole("start", start), checks.whole("end", end), checks.positive("length", length)
    penalty = checks.number("length_penalty", length_penalty)
    first = jax.eval_shape(step, carry, jax.ShapeDtypeStruct((batch, width), jnp.int32))[1]
    if first.shape[:-1] != (batch, width) or not end < first.shape[-1]:
        raise ValueError(f"step must return logits ({batch}, {width}, vocabulary) with more than {end} tokens, got {first.shape}")
    if start >= first.shape[-1]:
        raise ValueError(f"start must be a token below {first.shape[-1]}, got {start}")
    vocabulary, dtype = first.shape[-1], checks.float_dtype("the dtype of the logits", first.dtype)
    dtype = dtype if jnp.finfo(dtype).bits >= 32 else np.dtype("float32")  # sums over many steps would lose digits in 16 bits

    def extend(state: tuple[PyTree, Array, Beams], k: Array) -> tuple[tuple[PyTree, Array, Beams], None]:
        carry, last, beams = state
        carry, logits = step(carry, last)
        ended = (beams.lengths < k)[..., None]
        is_end = (jnp.arange(vocabulary) == end)[None, None]
        # An ended sequence has one continuation, by another end token, which costs nothing.
        log_probs = jnp.where(ended, jnp.where(is_end, 0, -jnp.inf), jax.nn.log_softmax(logits.astype(dtype), axis=-1))
        totals = (beams.log_probs[..., None] + log_probs).reshape(batch, width * vocabulary)
        counts = jnp.where(ended, beams.lengths[..., None] + 1, k + 1)
        penalties = (((5 + counts) / 6).astype(dtype) ** penalty).repeat(vocabulary, axis=-1).reshape(totals.shape)
        _, best = jax.lax.top_k(totals / penalties, width)
        parents, tokens = best // vocabulary, (best % vocabulary).astype(jnp.int32)
        carry, sequences, lengths = jax.tree.map(lambda leaf: _rows(leaf, parents), (carry, beams.tokens, beams.lengths))
        lengths = jnp.where((lengths == k) & (tokens != end), k + 1, lengths)
        beams = Beams(sequences.at[..., k].set(tokens), jnp.take_along_axis(totals, best, axis=1), lengths)
        return (carry, tokens, beams), None

    # Only the first sequence counts at first: all are equal, and the best continuations would come once from each of them.
    log_probs = jnp.broadcast_to(jnp.where(jnp.arange(width) == 0, 0, -jnp.inf).astype(dtype)[None], (batch, width))
    nothing = Beams(jnp.full((batch, width, length), end, jnp.int32), log_probs, jnp.zeros((batch, width), jnp.int32))
    state = (carry, jnp.full((batch, width), start, jnp.int32), nothing)
    (_, _, beams), _ = jax.lax.scan(extend, state, jnp.arange(length, dtype=jnp.int32))
    return beams


def _sizes(carry: Any) -> tuple[int, int]:
    """Return the batch size and the width, which are the first axes of all arrays of a carry."""
    checks.arrays("carry", carry)
    shapes = sorted({jnp.shape(leaf)[:2] for leaf in jax.tree.leaves(carry)})
    if len(shapes) != 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        got = checks.brief(shapes) if shapes else "none"
        raise ValueError(f"the arrays of carry must share the leading axes (batch, width), got {got}")
    batch, width = shapes[0]
    return batch, width


def _rows(leaf: Array, parents: Int[Array, "batch width"]) -> Array:
    """Return for each sequence the entry of the sequence that it continues."""
    return jax.vmap(lambda rows, chosen: rows[chosen])(leaf, parents)
