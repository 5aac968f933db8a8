"""The symmetric uniform distribution that Keras' embeddings and Zaremba's language models start from."""

from collections.abc import Callable
from functools import cache

import jax
from jaxtyping import Array


@cache
def uniform(scale: float) -> Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]:
    """Return the initialiser that draws from [-scale, scale): one object for one scale, so that equal layers stay equal.

    Examples:
        >>> import jax
        >>> weights = uniform(0.05)(jax.random.key(0), (100, 15), "float32")
        >>> bool(abs(weights).max() <= 0.05)
        True
    """

    def draw(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = "float32") -> Array:
        return jax.random.uniform(key, shape, dtype, -scale, scale)

    return draw
