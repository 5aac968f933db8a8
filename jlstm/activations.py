"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src import values

Activation = str | Callable[[Array], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "hard_sigmoid": jax.nn.hard_sigmoid,  # relu6(x + 3) / 6, as Keras 3; Keras 2 and ONNX have clip(0.2 x + 0.5, 0, 1)
    "hard_sigmoid_0.2": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
}


def activation(name: Activation) -> Callable[[Array], Array]:
    """Return the function that `name` stands for; a callable stands for itself.

    Args:
        name: a key of `ACTIVATIONS`, or a function of an array.

    Returns:
        The function.

    Raises:
        ValueError: the name is not one of `ACTIVATIONS`.
    """
    if callable(name):
        return name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {values.brief(name)}: use a callable or one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]
