"""Additive and multiplicative attention as functions, and the softmax over the positions that count."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arguments import answered
from jlstm._src.arrays import broadcast_leading


class Attended(NamedTuple):
    """The result of attention.

    Attributes:
        context: the mean of the values, weighted by the weights: (*batch, size), or (*batch, targets, size).
        weights: the weight of each position of the source: (*batch, source), or (*batch, targets, source). They sum to 1, or are
            all zero where no position counts.
    """

    context: Float[Array, "*batch size"]
    weights: Float[Array, "*batch source"]


@answered("additive_attention")
def additive_attention(
    query: Float[Array, "*batch units"],
    keys: Float[Array, "*batch source units"],
    values: Float[Array, "*batch source size"],
    scale: Float[Array, " units"] | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch source"] | None = None,
) -> Attended:
    """Attend by a tanh of the sum of query and key.

        score_s = v · tanh(query + key_s),  weights = softmax(score),  context = Σ_s weights_s value_s

    Args:
        query: what to look for: (*batch, units), or (*batch, targets, units) for several queries at once.
        keys: what the query is compared with (*batch, source, units).
        values: what the context is a mean of (*batch, source, size).
        scale: the vector v (units,). None takes ones.
        lengths: number of positions of each source that count, from the first one; the others are padding. Traced lengths cannot
            be checked; they are clipped to [0, source].
        mask: True at each position that counts, in place of `lengths`. A position that does not count, even NaN, reaches neither
            results nor gradients.

    Returns:
        Context and weights. Both are zero where no position counts.

    Raises:
        ValueError: a shape does not fit, concrete `lengths` are out of range, or `lengths` and `mask` are both given.
        TypeError: `query`, `keys` or `values` is not floating, `lengths` are not integers, or `mask` is not boolean.

    Reference: Bahdanau, Cho & Bengio, 2015, "Neural machine translation by jointly learning to align and translate",
    https://arxiv.org/abs/1409.0473. The query is W s and the keys are U h there.

    Differs from: Keras's AdditiveAttention makes equal weights where no position counts.

    Examples:
        >>> import jax.numpy as jnp
        >>> query, keys, values = jnp.ones((2, 4)), jnp.ones((2, 3, 4)), jnp.ones((2, 3, 5))
        >>> context, weights = additive_attention(query, keys, values, lengths=jnp.array([2, 0]))
        >>> context.shape, weights.tolist()
        ((2, 5), [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    """
    query, keys, values, mask, single = _checked(query, keys, values, lengths, mask)
    if scale is not None and (scale := checks.array("scale", scale)).shape != keys.shape[-1:]:
        raise ValueError(f"scale must have shape {keys.shape[-1:]}, a factor for each unit of the keys, got {scale.shape}")
    return _single(attend(additive_scores(query, keys, scale), values, mask), single)


@answered("multiplicative_attention")
def multiplicative_attention(
    query: Float[Array, "*batch units"],
    keys: Float[Array, "*batch source units"],
    values: Float[Array, "*batch source size"],
    scale: Float[Array, ""] | float | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch source"] | None = None,
) -> Attended:
    """Attend by the product of query and key.

        score_s = g query · key_s,  weights = softmax(score),  context = Σ_s weights_s value_s

    Args:
        query: what to look for: (*batch, units), or (*batch, targets, units) for several queries at once.
        keys: what the query is compared with (*batch, source, units).
        values: what the context is a mean of (*batch, source, size).
        scale: the factor g, a number. None takes 1. A Transformer has 1 / √units.
        lengths: as for `additive_attention`.
        mask: as for `additive_attention`.

    Returns:
        Context and weights. Both are zero where no position counts.

    Raises:
        ValueError: as for `additive_attention`.
        TypeError: as for `additive_attention`.

    Reference: Luong, Pham & Manning, 2015, "Effective approaches to attention-based neural machine translation",
    https://arxiv.org/abs/1508.04025. This is its score "dot", or "general" for keys W h.

    Differs from: Keras's Attention makes equal weights where no position counts.

    Examples:
        >>> import jax.numpy as jnp
        >>> query, keys = jnp.array([2.0, 0.0]), 100 * jnp.eye(2)
        >>> multiplicative_attention(query, keys, values=jnp.array([[7.0], [9.0]])).context.tolist()
        [7.0]
    """
    query, keys, values, mask, single = _checked(query, keys, values, lengths, mask)
    if scale is not None and (scale := checks.array("scale", scale)).ndim:
        raise ValueError(f"scale must be a number, got an array of shape {scale.shape}: multiply the query by it")
    return _single(attend(multiplicative_scores(query, keys, scale), values, mask), single)


def additive_scores(query: Array, keys: Array, scale: Array | None) -> Float[Array, "*batch targets source"]:
    """Return v · tanh(query + key) for each pair of a query (*batch, targets, units) and a key (*batch, source, units)."""
    hidden = jnp.tanh(query[..., :, None, :] + keys[..., None, :, :])
    return (hidden if scale is None else hidden * broadcast_leading(scale.astype(hidden.dtype), hidden)).sum(-1)


def multiplicative_scores(query: Array, keys: Array, scale: Array | None) -> Float[Array, "*batch targets source"]:
    """Return g query · key for each pair of a query (*batch, targets, units) and a key (*batch, source, units)."""
    scores = query @ jnp.swapaxes(keys, -1, -2)
    return scores if scale is None else scores * scale.astype(scores.dtype)


def attend(scores: Array, values: Array, mask: Array | None) -> Attended:
    """Return the context (*batch, targets, size) and the weights (*batch, targets, source).

    Args:
        scores: (*batch, targets, source).
        values: (*batch, source, size).
        mask: True at the positions that count (*batch, source). None means that all count.
    """
    weights = softmax(
        scores, jnp.ones((1,) * (scores.ndim - 1) + scores.shape[-1:], bool) if mask is None else mask[..., None, :]
    )
    return Attended(weights @ values, weights)


def softmax(scores: Array, counts: Bool[Array, "... source"]) -> Array:
    """Return the softmax over the last axis of the scores that count, and zero for the others.

    It is all zero where none counts. `jax.nn.softmax(where=)` has NaN as its gradient there.
    """
    largest = lax.stop_gradient(jnp.where(counts, scores, -jnp.inf).max(axis=-1, keepdims=True, initial=-jnp.inf))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)  # where none counts: -inf - -inf would be NaN
    # The inner `where` keeps scores that do not count from overflowing, whose gradient would be 0 · inf = NaN.
    powers = jnp.where(counts, jnp.exp(jnp.where(counts, scores - largest, 0)), 0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total > 0, total, 1)


def positions(lengths: Any, mask: Any, shape: tuple[int, ...], source: str) -> Bool[Array, "*batch source"] | None:
    """Return the mask of the positions that count, or None if the caller passed neither `lengths` nor `mask`.

    Args:
        lengths: the lengths that the caller passed, or None.
        mask: the mask that the caller passed, or None.
        shape: the sizes (*batch, source).
        source: what the messages call the source, such as "keys".

    Raises:
        ValueError: both are passed, or one has another shape.
        TypeError: the lengths are not integers, or the mask is not boolean.
    """
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask are both given, expected at most one: put the lengths into the mask, or drop one")
    if lengths is not None:
        lengths = checks.lengths(lengths, shape[:-1], shape[-1], of=source)
        return jnp.expand_dims(jnp.arange(shape[-1]), range(lengths.ndim)) < jnp.expand_dims(lengths, -1)
    return None if mask is None else checks.flags("mask", mask, shape, source)


def _checked(query: Any, keys: Any, values: Any, lengths: Any, mask: Any) -> tuple[Array, Array, Array, Array | None, bool]:
    """Return the arguments with an axis of targets, without what stands at padding, and whether there was one query only."""
    query = checks.inputs("query", query, axes=("units",))
    keys = checks.inputs("keys", keys, axes=("source", "units"))
    values = checks.inputs("values", values, axes=("source", "size"))
    batch = keys.shape[:-2]
    if values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(f"values must have the shape {keys.shape[:-1]} of the keys, and a size, got {values.shape}")
    single = query.ndim == keys.ndim - 1
    if query.shape[: len(batch)] != batch or query.shape[-1:] != keys.shape[-1:] or query.ndim not in (keys.ndim - 1, keys.ndim):
        wanted = f"{(*batch, keys.shape[-1])}, or {(*batch, 'targets', keys.shape[-1])} for several queries"
        raise ValueError(f"query must have shape {wanted}, as the keys {keys.shape} have, got {query.shape}".replace("'", ""))
    mask = positions(lengths, mask, keys.shape[:-1], "keys")
    if mask is not None:  # padding may hold NaN, and NaN · 0 would be part of the gradients of the query and the weights
        keys, values = (jnp.where(mask[..., None], array, 0) for array in (keys, values))
    return query[..., None, :] if single else query, keys, values, mask, single


def _single(attended: Attended, single: bool) -> Attended:
    """Remove the axis of targets if there was one query only."""
    return Attended(*(array[..., 0, :] for array in attended)) if single else attended
