"""Operations on arrays that several cells share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jlstm.cell import PyTree


def broadcast_leading(weights: Float[Array, "*sizes"], x: Float[Array, "..."]) -> Array:
    """Reshape `weights` so that it broadcasts against the trailing axes of `x`."""
    # The axes are added explicitly: with `jax_numpy_rank_promotion="raise"` JAX refuses to add them by NumPy's rules.
    return jnp.expand_dims(weights, range(x.ndim - weights.ndim))


def clip(x: Array, bound: float | None) -> Array:
    """Limit `x` to ±bound; None is no limit."""
    return x if bound is None else jnp.clip(x, -bound, bound)


def masked_matmul(
    x: Float[Array, "... features"],
    kernel: Float[Array, "... features columns"],
    masks: Float[Array, "gates ... features"] | None,
    product: Callable[[Array, Array], Array] = jnp.matmul,
) -> Float[Array, "... columns"]:
    """Return x @ kernel, where the columns of each gate see x multiplied by the mask of that gate.

    Args:
        x: the left operand.
        kernel: the columns of all gates, side by side.
        masks: one mask for each gate, or one for all gates. None leaves x as it is.
        product: replaces the matrix product, by a convolution for example. The last axis of its result must be the columns.
    """
    if masks is None:
        return product(x, kernel)
    if len(masks) == 1:
        return product(x * masks[0], kernel)
    # Each gate needs another product, since its mask changes x. With a shared mask one product is enough.
    kernels = jnp.split(kernel, len(masks), axis=-1)
    return jnp.concatenate([product(x * mask, columns) for mask, columns in zip(masks, kernels, strict=True)], axis=-1)


def select(where: Bool[Array, "*batch"], yes: PyTree, no: PyTree) -> PyTree:
    """Apply `jnp.where` to two trees. The condition has the leading axes of their leaves and is broadcast over the others."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(lax.expand_dims(where, range(where.ndim, a.ndim)), a, b)

    return jax.tree.map(leaf, yes, no)
