"""ONNX operators that act on each element: activation functions, comparisons, and functions of several arrays."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm.convert.onnx_model.operators import Call, Operator


def _plain(name: str) -> Operator:
    """Return the operator that is the function of this name in NumPy and in jax.numpy."""
    return Operator(lambda call: getattr(call.xp, name)(*call.inputs))


def _folded(name: str) -> Operator:
    """Return the operator that combines any number of inputs by a function of two arrays."""
    return Operator(lambda call: reduce(getattr(call.xp, name), call.inputs))


def _activation(function: Callable[..., Any], **defaults: float) -> Operator:
    """Return the operator of a function of one array, with ONNX's names and defaults of its constants."""

    def run(call: Call) -> Any:
        constants = {name: call.attributes.get(name, value) for name, value in defaults.items()}
        return function(jnp.asarray(call.inputs[0]), **constants)

    return Operator(run, tuple(defaults))


def _gelu(call: Call) -> Any:
    return jax.nn.gelu(jnp.asarray(call.inputs[0]), approximate=call.attributes.get("approximate", "none") == "tanh")


def _elu(x: Any, alpha: float) -> Any:
    # expm1 of positive numbers could overflow, and its gradient would then be NaN.
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))


def _celu(x: Any, alpha: float) -> Any:
    return jnp.maximum(x, 0) + alpha * jnp.expm1(jnp.minimum(x, 0) / alpha)


def _selu(x: Any, alpha: float, gamma: float) -> Any:
    return gamma * _elu(x, alpha)


def _hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    return jnp.clip(alpha * x + beta, 0, 1)


def _leaky_relu(x: Any, alpha: float) -> Any:
    return jnp.where(x >= 0, x, alpha * x)


def _prelu(call: Call) -> Any:
    x, slope = map(jnp.asarray, call.inputs)
    return jnp.where(x >= 0, x, slope * x)


def _clip(call: Call) -> Any:
    bounds = [call.attributes.get(name, call.optional(k)) for k, name in ((1, "min"), (2, "max"))]
    return call.xp.clip(call.inputs[0], *bounds)


def _mean(call: Call) -> Any:
    return reduce(call.xp.add, call.inputs) / len(call.inputs)


def _modulo(call: Call) -> Any:
    return (call.xp.fmod if call.attributes.get("fmod", 0) else call.xp.mod)(*call.inputs)


OPERATORS = {
    **{name: _plain(name.lower()) for name in ("Exp", "Log", "Floor", "Ceil", "Sign", "Sin", "Cos", "Tan", "Tanh", "Equal")},
    **{name: _plain(name.lower()) for name in ("Less", "Greater", "Where", "Sinh", "Cosh", "Reciprocal")},
    "Round": _plain("rint"),
    "Atan": _plain("arctan"),
    "LessOrEqual": _plain("less_equal"),
    "GreaterOrEqual": _plain("greater_equal"),
    "Not": _plain("logical_not"),
    "And": _plain("logical_and"),
    "Or": _plain("logical_or"),
    "Xor": _plain("logical_xor"),
    "IsNaN": _plain("isnan"),
    "Min": _folded("minimum"),
    "Max": _folded("maximum"),
    "Sum": _folded("add"),
    "Mean": Operator(_mean),
    "Mod": Operator(_modulo, ("fmod",)),
    "Clip": Operator(_clip, ("min", "max")),
    "PRelu": Operator(_prelu),
    "Gelu": Operator(_gelu, ("approximate",)),
    "Erf": _activation(jax.scipy.special.erf),
    "Relu": _activation(jax.nn.relu),
    "Sigmoid": _activation(jax.nn.sigmoid),
    "Softplus": _activation(jax.nn.softplus),
    "Softsign": _activation(jax.nn.soft_sign),
    "HardSwish": _activation(lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5)),
    "HardSigmoid": _activation(_hard_sigmoid, alpha=0.2, beta=0.5),
    "Mish": _activation(lambda x: x * jnp.tanh(jax.nn.softplus(x))),
    "Swish": _activation(lambda x, alpha: x * jax.nn.sigmoid(alpha * x), alpha=1.0),
    "LeakyRelu": _activation(_leaky_relu, alpha=0.01),
    "Elu": _activation(_elu, alpha=1.0),
    "Celu": _activation(_celu, alpha=1.0),
    # ONNX's defaults, which are float32 numbers: https://onnx.ai/onnx/operators/onnx__Selu.html
    "Selu": _activation(
        _selu, alpha=float(np.float32(1.67326319217681884765625)), gamma=float(np.float32(1.05070102214813232421875))
    ),
}
