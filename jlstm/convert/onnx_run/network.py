"""ONNX operators of neural networks: products, convolutions, pooling and normalization."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jlstm.convert.onnx_model.operators import Call, Operator
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted

_WINDOW = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


def _gemm(call: Call) -> Any:
    """alpha A B + beta C, where A and B may be transposed."""
    a, b, c = call.inputs[0], call.inputs[1], call.optional(2)
    product = jnp.matmul(a.T if call.attributes.get("transA", 0) else a, b.T if call.attributes.get("transB", 0) else b)
    if (alpha := call.attributes.get("alpha", 1.0)) != 1:
        product = alpha * product
    return product if c is None else product + (c if (beta := call.attributes.get("beta", 1.0)) == 1 else beta * c)


def _einsum(call: Call) -> Any:
    return jnp.einsum(call.attributes["equation"], *map(jnp.asarray, call.inputs))


def _padding(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Return the zeros before and after each spatial axis.

    Args:
        call: the call of a convolution or of a pooling.
        sizes: the sizes of the spatial axes.
        kernel: the sizes of the window.
    """
    mode, rank = call.attributes.get("auto_pad", "NOTSET"), len(sizes)
    if mode == "NOTSET":
        pads = call.attributes.get("pads", [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedError(f"it has auto_pad={quoted(mode)}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    # SAME keeps ceil(size / stride) positions. What the windows then lack is added at both ends; an odd one goes to one of them.
    result = []
    for size, window, stride in zip(sizes, _dilated(call, kernel), _strides(call, rank), strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        smaller = total // 2
        result.append((smaller, total - smaller) if mode == "SAME_UPPER" else (total - smaller, smaller))
    return result


def _strides(call: Call, rank: int) -> list[int]:
    return list(call.attributes.get("strides", [1] * rank))


def _dilations(call: Call, rank: int) -> list[int]:
    return list(call.attributes.get("dilations", [1] * rank))


def _dilated(call: Call, kernel: Sequence[int]) -> list[int]:
    """Return the sizes that a window spans."""
    return [(size - 1) * step + 1 for size, step in zip(kernel, _dilations(call, len(kernel)), strict=True)]


def _conv(call: Call) -> Any:
    x, kernel, bias = jnp.asarray(call.inputs[0]), jnp.asarray(call.inputs[1]), call.optional(2)
    rank = x.ndim - 2
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype) if kernel.dtype != x.dtype else kernel,
        _strides(call, rank),
        _padding(call, x.shape[2:], kernel.shape[2:]),
        rhs_dilation=_dilations(call, rank),
        feature_group_count=call.attributes.get("group", 1),
    )
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _pool(call: Call, pool: Callable[..., Any]) -> Any:
    """Run a pooling.

    Args:
        call: the call.
        pool: `(x, window, strides, padding, dilations, added) -> y` with these for all axes, batch and channels included;
            `added` are the zeros that `ceil_mode` adds after `padding`, so that the last window fits.
    """
    x, kernel = jnp.asarray(call.inputs[0]), call.attributes["kernel_shape"]
    if call.outputs > 1:
        raise UnsupportedError("its second output is used, the indices of the largest elements")
    rank = x.ndim - 2
    padding, strides, added = _padding(call, x.shape[2:], kernel), _strides(call, rank), []
    for size, window, stride, (low, high) in zip(x.shape[2:], _dilated(call, kernel), strides, padding, strict=True):
        # With `ceil_mode` the last window may reach over the end, by as much as the stride leaves over.
        rest = (size + low + high - window) % stride if call.attributes.get("ceil_mode", 0) else 0
        last_start = size + low + high - window - rest + stride
        # A window that would begin in the padding on the right is left out.
        added.append(stride - rest if rest and last_start < size + low else 0)
    whole = [(0, 0)] * 2
    return pool(x, (1, 1, *kernel), (1, 1, *strides), [*whole, *padding], (1, 1, *_dilations(call, rank)), [0, 0, *added])


def _largest(x: Any, window: Any, strides: Any, padding: Any, dilations: Any, added: Any) -> Any:
    padding = [(low, high + more) for (low, high), more in zip(padding, added, strict=True)]
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return lax.reduce_window(x, np.asarray(lowest, x.dtype), lax.max, window, strides, padding, window_dilation=dilations)


def _average(count_padding: bool) -> Callable[..., Any]:
    def pool(x: Any, window: Any, strides: Any, padding: Any, dilations: Any, added: Any) -> Any:
        zero = np.zeros((), x.dtype)
        # A window's sum is divided by the number of its entries. Zeros of the padding count only with `count_include_pad`, and
        # those that `ceil_mode` adds never do.
        padded = jnp.pad(x, [(low, high + more) for (low, high), more in zip(padding, added, strict=True)])
        counted = [(0, more) if count_padding else (low, high + more) for (low, high), more in zip(padding, added, strict=True)]
        sizes = [size + (low + high) * count_padding for size, (low, high) in zip(x.shape, padding, strict=True)]
        ones = np.pad(np.ones([1, 1, *sizes[2:]], x.dtype), counted)
        sums, counts = (
            lax.reduce_window(array, zero, lax.add, window, strides, "VALID", window_dilation=dilations)
            for array in (padded, ones)
        )
        return sums / counts

    return pool


def _average_pool(call: Call) -> Any:
    return _pool(call, _average(bool(call.attributes.get("count_include_pad", 0))))


def _global_pool(name: str) -> Operator:
    def run(call: Call) -> Any:
        x = jnp.asarray(call.inputs[0])
        return getattr(jnp, name)(x, axis=tuple(range(2, x.ndim)), keepdims=True)

    return Operator(run)


def _of_channels(array: Any, x: Any) -> Any:
    """Return one number for each channel in a shape that broadcasts against x (batch, channels, *sizes)."""
    return array.reshape(-1, *[1] * (x.ndim - 2))


def _batch_normalization(call: Call) -> Any:
    if call.attributes.get("training_mode", 0) or call.attributes.get("spatial", 1) != 1:
        raise UnsupportedError("it is in training mode, or normalizes each position alone: export the model in evaluation mode")
    x = jnp.asarray(call.inputs[0])
    scale, bias, mean, variance = (_of_channels(array, x) for array in call.inputs[1:])
    return (x - mean) * lax.rsqrt(variance + call.attributes.get("epsilon", 1e-5)) * scale + bias


def _normalized(x: Any, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any, Any]:
    """Return x with mean 0 and variance 1 along the axes, the mean, and the inverse of the standard deviation."""
    # In float32 at least, as `stash_type` asks for: squares of 16 bits would overflow.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(axes, keepdims=True)
    inverse = lax.rsqrt(((wide - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    return ((wide - mean) * inverse).astype(x.dtype), mean, inverse


def _layer_normalization(call: Call) -> Any:
    x, bias = jnp.asarray(call.inputs[0]), call.optional(2)
    axes = tuple(range(call.attributes.get("axis", -1) % x.ndim, x.ndim))
    y, mean, inverse = _normalized(x, axes, call.attributes.get("epsilon", 1e-5))
    y = y * call.inputs[1]
    return [y if bias is None else y + bias, mean, inverse][: call.outputs]


def _instance_normalization(call: Call) -> Any:
    x = jnp.asarray(call.inputs[0])
    y = _normalized(x, tuple(range(2, x.ndim)), call.attributes.get("epsilon", 1e-5))[0]
    return y * _of_channels(call.inputs[1], x) + _of_channels(call.inputs[2], x)


def _group_normalization(call: Call) -> Any:
    x, groups = jnp.asarray(call.inputs[0]), call.attributes["num_groups"]
    grouped = x.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    y = _normalized(grouped, (2,), call.attributes.get("epsilon", 1e-5))[0].reshape(x.shape)
    if len(call.inputs[1]) != x.shape[1]:
        raise UnsupportedError("its scale is one number for each group, as before opset 21: convert the model to opset 21")
    return y * _of_channels(call.inputs[1], x) + _of_channels(call.inputs[2], x)


OPERATORS = {
    "MatMul": Operator(lambda call: call.xp.matmul(*call.inputs)),
    "Gemm": Operator(_gemm, ("alpha", "beta", "transA", "transB")),
    "Einsum": Operator(_einsum, ("equation",)),
    "Conv": Operator(_conv, (*_WINDOW, "group")),
    "MaxPool": Operator(lambda call: _pool(call, _largest), (*_WINDOW, "ceil_mode")),
    "AveragePool": Operator(_average_pool, (*_WINDOW, "ceil_mode", "count_include_pad")),
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "BatchNormalization": Operator(_batch_normalization, ("epsilon", "momentum", "training_mode", "spatial")),
    "LayerNormalization": Operator(_layer_normalization, ("axis", "epsilon", "stash_type")),
    "InstanceNormalization": Operator(_instance_normalization, ("epsilon",)),
    "GroupNormalization": Operator(_group_normalization, ("num_groups", "epsilon", "stash_type")),
}
