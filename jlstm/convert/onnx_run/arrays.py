"""ONNX operators that select, pad and create elements, beyond those of `jlstm.convert.onnx_model.operators`."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jlstm.convert.onnx_model.operators import Call, Operator, integers
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(call: Call) -> Any:
    data, pads, axes = call.inputs[0], call.integers("pads", 1), call.optional(3)
    if pads is None:
        raise ValueError("no pads")
    mode = call.attributes.get("mode", "constant")
    if mode not in _PAD_MODES:
        raise UnsupportedError(f"it has mode={quoted(mode)}, expected one of {', '.join(_PAD_MODES)}")
    value = call.attributes.get("value", call.optional(2))
    widths = [[0, 0] for _ in data.shape]
    for k, axis in enumerate(range(data.ndim) if axes is None else integers(axes, "axes")):
        widths[axis] = [pads[k], pads[k + len(pads) // 2]]
    # Negative numbers cut elements off.
    cuts = tuple(slice(max(0, -low), size - max(0, -high)) for (low, high), size in zip(widths, data.shape, strict=True))
    widths = [[max(0, low), max(0, high)] for low, high in widths]
    options = {"constant_values": 0 if value is None else call.xp.asarray(value).reshape(())} if mode == "constant" else {}
    return call.xp.pad(data[cuts], widths, _PAD_MODES[mode], **options)


def _range(call: Call) -> Any:
    if call.xp is jnp:
        raise UnsupportedError("its start, limit or delta is computed from inputs or parameters, expected constants or sizes")
    start, limit, delta = (value.reshape(()) for value in call.inputs)
    return np.arange(start, limit, delta, dtype=start.dtype)


def _gather_elements(call: Call) -> Any:
    data, indices = call.inputs
    axis = call.attributes.get("axis", 0)
    return call.xp.take_along_axis(data, call.xp.where(indices < 0, indices + data.shape[axis], indices), axis)


def _gather_nd(call: Call) -> Any:
    data, indices = call.inputs
    return call.xp.asarray(data)[tuple(call.xp.moveaxis(call.xp.asarray(indices), -1, 0))]


def _scatter_nd(call: Call) -> Any:
    data, indices, values = map(jnp.asarray, call.inputs)
    return data.at[tuple(jnp.moveaxis(indices, -1, 0))].set(values)


def _reverse_sequence(call: Call) -> Any:
    """Reverse the first steps of each sequence, as many as its length says. The steps after them stay."""
    data, lengths = jnp.asarray(call.inputs[0]), jnp.asarray(call.inputs[1])
    time, batch = call.attributes.get("time_axis", 0), call.attributes.get("batch_axis", 1)
    t, n = jnp.arange(data.shape[time])[:, None], lengths[None]
    places = jnp.where(t < n, n - 1 - t, t)
    places = (places if (time, batch) == (0, 1) else places.T).reshape(
        *places.T.shape[:: -1 if time == 0 else 1], *[1] * (data.ndim - 2)
    )
    return jnp.take_along_axis(data, places, time)


def _trilu(call: Call) -> Any:
    k = call.optional(1)
    cut = call.xp.triu if call.attributes.get("upper", 1) else call.xp.tril
    return cut(call.inputs[0], 0 if k is None else integers(k, "k")[0])


def _one_hot(call: Call) -> Any:
    indices, depth, values = call.inputs
    size, axis = integers(depth, "depth")[0], call.attributes.get("axis", -1)
    indices = jnp.expand_dims(jnp.asarray(indices), axis)
    places = jnp.arange(size).reshape([-1 if k == axis % indices.ndim else 1 for k in range(indices.ndim)])
    return jnp.where(indices % size == places, values[1], values[0])


OPERATORS = {
    "Pad": Operator(_pad, ("mode", "pads", "value")),
    "Range": Operator(_range),
    "Size": Operator(lambda call: np.array(call.inputs[0].size, np.int64)),
    "CastLike": Operator(lambda call: call.inputs[0].astype(call.inputs[1].dtype), ("saturate",)),
    "GatherElements": Operator(_gather_elements, ("axis",)),
    "GatherND": Operator(_gather_nd),
    "ScatterND": Operator(_scatter_nd),
    "ReverseSequence": Operator(_reverse_sequence, ("time_axis", "batch_axis")),
    "Trilu": Operator(_trilu, ("upper",)),
    "OneHot": Operator(_one_hot, ("axis",)),
}
