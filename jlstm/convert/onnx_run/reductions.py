"""ONNX operators over axes: reductions, softmax, cumulative sums and the positions of extremes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlstm.convert.onnx_model.operators import Call, Operator, integers, reduction


def _named(name: str) -> Operator:
    """Return the reduction that is the function of this name in NumPy and in jax.numpy."""
    return reduction(lambda xp, data, axis, keepdims: getattr(xp, name)(data, axis=axis, keepdims=keepdims))


def _product(xp: Any, data: Any, axis: Any, keepdims: bool) -> Any:
    return xp.prod(data, axis=axis, keepdims=keepdims, dtype=data.dtype)


def _softmax(function: Callable[..., Any]) -> Operator:
    def run(call: Call) -> Any:
        x = jnp.asarray(call.inputs[0])
        if call.opset >= 13:
            return function(x, axis=call.attributes.get("axis", -1))
        # Old versions take all axes from `axis` on as one.
        axis = call.attributes.get("axis", 1) % x.ndim
        return function(x.reshape(*x.shape[:axis], -1), axis=-1).reshape(x.shape)

    return Operator(run, ("axis",))


def _cumulative_sum(call: Call) -> Any:
    data, axis = jnp.asarray(call.inputs[0]), integers(call.inputs[1], "axis")[0]
    reverse, exclusive = call.attributes.get("reverse", 0), call.attributes.get("exclusive", 0)
    sums = jax.lax.cumsum(data, axis % data.ndim, reverse=bool(reverse))
    return sums - data if exclusive else sums


def _extreme(name: str) -> Operator:
    def run(call: Call) -> Any:
        data, axis = jnp.asarray(call.inputs[0]), call.attributes.get("axis", 0)
        return getattr(jnp, name)(data, axis=axis, keepdims=bool(call.attributes.get("keepdims", 1)))

    return Operator(run, ("axis", "keepdims"))


OPERATORS = {
    "ReduceMean": _named("mean"),
    "ReduceMax": _named("max"),
    "ReduceMin": _named("min"),
    "ReduceProd": reduction(_product),
    "ReduceL1": reduction(lambda xp, data, axis, keepdims: xp.sum(xp.abs(data), axis=axis, keepdims=keepdims)),
    "ReduceSumSquare": reduction(lambda xp, data, axis, keepdims: xp.sum(data * data, axis=axis, keepdims=keepdims)),
    "ReduceLogSumExp": reduction(
        lambda _, data, axis, keepdims: jax.scipy.special.logsumexp(jnp.asarray(data), axis=axis, keepdims=keepdims)
    ),
    "Softmax": _softmax(jax.nn.softmax),
    "LogSoftmax": _softmax(jax.nn.log_softmax),
    "CumSum": Operator(_cumulative_sum, ("reverse", "exclusive")),
    "ArgMax": _extreme("argmax"),
    "ArgMin": _extreme("argmin"),
}
