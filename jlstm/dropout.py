"""Variational dropout: masks drawn once for a sequence, and the product that sees them."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def bernoulli_masks(
    key: Array | None, rates: Mapping[str, float], shapes: Mapping[str, tuple[int, ...]], dtype: jax.typing.DTypeLike
) -> dict[str, Array]:
    """Draw for each name with a rate p > 0 a mask that is 0 with probability p and else 1 / (1 - p); without a key draw none."""
    active = [name for name, rate in rates.items() if rate]
    if key is None or not active:
        return {}
    keys = jax.random.split(key, len(active))
    return {
        name: jax.random.bernoulli(k, 1 - rates[name], shapes[name]).astype(dtype) / (1 - rates[name])
        for name, k in zip(active, keys, strict=True)
    }


def gated_matmul(
    x: Float[Array, "... features"],
    kernel: Float[Array, "... features columns"],
    masks: Float[Array, "gates ... features"] | None,
    product: Callable[[Array, Array], Array] = jnp.matmul,
) -> Float[Array, "... columns"]:
    """x @ kernel, where the columns of each gate see x under that gate's mask; one mask serves all gates, None none.

    Another `product` than that of matrices makes columns of a kernel too.
    """
    if masks is None:
        return product(x, kernel)
    if len(masks) == 1:
        return product(x * masks[0], kernel)
    columns = jnp.split(kernel, len(masks), axis=-1)
    return jnp.concatenate([product(x * mask, part) for mask, part in zip(masks, columns, strict=True)], axis=-1)
