"""NumPy versions of the ONNX operators that compute a layer's weights from the constants of a model.

Each operator lists the attributes that it supports, and has an upper bound of the number of elements that it creates. So it can
be refused before it allocates memory.

Reference: https://onnx.ai/onnx/operators/, which describes all versions of each operator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Call(NamedTuple):
    """One call of an operator.

    Attributes:
        inputs: the inputs, with None for an optional input that is left out.
        attributes: the attributes by name.
        outputs: the number of outputs of the node.
    """

    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    outputs: int = 1

    def optional(self, k: int) -> Any:
        """Return the input at position `k`, or None if it is left out."""
        return self.inputs[k] if k < len(self.inputs) else None

    def integers(self, name: str, k: int) -> list[int] | None:
        """Return integers that old versions of an operator take as the attribute `name`, and new versions as input `k`."""
        value = self.attributes.get(name, self.optional(k))
        return None if value is None else [int(number) for number in np.atleast_1d(value)]


class Operator(NamedTuple):
    """An operator in NumPy.

    Attributes:
        run: returns the output, or a list of several outputs.
        attributes: the attributes that `run` supports.
        size: returns an upper bound of the number of elements that `run` creates. The default is the number of input elements.
    """

    run: Callable[[Call], Any]
    attributes: tuple[str, ...] = ()
    size: Callable[[Call], int] = lambda call: sum(value.size for value in call.inputs if value is not None)


def _broadcast_size(call: Call) -> int:
    return math.prod(np.broadcast_shapes(*(value.shape for value in call.inputs)))


def _expanded_size(call: Call) -> int:
    return math.prod(np.broadcast_shapes(call.inputs[0].shape, _sizes(call.inputs[1])))


def _tiled_size(call: Call) -> int:
    return call.inputs[0].size * math.prod(_sizes(call.inputs[1]))


def _gathered_size(call: Call) -> int:
    data, indices = call.inputs
    return indices.size * data.size // max(1, data.shape[call.attributes.get("axis", 0)])


def _sizes(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in np.atleast_1d(shape))
    if any(size < 0 for size in sizes):
        raise ValueError("a negative size")
    return sizes


def _reshape(call: Call) -> Any:
    data, shape = call.inputs[0], call.integers("shape", 1)
    if shape is None:
        raise ValueError("no shape")
    # A size of 0 stands for the size of the same axis of the input, unless `allowzero` is set.
    allow_zero = call.attributes.get("allowzero", 0)
    return data.reshape([data.shape[k] if size == 0 and not allow_zero else size for k, size in enumerate(shape)])


def _flatten(call: Call) -> Any:
    data, axis = call.inputs[0], call.attributes.get("axis", 1)
    # NumPy cannot infer -1 for an array without elements.
    return data.reshape(math.prod(data.shape[:axis]), -1) if data.size else data.reshape(math.prod(data.shape[:axis]), 0)


def _squeeze(call: Call) -> Any:
    axes = call.integers("axes", 1)
    return np.squeeze(call.inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(call: Call) -> Any:
    return np.expand_dims(call.inputs[0], tuple(call.integers("axes", 1) or ()))


def _slice(call: Call) -> Any:
    data, starts, ends = call.inputs[0], call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        raise ValueError("no starts or ends")
    axes, steps = call.integers("axes", 3) or range(len(starts)), call.integers("steps", 4) or [1] * len(starts)
    places = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(start, end, step)  # Python clips starts and ends to the array as ONNX does
    return data[tuple(places)]


def _split(call: Call) -> list[Any]:
    data, axis, sizes = call.inputs[0], call.attributes.get("axis", 0), call.integers("split", 1)
    if sizes is None:
        count = call.attributes.get("num_outputs", call.outputs)
        largest = -(-data.shape[axis] // count)  # ONNX makes the last part smaller if the size is no multiple
        sizes = [largest] * (count - 1) + [data.shape[axis] - largest * (count - 1)]
    if sum(sizes) != data.shape[axis] or min(sizes) < 0:
        raise ValueError("parts of another size")
    return np.split(data, np.cumsum(sizes)[:-1], axis)


def _shape(call: Call) -> Any:
    start, end = call.attributes.get("start", 0), call.attributes.get("end")
    return np.array(call.inputs[0].shape[start:end], np.int64)


def _constant_of_shape(call: Call) -> Any:
    value = call.attributes.get("value", np.zeros(1, np.float32))
    return np.broadcast_to(value.reshape(()), _sizes(call.inputs[0]))


def _div(call: Call) -> Any:
    # ONNX truncates integer division towards zero, and NumPy rounds down. They agree for positive numbers only.
    first, second = call.inputs
    if np.issubdtype(first.dtype, np.integer):
        if (second <= 0).any() or (first < 0).any():
            raise ValueError("a division of negative numbers or by zero")
        return first // second
    return first / second


def _reduction(reduce: Callable[..., Any]) -> Callable[[Call], Any]:
    """Return the operator of a reduction, with the handling of axes that all reductions share."""

    def run(call: Call) -> Any:
        axes, keepdims = call.integers("axes", 1), bool(call.attributes.get("keepdims", 1))
        if not axes and call.attributes.get("noop_with_empty_axes", 0):
            return call.inputs[0]
        return reduce(call.inputs[0], tuple(axes) if axes else None, keepdims)

    return run


def _norm(data: Any, axis: Any, keepdims: bool) -> Any:
    return np.sqrt(np.sum(data * data, axis=axis, keepdims=keepdims))


def _sum(data: Any, axis: Any, keepdims: bool) -> Any:
    # NumPy would sum small integers in a wider type, but ONNX keeps the type.
    return np.sum(data, axis=axis, keepdims=keepdims, dtype=data.dtype)


def _broadcastable(call: Call, numbers: Any) -> Any:
    """Return scales or zero points in a shape that broadcasts against the first input.

    Args:
        call: the call, whose attribute `axis` is the axis that the scales are for.
        numbers: one number for all elements, or one for each index along that axis; None for a zero point of 0.
    """
    data, axis = call.inputs[0], call.attributes.get("axis", 1)
    if numbers is None or numbers.size == 1:
        return np.zeros((), np.int32) if numbers is None else numbers.reshape(())
    if numbers.shape != (data.shape[axis],):
        raise ValueError("scales of another shape")
    return numbers.reshape([-1 if k == axis % data.ndim else 1 for k in range(data.ndim)])


def _dequantize(call: Call) -> Any:
    data, scale = call.inputs[0], _broadcastable(call, call.inputs[1])
    if not np.issubdtype(data.dtype, np.integer):
        raise ValueError("numbers that are not whole")
    # In int64, because the difference of two 8-bit numbers may not fit in 8 bits.
    return (data.astype(np.int64) - _broadcastable(call, call.optional(2)).astype(np.int64)).astype(scale.dtype) * scale


def _quantize(call: Call) -> Any:
    data, scale, zero_point = call.inputs[0], _broadcastable(call, call.inputs[1]), call.optional(2)
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    bounds = np.iinfo(dtype)
    levels = np.rint(data / scale).astype(np.int64) + _broadcastable(call, zero_point).astype(np.int64)
    return np.clip(levels, bounds.min, bounds.max).astype(dtype)


_VALUES = ("value", "value_float", "value_floats", "value_int", "value_ints")


def _constant(call: Call) -> Any:
    ((name, value),) = call.attributes.items()
    return np.asarray(value, None if name == "value" else np.float32 if "float" in name else np.int64)


OPERATORS = {
    "Constant": Operator(_constant, _VALUES),
    "ConstantOfShape": Operator(_constant_of_shape, ("value",), lambda call: math.prod(_sizes(call.inputs[0]))),
    "Identity": Operator(lambda call: call.inputs[0]),
    "Cast": Operator(lambda call: call.inputs[0].astype(call.attributes["to"]), ("to", "saturate")),
    "Shape": Operator(_shape, ("start", "end")),
    "Reshape": Operator(_reshape, ("shape", "allowzero")),
    "Flatten": Operator(_flatten, ("axis",)),
    "Squeeze": Operator(_squeeze, ("axes",)),
    "Unsqueeze": Operator(_unsqueeze, ("axes",)),
    "Transpose": Operator(lambda call: call.inputs[0].transpose(call.attributes.get("perm")), ("perm",)),
    "Slice": Operator(_slice, ("starts", "ends", "axes")),
    "Split": Operator(_split, ("axis", "split", "num_outputs")),
    # In the first version of Concat, `axis` has the default 1.
    "Concat": Operator(lambda call: np.concatenate(call.inputs, call.attributes.get("axis", 1)), ("axis",)),
    "Gather": Operator(
        lambda call: call.inputs[0].take(call.inputs[1], call.attributes.get("axis", 0)), ("axis",), _gathered_size
    ),
    "Expand": Operator(
        lambda call: np.broadcast_to(call.inputs[0], np.broadcast_shapes(call.inputs[0].shape, _sizes(call.inputs[1]))),
        size=_expanded_size,
    ),
    "Tile": Operator(lambda call: np.tile(call.inputs[0], _sizes(call.inputs[1])), size=_tiled_size),
    "Add": Operator(lambda call: np.add(*call.inputs), size=_broadcast_size),
    "Sub": Operator(lambda call: np.subtract(*call.inputs), size=_broadcast_size),
    "Mul": Operator(lambda call: np.multiply(*call.inputs), size=_broadcast_size),
    "Div": Operator(_div, size=_broadcast_size),
    # The result of Pow has the type of the base.
    "Pow": Operator(lambda call: np.power(*call.inputs).astype(call.inputs[0].dtype), size=_broadcast_size),
    "Neg": Operator(lambda call: np.negative(*call.inputs)),
    "Abs": Operator(lambda call: np.abs(*call.inputs)),
    "Sqrt": Operator(lambda call: np.sqrt(*call.inputs)),
    "ReduceSum": Operator(_reduction(_sum), ("axes", "keepdims", "noop_with_empty_axes")),
    "ReduceL2": Operator(_reduction(_norm), ("axes", "keepdims", "noop_with_empty_axes")),
    "DequantizeLinear": Operator(_dequantize, ("axis",)),
    "QuantizeLinear": Operator(_quantize, ("axis", "saturate")),
}
