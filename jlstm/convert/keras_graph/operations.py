"""Operations of Keras 3 between layers, such as `x + y`, `x[:, -1]` and those that compute masks.

A functional model of Keras 3 lists operations beside its layers. Those of masks are in every file with a mask.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.convert.keras_model.options import UnsupportedError, quoted

Config = Mapping[str, Any]
Operation = Callable[..., Array]


def _pairwise(function: Any) -> Callable[[Config], Operation]:
    """Return the maker of an operation of two operands, of which one may be a number."""

    def apply(x: Any, y: Any) -> Array:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as Keras's operations promote
            return function(x, y)

    return lambda config: apply


def _over_axes(function: Any) -> Callable[[Config], Operation]:
    """Return the maker of a reduction."""

    def make(config: Config) -> Operation:
        axis = config["axis"]
        axes = tuple(axis) if isinstance(axis, list) else axis
        return lambda x: function(x, axis=axes, keepdims=config["keepdims"])

    return make


def _mapped(function: Callable[[Array], Array]) -> Callable[[Config], Operation]:
    return lambda config: function


def _filled(value: int) -> Callable[[Config], Operation]:
    """Return the maker of an array of one number, in the shape of another array."""

    def make(config: Config) -> Operation:
        return lambda x, dtype=None: jnp.full_like(x, value, dtype=dtype or config.get("dtype"))

    return make


def _relu(config: Config) -> Operation:
    if config["negative_slope"] or config["threshold"] or config["max_value"] is not None:
        raise UnsupportedError("it is a relu with options: use the layer ReLU there")
    return jax.nn.relu


def _item(config: Config) -> Operation:
    """Return `x[index]`, with an index of numbers and slices."""
    return lambda x, key: x[tuple(key) if isinstance(key, list) else key]


OPERATIONS: dict[str, Callable[[Config], Operation]] = {
    **{
        name: _pairwise(function)
        for name, function in {
            "Add": jnp.add,
            "Subtract": jnp.subtract,
            "Multiply": jnp.multiply,
            "Divide": jnp.divide,
            "TrueDivide": jnp.true_divide,
            "Maximum": jnp.maximum,
            "Minimum": jnp.minimum,
            "Power": jnp.power,
            "Matmul": jnp.matmul,
            "Equal": jnp.equal,
            "NotEqual": jnp.not_equal,
            "Greater": jnp.greater,
            "GreaterEqual": jnp.greater_equal,
            "Less": jnp.less,
            "LessEqual": jnp.less_equal,
            "LogicalAnd": jnp.logical_and,
            "LogicalOr": jnp.logical_or,
        }.items()
    },
    **{
        name: _over_axes(function)
        for name, function in {
            "Any": jnp.any,
            "All": jnp.all,
            "Mean": jnp.mean,
            "Sum": jnp.sum,
            "Max": jnp.max,
            "Min": jnp.min,
        }.items()
    },
    **{
        name: _mapped(function)
        for name, function in {
            "LogicalNot": jnp.logical_not,
            "Negative": jnp.negative,
            "Absolute": jnp.abs,
            "Exp": jnp.exp,
            "Log": jnp.log,
            "Sqrt": jnp.sqrt,
            "Square": jnp.square,
            "Tanh": jnp.tanh,
            "Sigmoid": jax.nn.sigmoid,
        }.items()
    },
    "ReLU": _relu,
    "Relu": _mapped(jax.nn.relu),
    "Softmax": lambda config: lambda x: jax.nn.softmax(x, config["axis"]),
    "Concatenate": lambda config: lambda xs: jnp.concatenate(xs, config["axis"]),
    "Stack": lambda config: lambda xs: jnp.stack(xs, config["axis"]),
    "ExpandDims": lambda config: lambda x: jnp.expand_dims(x, config["axis"]),
    "Squeeze": lambda config: lambda x: jnp.squeeze(x, config["axis"]),
    "Cast": lambda config: lambda x, *_: x.astype(config["dtype"]),
    "ZerosLike": _filled(0),
    "OnesLike": _filled(1),
    "GetItem": _item,
}


def operation(class_name: str, config: Config) -> Operation:
    """Return the function of an operation.

    Raises:
        UnsupportedError: the operation is not known.
    """
    if class_name not in OPERATIONS:
        raise UnsupportedError(
            f"it is the operation {quoted(class_name)}, which is not known here: run what is before and behind it as two models"
        )
    return OPERATIONS[class_name](config)
