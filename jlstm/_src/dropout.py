"""Variational dropout: masks that are drawn once for a sequence."""

from collections.abc import Mapping

import jax
from jaxtyping import Array


def bernoulli_masks(
    key: Array | None, rates: Mapping[str, float], shapes: Mapping[str, tuple[int, ...]], dtype: jax.typing.DTypeLike
) -> dict[str, Array]:
    """Draw a mask for each name whose rate p is above 0; without a key, draw none.

    An entry of a mask is 0 with probability p, and else 1 / (1 - p), so that its expectation is 1.
    """
    active = [name for name, rate in rates.items() if rate]
    if key is None or not active:
        return {}
    keys = jax.random.split(key, len(active))
    return {
        # Entries that stay are scaled up by 1 / (1 - p), so that inference needs no factor.
        name: jax.random.bernoulli(k, 1 - rates[name], shapes[name]).astype(dtype) / (1 - rates[name])
        for name, k in zip(active, keys, strict=True)
    }
