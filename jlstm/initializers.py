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


def initializer(name: Initializer) -> Callable[[Array, tuple[int, ...], jax.typing.DTypeLike], Array]:
    """Return the function `(key, shape, dtype) -> array` that `name` stands for; a callable stands for itself.

    Args:
        name: a key of `INITIALIZERS`, or such a function.

    Returns:
        The function.

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

    Args:
        name: a key of `INITIALIZERS`, or a function `(key, shape, dtype) -> array`.
        key: random key.
        shape: shape of the weight.
        dtype: dtype of the weight.

    Returns:
        The weight.

    Raises:
        TypeError: an initializer of the caller did not return an array of this shape.
        ValueError: the name is not one of `INITIALIZERS`.

    Examples:
        >>> import jax
        >>> weight = draw("orthogonal", jax.random.key(0), (4, 16), "float32")
        >>> bool(jax.numpy.allclose(weight @ weight.T, jax.numpy.eye(4), atol=1e-6))  # the rows are orthonormal
        True
    """
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    drawn = initializer(name)(key, shape, wide)
    if not hasattr(drawn, "astype") or drawn.shape != shape:
        got = f"shape {drawn.shape}" if hasattr(drawn, "astype") else type(drawn).__name__
        raise TypeError(
            f"an initializer must return an array of shape {shape}, got {got}: give a function of key, shape and dtype"
        )
    return drawn.astype(dtype)
