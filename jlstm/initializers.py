"""Weight initializers by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_initializers
from jaxtyping import Array

from jlstm._src import values

Initializer = str | Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]

INITIALIZERS: dict[str, Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]] = {
    "glorot_normal": jax_initializers.glorot_normal(),
    "glorot_uniform": jax_initializers.glorot_uniform(),
    "he_normal": jax_initializers.he_normal(),
    "he_uniform": jax_initializers.he_uniform(),
    "lecun_normal": jax_initializers.lecun_normal(),
    "lecun_uniform": jax_initializers.lecun_uniform(),
    "ones": jax_initializers.ones,
    "orthogonal": jax_initializers.orthogonal(),  # the whole matrix, not each gate, as in Keras: Saxe et al., 2014
    "zeros": jax_initializers.zeros,
}


def initializer(name: Initializer) -> Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]:
    """Return the function `(key, shape, dtype) -> array` that `name` stands for; a callable stands for itself.

    Raises:
        ValueError: the name is not one of `INITIALIZERS`.
    """
    if callable(name):
        return name
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise ValueError(f"unknown initializer {values.brief(name)}: use a callable or one of {', '.join(sorted(INITIALIZERS))}")
    return INITIALIZERS[name]


def draw(name: Initializer, key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    """Draw a weight with the initializer `name`.

    16-bit weights are drawn in float32 and rounded, since `orthogonal` needs QR, which has no 16-bit form.

    Raises:
        TypeError: an initializer of the caller did not return an array of this shape.
    """
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    drawn = initializer(name)(key, shape, wide)
    if not hasattr(drawn, "astype") or drawn.shape != shape:
        got = f"shape {drawn.shape}" if hasattr(drawn, "astype") else type(drawn).__name__
        raise TypeError(
            f"an initializer must return an array of shape {shape}, got {got}: give a function of key, shape and dtype"
        )
    return drawn.astype(dtype)
