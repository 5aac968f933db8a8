"""The rule of `vmap` for the primitives: the mapped axis becomes a part of the batch axis."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.backends.cpu.operands import Axes


def fold(
    bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes, of_operands: Axes, of_results: Axes
) -> tuple[Sequence[Array], Axes]:
    """Call `bind` once, with the mapped axis merged into the batch axis.

    If an operand without a batch axis (weights) is mapped, or a result has none (a sum over the batch), this calls `bind` once
    for each index of the mapped axis instead.

    Args:
        bind: the function that is mapped.
        operands: its operands.
        axes: the mapped axis of each operand, None if it is not mapped.
        of_operands: the batch axis of each operand, None if it has none.
        of_results: the batch axis of each result, None if it has none.

    Returns:
        The results, and the mapped axis of each of them.
    """
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    if (
        size == 0
        or None in of_results
        or any(at is None and axis is not None for at, axis in zip(of_operands, axes, strict=True))
    ):
        return _one_by_one(bind, operands, axes)
    out = bind(*(_into(x, axis, at, size) for x, axis, at in zip(operands, axes, of_operands, strict=True)))
    return [_out_of(x, at, size) for x, at in zip(out, of_results, strict=True)], of_results


def _one_by_one(bind: Callable[..., Sequence[Array]], operands: Sequence[Array], axes: Axes) -> tuple[Sequence[Array], Axes]:
    mapped = [jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None]

    def one(mapped: Sequence[Array]) -> Sequence[Array]:
        slices = iter(mapped)
        return bind(*(x if axis is None else next(slices) for x, axis in zip(operands, axes, strict=True)))

    out = jax.lax.map(one, mapped)
    return out, (0,) * len(out)


def _into(x: Array, axis: int | None, at: int | None, size: int) -> Array:
    if at is None or not any(x.shape):  # an operand without batch axis, or an absent one, of shape (0, 0)
        return x
    if axis is None:
        x = jnp.broadcast_to(jnp.expand_dims(x, at), (*x.shape[:at], size, *x.shape[at:]))
    else:
        x = jnp.moveaxis(x, axis, at)
    return x.reshape(*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])


def _out_of(x: Array, at: int | None, size: int) -> Array:
    return x if at is None else x.reshape(*x.shape[:at], size, x.shape[at] // size, *x.shape[at + 1 :])
