"""Weight initializers by name.

References:
    "glorot_…": Glorot & Bengio, 2010, "Understanding the difficulty of training deep feedforward neural networks",
    https://proceedings.mlr.press/v9/glorot10a.html.
    "he_…": He et al., 2015, "Delving deep into rectifiers: surpassing human-level performance on ImageNet classification",
    https://arxiv.org/abs/1502.01852.
    "lecun_…": LeCun, Bottou, Orr & Müller, 1998, "Efficient backprop", https://doi.org/10.1007/3-540-49430-8_2.
    "orthogonal": Saxe, McClelland & Ganguli, 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", https://arxiv.org/abs/1312.6120.
"""

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


def initializer(name_or_function: Initializer) -> Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]:
    """Return the function `(key, shape, dtype) -> array` that a name stands for; a function stands for itself.

    Args:
        name_or_function: a name in `INITIALIZERS`, or such a function.

    Returns:
        The function.

    Raises:
        ValueError: the argument is neither a function nor a name in `INITIALIZERS`.
    """
    if callable(name_or_function):
        return name_or_function
    if not isinstance(name_or_function, str) or name_or_function not in INITIALIZERS:
        got = values.brief(name_or_function)
        raise ValueError(f"unknown initializer {got}: use a callable or one of {', '.join(sorted(INITIALIZERS))}")
    return INITIALIZERS[name_or_function]


def draw(name_or_function: Initializer, key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    """Draw a weight.

    Weights of fewer than 32 bits, such as bfloat16 and float16, are drawn in float32 and rounded, since `orthogonal` needs the QR
    decomposition, which JAX does not have for them.

    Args:
        name_or_function: a name in `INITIALIZERS`, or a function `(key, shape, dtype) -> array`.
        key: a random key.
        shape: the shape of the weight.
        dtype: the dtype of the weight. A function gets this dtype, or float32 if this has fewer than 32 bits.

    Returns:
        The weight.

    Raises:
        TypeError: the function did not return an array of this shape.
        ValueError: the name is not one of `INITIALIZERS`.

    Examples:
        >>> import jax
        >>> weight = draw("orthogonal", jax.random.key(0), (4, 16), "float32")
        >>> bool(jax.numpy.allclose(weight @ weight.T, jax.numpy.eye(4), atol=1e-6))  # the rows are orthonormal
        True
    """
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    drawn = initializer(name_or_function)(key, shape, wide)
    if not hasattr(drawn, "astype") or drawn.shape != shape:
        got = f"shape {drawn.shape}" if hasattr(drawn, "astype") else type(drawn).__name__
        raise TypeError(
            f"an initializer must return an array of shape {shape}, got {got}: give a function of key, shape and dtype"
        )
    return drawn.astype(dtype)
