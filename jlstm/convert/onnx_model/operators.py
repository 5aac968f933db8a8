"""The ONNX operators that move, convert and add numbers, in NumPy for constants and in JAX for all other arrays.

They compute a layer's weights from the constants of a model, and are a part of `jlstm.convert.onnx_run`. Each operator lists the
attributes that it supports, and has an upper bound of the number of elements that it creates. So it can be refused before it
allocates memory.

Reference: https://onnx.ai/onnx/operators/, which describes all versions of each operator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax

from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted


class Call(NamedTuple):
    """One call of an operator.

    Attributes:
        inputs: the inputs, with None for an optional input that is left out.
        attributes: the attributes by name.
        outputs: the number of outputs of the node.
        opset: the version of ONNX's operators that the model is written for.
    """

    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    outputs: int = 1
    opset: int = 17

    @property
    def xp(self) -> Any:
        """The module that runs the operator: NumPy if all inputs are NumPy arrays, and jax.numpy otherwise."""
        return np if all(value is None or isinstance(value, np.ndarray | np.generic) for value in self.inputs) else jnp

    def optional(self, k: int) -> Any:
        """Return the input at position `k`, or None if it is left out."""
        return self.inputs[k] if k < len(self.inputs) else None

    def integers(self, name: str, k: int) -> list[int] | None:
        """Return integers that old versions of an operator take as the attribute `name`, and new versions as input `k`."""
        value = self.attributes.get(name, self.optional(k))
        return None if value is None else integers(value, name)


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

    def unsupported(self, attributes: Mapping[str, Any]) -> list[str]:
        """Return the names of attributes that `run` does not support, without those that are 0 and so have no effect."""
        # Some versions of operators have additional attributes.
        is_off = {name for name, value in attributes.items() if isinstance(value, int | float) and value == 0}
        return sorted(attributes.keys() - set(self.attributes) - is_off)


def integers(value: Any, name: str) -> list[int]:
    """Return the integers in an array.

    Raises:
        UnsupportedError: the array is a JAX array, whose elements are not known when the operator is compiled.
    """
    if isinstance(value, jnp.ndarray):
        raise UnsupportedError(f"its {quoted(name)} is computed from inputs or parameters, expected constants or sizes of arrays")
    return [int(number) for number in np.atleast_1d(value)]


def _broadcast_size(call: Call) -> int:
    return math.prod(np.broadcast_shapes(*(value.shape for value in call.inputs)))


def _expanded_size(call: Call) -> int:
    return math.prod(np.broadcast_shapes(call.inputs[0].shape, _sizes(call.inputs[1])))


def _expand(call: Call) -> Any:
    data, shape = call.inputs[0], _sizes(call.inputs[1])
    return call._replace(inputs=[data]).xp.broadcast_to(data, np.broadcast_shapes(data.shape, shape))


def _tiled_size(call: Call) -> int:
    return call.inputs[0].size * math.prod(_sizes(call.inputs[1]))


def _gathered_size(call: Call) -> int:
    data, indices = call.inputs
    return indices.size * data.size // max(1, data.shape[call.attributes.get("axis", 0)])


def _cast(call: Call) -> Any:
    to = call.attributes["to"]
    return call.inputs[0].astype(
        to if call.xp is np else dtypes.canonicalize_dtype(to)
    )  # without 64 bits, where JAX has them off


def _sizes(shape: Any) -> tuple[int, ...]:
    sizes = tuple(integers(shape, "shape"))
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
    return call.xp.squeeze(call.inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(call: Call) -> Any:
    return call.xp.expand_dims(call.inputs[0], tuple(call.integers("axes", 1) or ()))


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
    return call.xp.split(data, np.cumsum(sizes)[:-1], axis)


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
        if call.xp is jnp:
            return lax.div(*jnp.broadcast_arrays(first, jnp.asarray(second, first.dtype)))  # truncates
        if (second <= 0).any() or (first < 0).any():
            raise ValueError("a division of negative numbers or by zero")
        return first // second
    return call.xp.divide(first, second)


def reduction(reduce: Callable[..., Any]) -> Operator:
    """Return the operator of a reduction, with the handling of axes that all reductions share.

    Args:
        reduce: `(xp, data, axes, keepdims) -> result`, where `xp` is NumPy or jax.numpy.
    """

    def run(call: Call) -> Any:
        axes, keepdims = call.integers("axes", 1), bool(call.attributes.get("keepdims", 1))
        if not axes and call.attributes.get("noop_with_empty_axes", 0):
            return call.inputs[0]
        return reduce(call._replace(inputs=call.inputs[:1]).xp, call.inputs[0], tuple(axes) if axes else None, keepdims)

    return Operator(run, ("axes", "keepdims", "noop_with_empty_axes"))


def _norm(xp: Any, data: Any, axis: Any, keepdims: bool) -> Any:
    return xp.sqrt(xp.sum(data * data, axis=axis, keepdims=keepdims))


def _sum(xp: Any, data: Any, axis: Any, keepdims: bool) -> Any:
    # NumPy would sum small integers in a wider type, but ONNX keeps the type.
    return xp.sum(data, axis=axis, keepdims=keepdims, dtype=data.dtype)


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
    "Cast": Operator(_cast, ("to", "saturate")),
    "Shape": Operator(_shape, ("start", "end")),
    "Reshape": Operator(_reshape, ("shape", "allowzero")),
    "Flatten": Operator(_flatten, ("axis",)),
    "Squeeze": Operator(_squeeze, ("axes",)),
    "Unsqueeze": Operator(_unsqueeze, ("axes",)),
    "Transpose": Operator(lambda call: call.inputs[0].transpose(call.attributes.get("perm")), ("perm",)),
    "Slice": Operator(_slice, ("starts", "ends", "axes")),
    "Split": Operator(_split, ("axis", "split", "num_outputs")),
    # In the first version of Concat, `axis` has the default 1.
    "Concat": Operator(lambda call: call.xp.concatenate(call.inputs, call.attributes.get("axis", 1)), ("axis",)),
    "Gather": Operator(lambda call: call.xp.take(*call.inputs, axis=call.attributes.get("axis", 0)), ("axis",), _gathered_size),
    "Expand": Operator(
        _expand,
        size=_expanded_size,
    ),
    "Tile": Operator(lambda call: call.xp.tile(call.inputs[0], _sizes(call.inputs[1])), size=_tiled_size),
    "Add": Operator(lambda call: call.xp.add(*call.inputs), size=_broadcast_size),
    "Sub": Operator(lambda call: call.xp.subtract(*call.inputs), size=_broadcast_size),
    "Mul": Operator(lambda call: call.xp.multiply(*call.inputs), size=_broadcast_size),
    "Div": Operator(_div, size=_broadcast_size),
    # The result of Pow has the type of the base.
    "Pow": Operator(lambda call: call.xp.power(*call.inputs).astype(call.inputs[0].dtype), size=_broadcast_size),
    "Neg": Operator(lambda call: call.xp.negative(*call.inputs)),
    "Abs": Operator(lambda call: call.xp.abs(*call.inputs)),
    "Sqrt": Operator(lambda call: call.xp.sqrt(*call.inputs)),
    "ReduceSum": reduction(_sum),
    "ReduceL2": reduction(_norm),
    "DequantizeLinear": Operator(_dequantize, ("axis",)),
    "QuantizeLinear": Operator(_quantize, ("axis", "saturate")),
}
