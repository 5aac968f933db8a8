"""The activation functions of Keras by name."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.activations import ACTIVATIONS
from jlstm.convert.keras_model.options import UnsupportedError, Version, quoted

Function = Callable[[Array], Array]

# Those that have the same definition in Keras 2 and 3, where both have them.
_FUNCTIONS: dict[str, Function] = {
    **{name: ACTIVATIONS[name] for name in ("elu", "hard_tanh", "linear", "relu", "selu", "sigmoid", "silu", "softplus")},
    **{name: ACTIVATIONS[name] for name in ("softsign", "tanh")},
    "celu": jax.nn.celu,
    "exponential": jnp.exp,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "log_sigmoid": jax.nn.log_sigmoid,
    "log_softmax": jax.nn.log_softmax,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "softmax": jax.nn.softmax,
    "squareplus": jax.nn.squareplus,
    "swish": jax.nn.silu,
}


def function(option: str, value: Any, version: Version) -> Function:
    """Return the function of an activation in a configuration.

    Args:
        option: the name of the option, for the message.
        value: Keras's name of the function; None for no activation; or the configuration of a function with such a name.
        version: the version of Keras, which decides what hard_sigmoid is.

    Raises:
        UnsupportedError: the activation is not known.
    """
    if value is None:
        return _FUNCTIONS["linear"]
    if isinstance(value, Mapping) and value.get("module") == "builtins" and value.get("class_name") == "function":
        value = value.get("config")
    if value == "hard_sigmoid":
        return ACTIVATIONS["hard_sigmoid" if version.major == 3 else "hard_sigmoid_0.2"]
    if value in ("hard_silu", "hard_swish") and version.major == 3:
        return jax.nn.hard_silu
    if not isinstance(value, str) or value not in _FUNCTIONS:
        shown = value.get("class_name", value) if isinstance(value, Mapping) else value
        raise UnsupportedError(
            f"it has {option}={quoted(shown)}, which is not known here: use one of Keras's named activations, or make it a layer"
        )
    return _FUNCTIONS[value]
