"""The rule of `vmap` for the primitives: the mapped axis becomes a part of the batch axis."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.native.operands import Axes


def fold(
    bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes, operand_axes: Axes, result_axes: Axes
) -> tuple[Sequence[Array], Axes]:
    """Call `bind` once, with the mapped axis merged into the batch axis.

    If an operand without a batch axis is mapped (weights), or a result has no batch axis (the gradient of the weights, a sum over
    the batch), `bind` is called once for each index of the mapped axis instead.

    Args:
        bind: binds the primitive that is mapped.
        operands: the operands of the primitive, with the mapped axes.
        axes: the mapped axis of each operand, None if it is not mapped.
        operand_axes: the batch axis of each operand, None if it has none.
        result_axes: the batch axis of each result, None if it has none.

    Returns:
        The results, and the mapped axis of each of them.
    """
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    if (
        size == 0  # `_split_axis` would divide by it
        or None in result_axes
        or any(batch_axis is None and axis is not None for batch_axis, axis in zip(operand_axes, axes, strict=True))
    ):
        return _map_slices(bind, operands, axes)
    out = bind(
        *(_merge_axis(x, axis, batch_axis, size) for x, axis, batch_axis in zip(operands, axes, operand_axes, strict=True))
    )
    return [_split_axis(x, batch_axis, size) for x, batch_axis in zip(out, result_axes, strict=True)], result_axes


def _map_slices(bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes) -> tuple[Sequence[Array], Axes]:
    mapped = [jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None]

    def call_slice(mapped: Sequence[Array]) -> Sequence[Array]:
        slices = iter(mapped)
        return bind(*(x if axis is None else next(slices) for x, axis in zip(operands, axes, strict=True)))

    out = jax.lax.map(call_slice, mapped)
    return out, (0,) * len(out)


def _merge_axis(x: Array, axis: int | None, batch_axis: int | None, size: int) -> Array:
    """Move the mapped axis in front of the batch axis and merge both."""
    if batch_axis is None or not any(x.shape):  # weights, or a mask or resets of shape (0, 0), which means none
        return x
    if axis is None:  # not mapped: the same for every index
        x = jnp.broadcast_to(jnp.expand_dims(x, batch_axis), (*x.shape[:batch_axis], size, *x.shape[batch_axis:]))
    else:
        x = jnp.moveaxis(x, axis, batch_axis)
    return x.reshape(*x.shape[:batch_axis], x.shape[batch_axis] * x.shape[batch_axis + 1], *x.shape[batch_axis + 2 :])


def _split_axis(x: Array, batch_axis: int | None, size: int) -> Array:
    """Undo `_merge_axis`: split the batch axis of a result into the mapped axis, which comes first, and the batch axis."""
    return (
        x
        if batch_axis is None
        else x.reshape(*x.shape[:batch_axis], size, x.shape[batch_axis] // size, *x.shape[batch_axis + 1 :])
    )
